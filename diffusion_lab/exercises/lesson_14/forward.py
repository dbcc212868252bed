"""Exhibits 1 to 3, on the way into noise: two schedules and one step."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_core.schedules import NoiseSchedule, linear_schedule, vp_schedule

from ...museum import exhibits, mended
from ..exercise import Exercise

DTYPES = (torch.float64, torch.float32)
FIRST, LAST = 1e-4, 0.02  # DDPM's betas at both ends, for 1000 steps


def _from_to(first: Callable[[int], float], last: Callable[[int], float]) -> Callable:
    """Return straight betas with other ends."""
    return lambda T: torch.linspace(first(T), last(T), T, dtype=torch.float64)


def _lengths(generator: torch.Generator) -> list[tuple]:
    some = torch.randint(60, 900, (2,), generator=generator).tolist()
    return [(25,), (50,), *((T,) for T in some), (1000,)]


def _short_lengths(generator: torch.Generator) -> list[tuple]:
    return [(5,), *_lengths(generator)]


def steps(generator: torch.Generator) -> list[tuple]:
    """Return (schedule, x, t, z): few steps, so that rows differ; B = D in one."""
    cases = []
    for dtype in DTYPES:
        T = int(torch.randint(5, 15, (1,), generator=generator))
        inner = int(torch.randint(3, T, (1,), generator=generator))
        for t, size in ((1, 4), (2, 3), (inner, 2), (inner, 1), (T, 4)):
            x, z = torch.randn(2, size, 2, generator=generator, dtype=dtype)
            cases.append((vp_schedule(T), x, t, z))
    return cases


def _mixed(kept: Callable, added: Callable) -> Callable:
    """Return a step with other factors of x_{t-1} and z, functions of schedule and t."""
    return lambda s, x_prev, t, z: kept(s, t) * x_prev + added(s, t) * z


def _root_alpha(s: NoiseSchedule, t: int) -> Tensor:
    return s.alphas[t].sqrt()


EXERCISES = {
    "14.1": Exercise(
        truth=mended.straight_betas,
        cases=_lengths,
        mistakes={
            "This is the exhibit itself: its betas have the size that fits 1000 steps, whatever T "
            "is.": exhibits.straight_betas,
            "Only the last beta is rescaled. The first needs the same factor.": _from_to(
                lambda T: FIRST, lambda T: LAST * 1000 / T
            ),
            "Only the first beta is rescaled. The last, which does most of the work, is not.": (
                _from_to(lambda T: FIRST * 1000 / T, lambda T: LAST)
            ),
            "The factor is upside down: fewer steps need larger betas.": _from_to(
                lambda T: FIRST * T / 1000, lambda T: LAST * T / 1000
            ),
            "The factor has a root too many: betas are variances, and variances add up.": _from_to(
                lambda T: FIRST * (1000 / T) ** 0.5, lambda T: LAST * (1000 / T) ** 0.5
            ),
            "These are the betas of vp_schedule: a good schedule, but not evenly spaced betas.": (
                lambda T: vp_schedule(T).betas[1:]
            ),
            "That is a table with its row 0: T + 1 numbers. Asked for are the T betas alone.": (
                lambda T: linear_schedule(T, FIRST * 1000 / T, LAST * 1000 / T).betas
            ),
        },
        hints=(
            "How much noise is added in all? The sum of the betas should not depend on T.",
            "50 steps are 20 times fewer than 1000. So each beta should be 20 times larger.",
            "Both ends get the same factor. Which is it for T = 50, and which for any T?",
        ),
    ),
    "14.2": Exercise(
        truth=mended.curved_betas,
        cases=_short_lengths,
        mistakes={
            "This is the exhibit itself: it squares evenly spaced betas, not their roots.": (
                exhibits.curved_betas
            ),
            "The ends are right, but between them the betas are squares of nothing evenly spaced. "
            "Space the roots evenly.": lambda T: (
                FIRST + (LAST - FIRST) * torch.linspace(0, 1, T, dtype=torch.float64) ** 2
            ),
            "These betas are evenly spaced themselves. Their roots should be.": _from_to(
                lambda T: FIRST, lambda T: LAST
            ),
            "These are the roots. Square them.": _from_to(
                lambda T: FIRST**0.5, lambda T: LAST**0.5
            ),
            "These are roots of evenly spaced betas. It is the other way round: evenly spaced "
            "roots, squared.": lambda T: exhibits.straight_betas(T).sqrt(),
            "The order is reversed: beta_1 is the smallest.": lambda T: mended.curved_betas(T).flip(
                0
            ),
            "The last beta is right. The first end was squared, with no root before.": lambda T: (
                torch.linspace(FIRST, LAST**0.5, T, dtype=torch.float64) ** 2
            ),
            "The ends are right, but the squares of these betas are evenly spaced.": lambda T: (
                torch.linspace(FIRST**2, LAST**2, T, dtype=torch.float64).sqrt()
            ),
        },
        hints=(
            "What are the two ends after squaring? And what should they be before it?",
            "The square should end at 1e-4 and 0.02, so what is squared ends at their roots.",
            "Space evenly between those two roots, and then square.",
        ),
    ),
    "14.3": Exercise(
        truth=mended.noisier,
        cases=steps,
        mistakes={
            "This is the exhibit itself: beta_t is a variance, and here it multiplies the noise.": (
                exhibits.noisier
            ),
            "The noise is right now, but x_{t-1} has lost the root of its factor.": _mixed(
                lambda s, t: s.alphas[t], lambda s, t: s.betas[t].sqrt()
            ),
            "No root is left at all.": _mixed(lambda s, t: s.alphas[t], lambda s, t: s.betas[t]),
            "This is the jump from x_0, with alpha_bar_t. One step is asked.": _mixed(
                lambda s, t: s.alpha_bars[t].sqrt(), lambda s, t: s.marginal_vars[t].sqrt()
            ),
            "The step shrinks by alpha_t, but its noise is that of all t steps.": _mixed(
                _root_alpha, lambda s, t: s.marginal_vars[t].sqrt()
            ),
            "The noise is read from the row before: row t belongs to step t.": _mixed(
                _root_alpha, lambda s, t: s.betas[t - 1].sqrt()
            ),
            "x_{t-1} is not shrunk, so the variance grows with every step.": _mixed(
                lambda s, t: 1, lambda s, t: s.betas[t].sqrt()
            ),
            "The noise is that of one step, but x_{t-1} shrinks as x_0 does in t steps.": _mixed(
                lambda s, t: s.alpha_bars[t].sqrt(), lambda s, t: s.betas[t].sqrt()
            ),
        },
        hints=(
            "What is the variance of c z, where z has variance 1? And what should it be?",
            "c z has variance c squared, and the step should add the variance beta_t.",
            "Which number has beta_t as its square? The factor of x_prev shows the pattern.",
        ),
    ),
}
