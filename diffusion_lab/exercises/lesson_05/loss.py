"""Exercises 05.1 and 05.3: the loss of Algorithm 1, and how low it can go."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_core import mixtures, process, schedules

from ..exercise import Exercise
from .guess import DTYPES, Guess, draw_guess, with_schedule


def _loss_by_package(
    schedule: schedules.NoiseSchedule, model: Guess, x0: Tensor, t: Tensor, eps: Tensor
) -> Tensor:
    return (model(process.q_sample(schedule, x0, t, eps), t) - eps).square().mean()


def _loss(
    *,
    signal: Callable = torch.sqrt,
    noise: Callable = lambda a: (1 - a).sqrt(),
    row: Callable = lambda s, t: s.alpha_bars[t],
    shown: Callable = lambda x_t, x0: x_t,
    asked: Callable = lambda t: t,
    error: Callable = lambda eps, x0, given: (eps - given).square().mean(),
) -> Callable:
    """Algorithm 1's loss with other factors, row, question or error."""

    def loss(schedule, model, x0, t, eps):
        a = row(schedule, t).to(x0)[:, None]
        x_t = signal(a) * x0 + noise(a) * eps
        return error(eps, x0, model(shown(x_t, x0), asked(t)))

    return loss


def _along_the_rows(schedule, model, x0, t, eps):
    """alpha_bar_t broadcast along the rows; where shapes do not fit, it stops."""
    a = schedule.alpha_bars[t].to(x0)
    return (eps - model(a.sqrt() * x0 + (1 - a).sqrt() * eps, t)).square().mean()


def _batches(generator: torch.Generator) -> list[tuple]:
    """B = D among them; t reaches 1 and T."""
    cases = []
    for dtype in DTYPES:
        for T, size, dim in ((9, 5, 2), (6, 3, 3), (8, 1, 4)):
            x0, eps = torch.randn(2, size, dim, generator=generator, dtype=dtype)
            t = torch.randint(2, T, (size,), generator=generator)
            t[:2] = torch.tensor([1, T])[: min(size, 2)] if size > 1 else t
            cases.append((T, draw_guess(dim, dtype, generator), 2 * x0 + 1, t, eps))
    return cases


def _lowest_loss() -> float:
    """E(eps - c x_t)^2 for the package's best guess c x_t, with eps and x_0 independent."""
    schedule = schedules.schedule_from_alpha_bars(torch.tensor([0.36], dtype=torch.float64))
    one = torch.ones(1, 1, dtype=torch.float64)
    data = mixtures.mixture(0 * one, 1.0)
    c = mixtures.mixture_eps_model(schedule, data)(one, 1)
    factor, var = process.q_marginal(schedule, one, 1)
    return ((1 - c * var.sqrt()) ** 2 + (c * factor) ** 2).item()


LOSS = {
    "05.1": Exercise(
        truth=_loss_by_package,
        cases=_batches,
        use=with_schedule,
        mistakes={
            "The model was shown the clean data. It sees x_t, with the noise in it.": _loss(
                shown=lambda x_t, x0: x0
            ),
            "Both roots are missing in x_t: alpha_bar_t is a share of the variance.": _loss(
                signal=lambda a: a, noise=lambda a: 1 - a
            ),
            "The root is missing at the noise: its variance in x_t is 1 - alpha_bar_t.": _loss(
                noise=lambda a: 1 - a
            ),
            "The root is missing at the data in x_t.": _loss(signal=lambda a: a),
            "The two factors are exchanged: at t = 1 x_t is nearly the data.": _loss(
                signal=lambda a: (1 - a).sqrt(), noise=torch.sqrt
            ),
            "Off by one: row t of alpha_bars belongs to step t, not row t - 1.": _loss(
                row=lambda s, t: s.alpha_bars[t - 1]
            ),
            "That takes one step only: all t steps at once keep alpha_bar_t, not alpha_t.": _loss(
                row=lambda s, t: s.alphas[t]
            ),
            "alpha_bar_t was broadcast along the rows: each example has its own. Give it the "
            "shape (B, 1).": _along_the_rows,
            "The model was asked at t - 1. x_t belongs to t.": _loss(asked=lambda t: t - 1),
            "The target is the data. Asked is the noise.": _loss(
                error=lambda eps, x0, given: (x0 - given).square().mean()
            ),
            "The answer was added to the noise. Take the difference.": _loss(
                error=lambda eps, x0, given: (eps + given).square().mean()
            ),
            "Squares were added over the coordinates. Take the mean over them, too.": _loss(
                error=lambda eps, x0, given: (eps - given).square().sum(1).mean()
            ),
            "Squares were added over all examples. Take their mean.": _loss(
                error=lambda eps, x0, given: (eps - given).square().sum()
            ),
            "That is the mean of the sizes of the errors. Asked is that of their squares.": _loss(
                error=lambda eps, x0, given: (eps - given).abs().mean()
            ),
            "That is the root of the mean square. Leave the root out.": _loss(
                error=lambda eps, x0, given: (eps - given).square().mean().sqrt()
            ),
        },
        hints=(
            "Three lines: a row for each example, x_t, and the mean square of what the answer "
            "misses.",
            "schedule.alpha_bars[t] has shape (B,), and x0 has (B, D): .to(x0) casts the row, and "
            "[:, None] makes it (B, 1).",
            "x_t has the factor sqrt(alpha_bar_t) at x0, and sqrt(1 - alpha_bar_t) at eps. What "
            "does model(x_t, t) have to come near?",
        ),
    ),
}

LOWEST = {
    "05.3": Exercise(
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
            "Section 2: knowing b lowers the variance of a by Cov(a, b)² / Var(b).",
            "x_0 is independent of eps, so Cov(eps, x_t) is the factor of eps in x_t.",
        ),
    ),
}
