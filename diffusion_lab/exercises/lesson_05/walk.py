"""Exercise 05.2: Algorithm 2."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_core import predictions, process, schedules

from ..exercise import Exercise
from .guess import DTYPES, Guess, draw_guess, with_schedule


@torch.no_grad()
def _walk_by_package(
    schedule: schedules.NoiseSchedule, model: Guess, x_T: Tensor, noises: Tensor
) -> Tensor:
    """By the posterior with x0_hat in it, not by (11)."""
    x = x_T
    for t in range(schedule.T, 0, -1):
        x0_hat = predictions.x0_from_eps(schedule, x, model(x, torch.full((len(x),), t)), t)
        step = process.p_step(schedule, x, x0_hat, t, variances=schedule.betas)
        x = step.mean + step.var.sqrt() * noises[t] if t > 1 else x0_hat
    return x


def _walk(
    *,
    times: Callable = lambda T: range(T, 0, -1),
    of_eps: Callable = lambda s, t: s.betas[t] / (1 - s.alpha_bars[t]).sqrt(),
    kept: Callable = lambda s, t: s.alphas[t].sqrt(),
    std: Callable = lambda s, t: s.betas[t].sqrt(),
    row: Callable = lambda t: t,
    drawn: Callable = lambda t: t,
    asked: Callable = lambda t, T: t,
    last: int = 1,
    where: Callable = lambda x, x_T: x,
) -> Callable:
    """Algorithm 2 with other times, factors, rows or questions."""

    def walk(schedule, model, x_T, noises):
        x = x_T
        for t in times(schedule.T):
            u = row(t)
            eps_hat = model(where(x, x_T), torch.full((len(x),), asked(t, schedule.T)))
            x = (x - of_eps(schedule, u) * eps_hat) / kept(schedule, u)
            if t > last:
                x = x + std(schedule, u) * noises[drawn(t)]
        return x

    return walk


def _noises(generator: torch.Generator) -> list[tuple]:
    cases = []
    for dtype in DTYPES:
        for T, size, dim in ((5, 4, 2), (3, 3, 3), (8, 1, 2)):
            x_T = torch.randn(size, dim, generator=generator, dtype=dtype)
            noises = torch.randn(T + 1, size, dim, generator=generator, dtype=dtype)
            cases.append((T, draw_guess(dim, dtype, generator), x_T, noises))
    return cases


EXERCISES = {
    "05.2": Exercise(
        truth=_walk_by_package,
        cases=_noises,
        use=with_schedule,
        mistakes={
            "z is multiplied by beta_t, a variance. What is its standard deviation?": _walk(
                std=lambda s, t: s.betas[t]
            ),
            "Noise is added at t = 1, too. Look at (20) once more.": _walk(last=0),
            "No noise is added at t = 2 either. Only t = 1 is the last step.": _walk(last=2),
            "No noise is added at all: that is a walk of the means.": _walk(last=10_000),
            "That is the other choice, the posterior's variance. Asked is beta_t.": _walk(
                std=lambda s, t: s.posterior_vars[t].sqrt()
            ),
            "The last step, from t = 1 to clean data, is missing.": _walk(
                times=lambda T: range(T, 1, -1)
            ),
            "The first step, from t = T, is missing.": _walk(times=lambda T: range(T - 1, 0, -1)),
            "You went from 1 up to T. Sampling begins with the noise, at T.": _walk(
                times=lambda T: range(1, T + 1)
            ),
            "Off by one: row t of each table belongs to step t, so take t, not t - 1.": _walk(
                row=lambda t: t - 1
            ),
            "noises[t] is the z of step t; you took noises[t - 1].": _walk(drawn=lambda t: t - 1),
            "The model was asked at T in each step. Ask at t.": _walk(asked=lambda t, T: T),
            "The model was asked at t - 1: the state is still at t.": _walk(
                asked=lambda t, T: t - 1
            ),
            "The model saw x_T in each step. Show it where the last step led.": _walk(
                where=lambda x, x_T: x_T
            ),
            "The root of 1 - alpha_bar_t is missing below beta_t.": _walk(
                of_eps=lambda s, t: s.betas[t] / (1 - s.alpha_bars[t])
            ),
            "You used 1 - alpha_t where (11) has 1 - alpha_bar_t.": _walk(
                of_eps=lambda s, t: s.betas[t].sqrt()
            ),
            "You divided by the root of alpha_bar_t, all the way back. One step is undone here: "
            "alpha_t.": _walk(kept=lambda s, t: s.alpha_bars[t].sqrt()),
            "You divided by alpha_t. Formula (11) has its root.": _walk(
                kept=lambda s, t: s.alphas[t]
            ),
            "The factor 1 / sqrt(alpha_t) is missing.": _walk(kept=lambda s, t: 1),
            "The noise is added once more in the mean. Take it away.": _walk(
                of_eps=lambda s, t: -s.betas[t] / (1 - s.alpha_bars[t]).sqrt()
            ),
        },
        hints=(
            "A loop over range(schedule.T, 0, -1). Each round: ask, take the mean (11), add noise.",
            "torch.full((len(x),), t) gives each row the same t. Formula (11) needs row t of "
            "betas, alphas and alpha_bars.",
            "In (11) alpha_t and 1 - alpha_bar_t stand under a root, beta_t does not. And a noise "
            "of variance v is sqrt(v) times z.",
        ),
    ),
}
