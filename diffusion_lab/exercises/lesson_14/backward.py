"""Exhibits 7 to 9, on the way back: three steps."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_core.gaussian import Gaussian
from diffusion_core.predictions import x0_from_eps
from diffusion_core.process import p_step
from diffusion_core.schedules import NoiseSchedule

from ...museum import exhibits, mended
from ..exercise import Exercise
from .forward import steps

DTYPES = (torch.float64, torch.float32)


def _with_eps(generator: torch.Generator) -> list[tuple]:
    """Return (schedule, x_t, eps_hat, t, z)."""
    cases = []
    for schedule, x_t, t, z in steps(generator):
        eps_hat = torch.randn(x_t.shape, generator=generator, dtype=x_t.dtype)
        cases.append((schedule, x_t, eps_hat, t, z))
    return cases


def _back(s: NoiseSchedule, x_t: Tensor, eps_hat: Tensor, t: int) -> Gaussian:
    """Return p(x_{t-1} | x_t) with the variance beta_t, at t = 1 too."""
    return p_step(s, x_t, x0_from_eps(s, x_t, eps_hat, t), t, variances=s.betas)


def _other_sigma(sigma: Callable[[NoiseSchedule, int], Tensor | float], first: int = 2) -> Callable:
    """Return a step with another sigma_t, and noise from t = first on."""
    return lambda s, x_t, eps_hat, t, z: (
        _back(s, x_t, eps_hat, t).mean + (sigma(s, t) if t >= first else 0) * z
    )


def _clip(x: Tensor) -> Tensor:
    return x.clamp(-1, 1)


def _same(x: Tensor) -> Tensor:
    return x


def _clipped(
    guess: Callable = _same,
    mean: Callable = _same,
    state: Callable = _same,
    eps: Callable = _same,
    sigma: Callable = lambda s, p, t: p.var.sqrt(),
) -> Callable:
    """Return a step that changes the guess, the mean, the new state, eps_hat or sigma."""

    def step(s: NoiseSchedule, x_t: Tensor, eps_hat: Tensor, t: int, z: Tensor) -> Tensor:
        p = p_step(s, x_t, guess(x0_from_eps(s, x_t, eps(eps_hat), t)), t)
        return state(mean(p.mean) + sigma(s, p, t) * z)

    return step


def _clipped_last(s: NoiseSchedule, x_t: Tensor, eps_hat: Tensor, t: int, z: Tensor) -> Tensor:
    x = _clipped()(s, x_t, eps_hat, t, z)
    return _clip(x) if t == 1 else x


def _strides(generator: torch.Generator) -> list[tuple]:
    """Return (x_t, eps_hat, alpha_bar_t, alpha_bar_s, z): also strides to clean data."""
    cases = []
    for dtype in DTYPES:
        for clean in (False, False, True):
            x_t, eps_hat, z = torch.randn(3, 3, 2, generator=generator, dtype=dtype)
            high, share = (0.2 + 0.6 * torch.rand(2, generator=generator)).tolist()
            keep = 1.0 if clean else high
            cases.append((x_t, eps_hat, keep * share, keep, z))
    return cases


def _posterior_var(a: float, b: float) -> float:
    return (1 - b) / (1 - a) * (1 - a / b)


def _noised(
    var: Callable,
    power: float = 0.5,
    left: Callable = lambda noise, var: max(noise - var, 0) ** 0.5,
) -> Callable:
    """Return a DDIM step with another variance, or with more `left` for the direction to x_t."""

    def step(x_t: Tensor, eps_hat: Tensor, a: float, b: float, z: Tensor) -> Tensor:
        x0_hat = (x_t - (1 - a) ** 0.5 * eps_hat) / a**0.5
        return b**0.5 * x0_hat + left(1 - b, var(a, b)) * eps_hat + var(a, b) ** power * z

    return step


EXERCISES = {
    "14.7": Exercise(
        truth=mended.step_back,
        cases=_with_eps,
        mistakes={
            "This is the exhibit itself: sigma is read from row t - 1, and step t has row t.": (
                exhibits.step_back
            ),
            "That is a variance in the place of sigma: the root is missing.": _other_sigma(
                lambda s, t: s.betas[t]
            ),
            "This is the posterior's variance, the other usual choice. Asked for is beta_t.": (
                _other_sigma(lambda s, t: s.posterior_vars[t].sqrt())
            ),
            "Row t is read now, but the step from t = 1 adds noise to clean data.": _other_sigma(
                lambda s, t: s.betas[t].sqrt(), first=1
            ),
            "No noise is added at t = 2 either. Only t = 1 is the last step.": _other_sigma(
                lambda s, t: s.betas[t].sqrt(), first=3
            ),
            "There is no noise at all: these are the means of the steps.": _other_sigma(
                lambda s, t: 0.0
            ),
            "That is the noise of all t steps. One step adds beta_t.": _other_sigma(
                lambda s, t: s.marginal_vars[t].sqrt()
            ),
        },
        hints=(
            "The samples have too little variance. Which line decides on the noise?",
            "Row t of every table belongs to step t. Which row does sigma come from?",
            "The other three tables are read at t. One is not; nothing else changes.",
        ),
    ),
    "14.8": Exercise(
        truth=mended.careful_step,
        cases=_with_eps,
        mistakes={
            "This is the exhibit itself: what it clips is a noisy state, and noise goes beyond "
            "the data's range.": exhibits.careful_step,
            "Nothing is clipped. A guess of clean data outside [-1, 1] can only be wrong.": (
                _clipped()
            ),
            "The guess is clipped now, but the state still is, too.": _clipped(_clip, state=_clip),
            "Only the last state is clipped. Clip the guess, in every step.": _clipped_last,
            "The mean of the step is clipped. Clip the guess, before the mean is made of it.": (
                _clipped(mean=_clip)
            ),
            "The noise estimate is clipped. It is x0_hat that has a known range.": (
                _clipped(eps=_clip)
            ),
            "That is the range [0, 1]. The data lies in [-1, 1].": (
                _clipped(lambda x0_hat: x0_hat.clamp(0, 1))
            ),
            "The guess is clipped, as it ought to be. But the variance is exercise 7's, beta_t.": (
                _clipped(_clip, sigma=lambda s, p, t: s.betas[t].sqrt() * (t > 1))
            ),
            "The guess is clipped, as it ought to be. But the variance is beta_t, so the step "
            "from t = 1 adds noise.": _clipped(_clip, sigma=lambda s, p, t: s.betas[t].sqrt()),
            "The guess is clipped, as it ought to be. But var has lost its root.": (
                _clipped(_clip, sigma=lambda s, p, t: p.var)
            ),
        },
        hints=(
            "Which of x0_hat, the mean and x_{t-1} is known to lie in [-1, 1]?",
            "Data lies in the range, and x0_hat is a guess of data. Noisy states are wider.",
            "The clamp moves up by two lines, to the only thing that lies in the range.",
        ),
    ),
    "14.9": Exercise(
        truth=mended.long_step,
        cases=_strides,
        mistakes={
            "This is the exhibit itself: its variance is larger than all the noise that x_s should "
            "hold, and the clamp hides it.": exhibits.long_step,
            "All the noise of x_s is fresh: (1 - alpha_bar_s) needs its two other factors.": (
                _noised(lambda a, b: 1 - b)
            ),
            "This is the variance of the stride forward. The posterior's is smaller, by the "
            "factor (1 - alpha_bar_s) / (1 - alpha_bar_t).": _noised(lambda a, b: 1 - a / b),
            "That is the factor (1 - alpha_bar_s) / (1 - alpha_bar_t) alone. The stride's beta, "
            "1 - alpha_bar_t / alpha_bar_s, is missing.": _noised(lambda a, b: (1 - b) / (1 - a)),
            "alpha_bar_t / alpha_bar_s is what the stride keeps. Its beta is 1 minus that.": (
                _noised(lambda a, b: (1 - b) / (1 - a) * a / b)
            ),
            "The variance is right, but the direction to x_t does not make room for it.": (
                _noised(_posterior_var, left=lambda noise, var: noise**0.5)
            ),
            "The variance is right, but for the direction you subtracted stds. Variances add up.": (
                _noised(_posterior_var, left=lambda noise, var: noise**0.5 - var**0.5)
            ),
            "The stride's beta is no difference of the alpha_bars: a ratio says what it keeps.": (
                _noised(lambda a, b: (1 - b) / (1 - a) * (b - a))
            ),
            "No fresh noise is added: that is eta = 0.": _noised(lambda a, b: 0.0),
            "A root is missing: z is multiplied by the variance.": _noised(_posterior_var, power=1),
        },
        hints=(
            "Print 1 - alpha_bar_s - var for some t and s. What does max(.., 0) hide?",
            "In (8) of lesson 03, put s for t - 1, and for alpha_t what the stride keeps.",
            "The stride keeps alpha_bar_t / alpha_bar_s. So its beta is 1 minus that.",
        ),
    ),
}
