"""Lesson 05: the estimate of x_0, the mean and the noise of a step back, the lowest loss."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_core import mixtures, predictions, process, schedules

from .exercise import Exercise, draw_alpha_bars

DTYPES = (torch.float64, torch.float32)
SCHEDULE = schedules.vp_schedule(200)  # that of the lesson


def _guess_x0(x_t: Tensor, eps_hat: Tensor, alpha_bar_t: Tensor) -> Tensor:
    schedule = schedules.schedule_from_alpha_bars(alpha_bar_t)
    return predictions.x0_from_eps(schedule, x_t, eps_hat, torch.arange(1, len(x_t) + 1))


def _guesses(generator: torch.Generator) -> list[tuple]:
    cases = []
    for dtype in DTYPES:
        for size in (3, 2, 1, 6):
            x_t, eps_hat = torch.randn(2, size, 2, generator=generator, dtype=dtype)
            cases.append((x_t, eps_hat, draw_alpha_bars(size, generator, dtype)))
    return cases


def _step_mean(x_t: Tensor, eps_hat: Tensor, t: int) -> Tensor:
    x0_hat = predictions.x0_from_eps(SCHEDULE, x_t, eps_hat, t)
    return process.p_step(SCHEDULE, x_t, x0_hat, t).mean


def _steps(generator: torch.Generator) -> list[tuple]:
    cases = []
    for dtype, size in zip(DTYPES, (4, 2), strict=True):
        x_t, eps_hat = torch.randn(2, size, 2, generator=generator, dtype=dtype)
        between = torch.randint(3, 200, (1,), generator=generator).item()
        cases += [(x_t, eps_hat, t) for t in (1, 2, between, 200)]
    return cases


def _added_noise(z: Tensor, t: int) -> Tensor:
    step = process.p_step(SCHEDULE, z, z, t, variances=SCHEDULE.betas)
    return step.var.sqrt() * z if t > 1 else torch.zeros_like(z)


def _noises(generator: torch.Generator) -> list[tuple]:
    return [(x_t, t) for x_t, _, t in _steps(generator)]


def _lowest_loss() -> float:
    """E(eps - c x_t)^2 for the package's best guess c x_t, with eps and x_0 independent."""
    schedule = schedules.schedule_from_alpha_bars(torch.tensor([0.36], dtype=torch.float64))
    one = torch.ones(1, 1, dtype=torch.float64)
    data = mixtures.mixture(0 * one, 1.0)
    c = mixtures.mixture_eps_model(schedule, data)(one, 1)
    factor, var = process.q_marginal(schedule, one, 1)
    return ((1 - c * var.sqrt()) ** 2 + (c * factor) ** 2).item()


BETAS, ALPHAS, ALPHA_BARS = SCHEDULE.betas, SCHEDULE.alphas, SCHEDULE.alpha_bars


def _guess(noise: Callable, signal: Callable) -> Callable:
    """An estimate with other factors of eps and x_0, functions of a column of alpha_bar_t."""
    return lambda x_t, eps_hat, alpha_bar_t: (
        (x_t - noise(alpha_bar_t[:, None]) * eps_hat) / signal(alpha_bar_t[:, None])
    )


def _mean(
    noise: Callable = lambda t: BETAS[t] / (1 - ALPHA_BARS[t]).sqrt(),
    kept: Callable = lambda t: ALPHAS[t].sqrt(),
) -> Callable:
    """Formula (11) with other factors."""
    return lambda x_t, eps_hat, t: (x_t - noise(t) * eps_hat) / kept(t)


EXERCISES = {
    "05.1": Exercise(
        truth=_guess_x0,
        cases=_guesses,
        mistakes={
            "eps_hat is scaled by the variance 1 - alpha_bar_t. In x_t it has the root of that.": (
                _guess(lambda a: 1 - a, torch.sqrt)
            ),
            "You divided by alpha_bar_t. In x_t the factor of x_0 is its root.": (
                _guess(lambda a: (1 - a).sqrt(), lambda a: a)
            ),
            "Both roots are missing.": _guess(lambda a: 1 - a, lambda a: a),
            "The noise is taken away, but what is left is still shrunk: divide it by the factor "
            "of x_0.": _guess(lambda a: (1 - a).sqrt(), torch.ones_like),
            "eps_hat is not scaled. x_t holds sqrt(1 - alpha_bar_t) times the noise.": (
                _guess(torch.ones_like, torch.sqrt)
            ),
            "The noise is added once more. Take it away.": (
                _guess(lambda a: -(1 - a).sqrt(), torch.sqrt)
            ),
            "The factors go along the wrong axis: alpha_bar_t has one number for each example, so "
            "give it the shape (B, 1).": lambda x_t, eps_hat, alpha_bar_t: (
                (x_t - (1 - alpha_bar_t).sqrt() * eps_hat) / alpha_bar_t.sqrt()
            ),
        },
        hints=(
            "Write down how x_t is made of x_0 and eps, and solve for x_0.",
            "Take away the noise with its factor, then divide by the factor of x_0.",
            "With keep = alpha_bar_t[:, None]: (x_t - (1 - keep).sqrt() * eps_hat) / keep.sqrt().",
        ),
    ),
    "05.2": Exercise(
        truth=_step_mean,
        cases=_steps,
        mistakes={
            "The root of 1 - alpha_bar_t is missing below beta_t.": (
                _mean(lambda t: BETAS[t] / (1 - ALPHA_BARS[t]))
            ),
            "That is the root of beta_t, and (11) has beta_t itself.": (
                _mean(lambda t: (BETAS[t] / (1 - ALPHA_BARS[t])).sqrt())
            ),
            "You divided by the root of alpha_bar_t, as for x_0. One step is undone here: "
            "alpha_t.": _mean(kept=lambda t: ALPHA_BARS[t].sqrt()),
            "You divided by alpha_t. Formula (11) has its root.": _mean(kept=lambda t: ALPHAS[t]),
            "The factor 1 / sqrt(alpha_t) is missing.": _mean(kept=lambda t: 1),
            "This is the estimate of x_0, all the way back. One step is asked.": (
                lambda x_t, eps_hat, t: predictions.x0_from_eps(SCHEDULE, x_t, eps_hat, t)
            ),
            "You used 1 - alpha_t where (11) has 1 - alpha_bar_t.": _mean(
                lambda t: BETAS[t].sqrt()
            ),
            "Off by one: row t of each table belongs to step t, so take t, not t - 1.": (
                lambda x_t, eps_hat, t: _mean()(x_t, eps_hat, t - 1)
            ),
            "The noise is added once more. Take it away.": (
                lambda x_t, eps_hat, t: _mean()(x_t, -eps_hat, t)
            ),
        },
        hints=(
            "Formula (11) needs three numbers of row t: beta_t, alpha_t and alpha_bar_t.",
            "Which of them stand under a root? alpha_t and 1 - alpha_bar_t do, beta_t does not.",
            "Take beta_t / sqrt(1 - alpha_bar_t) times eps_hat from x_t; divide by sqrt(alpha_t).",
        ),
    ),
    "05.3": Exercise(
        truth=_added_noise,
        cases=_noises,
        mistakes={
            "Both mistakes are still there: beta_t is a variance, and the last step, which adds "
            "No noise, is t = 1.": lambda z, t: BETAS[t] * z,
            "One mistake is left: z is multiplied by the variance beta_t.": (
                lambda z, t: BETAS[t] * z if t > 1 else 0 * z
            ),
            "One mistake is left: the last step goes from t = 1 to clean data, and still adds "
            "noise.": lambda z, t: BETAS[t].sqrt() * z,
            "This is the other choice, the posterior's variance. The colleague uses beta_t.": (
                lambda z, t: SCHEDULE.posterior_vars[t].sqrt() * z
            ),
            "Off by one: the noise of step t has the variance beta_t, not beta_{t-1}.": (
                lambda z, t: BETAS[t - 1].sqrt() * z
            ),
            "The noise is left out at the wrong end: the last step is t = 1.": (
                lambda z, t: BETAS[t].sqrt() * z if t < 200 else 0 * z
            ),
            "No noise is added at t = 2 either. Only t = 1 is the last step.": (
                lambda z, t: BETAS[t].sqrt() * z if t > 2 else 0 * z
            ),
        },
        hints=(
            "Which values does t take in Algorithm 2? And what is the standard deviation of c z?",
            "The loop ends with t = 1, so t == 0 never happens. And c z has variance c².",
            "Return 0 * z where t == 1, and schedule.betas[t].sqrt() * z elsewhere.",
        ),
    ),
    "05.4": Exercise(
        truth=_lowest_loss,
        cases=lambda generator: [()],
        mistakes={
            "Not even the best guess is certain: many pairs (x_0, eps) give the same x_t.": (
                lambda: 0
            ),
            "This is the error of a guess that is always 0. x_t tells something about eps.": (
                lambda: 1
            ),
            "This is the variance of the best guess. What it does not explain is the error.": (
                lambda: 1 - 0.36
            ),
            "This is the factor of x_t in the best guess. Now compute the error of that guess.": (
                lambda: (1 - 0.36) ** 0.5
            ),
            "This is a standard deviation. Asked is the mean of the squared error.": (
                lambda: 0.36**0.5
            ),
        },
        hints=(
            "x_t and eps are jointly Gaussian. What is their covariance, and the variance of x_t?",
            "Section 3: knowing b lowers the variance of a by Cov(a, b)² / Var(b).",
            "Var(eps) = 1, Var(x_t) = 1, and Cov(eps, x_t)² = 1 - alpha_bar_t.",
        ),
    ),
}
