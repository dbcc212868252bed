"""Lesson 03: the posterior's mean, a longer jump, and E[x_0 | x_t] for a list of points."""

from collections.abc import Callable

import torch
from torch import Tensor

import diffusion_core as dc
from diffusion_core.mixtures import component_log_probs
from diffusion_core.process import q_posterior
from diffusion_core.schedules import NoiseSchedule, schedule_from_alpha_bars, vp_schedule

from .exercise import Exercise

DTYPES = (torch.float64, torch.float32)
ALMOST_NOISE = 1e-6  # the alpha_bar of a last step that only completes a schedule


def _steps(generator: torch.Generator) -> list[tuple]:
    """Few steps, so that rows t - 1, t and t + 1 differ; batches of 4, of 2 (B = D) and of 1."""
    cases = []
    for dtype in DTYPES:
        T = int(torch.randint(5, 15, (1,), generator=generator))
        inner = int(torch.randint(2, T, (1,), generator=generator))
        for t, size in ((1, 4), (inner, 2), (inner, 1), (T, 4)):
            x_t, x0 = torch.randn(2, size, 2, generator=generator, dtype=dtype)
            cases.append((vp_schedule(T), x_t, x0, t))
    return cases


def _mean(schedule: NoiseSchedule, x_t: Tensor, x0: Tensor, t: int) -> Tensor:
    return q_posterior(schedule, x_t, x0, t).mean


def _mean_by(
    *,
    beside_x0: Callable = lambda s, t: s.alpha_bars[t - 1].sqrt() * s.betas[t],
    beside_x_t: Callable = lambda s, t: s.alphas[t].sqrt() * s.marginal_vars[t - 1],
) -> Callable:
    """Return the mean with another factor above the line, beside x_0 or beside x_t."""

    def mean(schedule: NoiseSchedule, x_t: Tensor, x0: Tensor, t: int) -> Tensor:
        above = beside_x0(schedule, t) * x0 + beside_x_t(schedule, t) * x_t
        return above / schedule.marginal_vars[t]

    return mean


OLD_ROW = {"beside_x0": lambda s, t: s.alpha_bars[t].sqrt() * s.betas[t]}
NO_ROOT = {"beside_x_t": lambda s, t: s.alphas[t] * s.marginal_vars[t - 1]}


def _jumps(generator: torch.Generator) -> list[tuple]:
    """Pairs alpha_bar_s > alpha_bar_t of several shapes; the larger begin with s = 0."""
    cases = []
    for dtype in DTYPES:
        for shape in ((6,), (2, 3), (1,)):
            before = 0.2 + 0.7 * torch.rand(shape, generator=generator, dtype=dtype)
            if shape != (1,):  # the smallest case is the one shown: no special one
                before.view(-1)[0] = 1
            share = 0.1 + 0.7 * torch.rand(shape, generator=generator, dtype=dtype)
            cases.append((before, before * share))
    return cases


def _with_jump(alpha_bar_s: float, alpha_bar_t: float) -> tuple[NoiseSchedule, int]:
    """Return a schedule that goes from s to t in one step, and the number of that step."""
    rows = [row for row in (alpha_bar_s, alpha_bar_t, ALMOST_NOISE) if row < 1]
    return schedule_from_alpha_bars(torch.tensor(rows, dtype=torch.float64)), len(rows) - 1


def _jump_weight(alpha_bar_s: Tensor, alpha_bar_t: Tensor) -> Tensor:
    zero, one = torch.zeros(1).double(), torch.ones(1).double()
    pairs = zip(alpha_bar_s.flatten().tolist(), alpha_bar_t.flatten().tolist(), strict=True)
    jumps = [_with_jump(*pair) for pair in pairs]
    numbers = [q_posterior(schedule, zero, one, t).mean.item() for schedule, t in jumps]
    return alpha_bar_s.new_tensor(numbers).reshape(alpha_bar_s.shape)


def _lists(generator: torch.Generator) -> list[tuple]:
    """B, N and D of all kinds; at t = 1 of a thousand steps every density is 0 in float64."""
    cases = []
    for dtype in DTYPES:
        T = int(torch.randint(8, 15, (1,), generator=generator))
        inner = int(torch.randint(3, T - 1, (1,), generator=generator))
        for t, size, n, dim in ((inner, 4, 3, 2), (inner, 3, 3, 3), (2, 1, 5, 2), (T, 2, 4, 1)):
            listed = 1.5 * torch.randn(n, dim, generator=generator, dtype=dtype)
            x_t = torch.randn(size, dim, generator=generator, dtype=dtype)
            cases.append((vp_schedule(T), listed, x_t, t))
    listed = torch.randn(6, 2, generator=generator, dtype=torch.float64)
    x_t = 3 + torch.rand(2, 2, generator=generator, dtype=torch.float64)
    return [*cases, (vp_schedule(1000), listed, x_t, 1)]


def _x0_mean(schedule: NoiseSchedule, points: Tensor, x_t: Tensor, t: int) -> Tensor:
    arrived = dc.diffuse(schedule, dc.mixture(points), t)
    return component_log_probs(arrived, x_t).softmax(1) @ points


def _weighted(
    *,
    centre: Callable = lambda s, t: s.alpha_bars[t].sqrt(),
    width: Callable = lambda s, t: 2 * s.marginal_vars[t],
    size: Callable = lambda apart: apart.square().sum(2),
    shares: Callable = lambda logs: logs.softmax(1),
    give: Callable = lambda points, s, t: points,
) -> Callable:
    """Return the mean with other centres, another width, distance, shares, or other points."""

    def mean(schedule: NoiseSchedule, points: Tensor, x_t: Tensor, t: int) -> Tensor:
        apart = x_t[:, None] - centre(schedule, t) * points
        logs = -size(apart) / width(schedule, t)
        return shares(logs) @ give(points, schedule, t)

    return mean


EXERCISES = {
    "03.1": Exercise(
        truth=_mean,
        cases=_steps,
        mistakes={
            "Both mistakes are still there. At t = 1 the result should be x0.": (
                _mean_by(**OLD_ROW, **NO_ROOT)
            ),
            "One mistake is left, in the factor of x0: which row of alpha_bars is it?": (
                _mean_by(**OLD_ROW)
            ),
            "One mistake is left, in the factor of x_t: what stands there in (8), alpha or its "
            "root?": _mean_by(**NO_ROOT),
            "The factor of x0 has the right row, and has lost its root.": _mean_by(
                beside_x0=lambda s, t: s.alpha_bars[t - 1] * s.betas[t]
            ),
            "The factor of x0 has the root of beta_t. In (8) stands beta_t itself.": _mean_by(
                beside_x0=lambda s, t: (s.alpha_bars[t - 1] * s.betas[t]).sqrt()
            ),
            "The two 1 - alpha_bar beside x_t are upside down: the one of row t stands below the "
            "line.": _mean_by(
                beside_x_t=lambda s, t: (
                    s.alphas[t].sqrt() * s.marginal_vars[t] ** 2 / s.marginal_vars[t - 1]
                )
            ),
            "The factor of x_t has alpha of row t - 1. Step t has alpha_t.": _mean_by(
                beside_x_t=lambda s, t: s.alphas[t - 1].sqrt() * s.marginal_vars[t - 1]
            ),
            "In the factor of x_t, 1 - alpha_bar is of row t - 1: how wide the prior is.": (
                _mean_by(beside_x_t=lambda s, t: s.alphas[t].sqrt() * s.marginal_vars[t])
            ),
            "The factors are swapped: the one with beta_t belongs to x0.": (
                lambda schedule, x_t, x0, t: _mean(schedule, x0, x_t, t)
            ),
            "The factor of x0 is right, and the one of x_t is missing.": (
                lambda schedule, x_t, x0, t: _mean(schedule, 0 * x_t, x0, t)
            ),
        },
        hints=(
            "Put in t = 1. Which factors should come out, and which do?",
            "Compare with (8), factor by factor: which row is it, and is there a root?",
            "One mistake is a wrong row, the other a missing root, each in a line of its own.",
        ),
    ),
    "03.2": Exercise(
        truth=_jump_weight,
        cases=_jumps,
        mistakes={
            "alpha_bar_t beside x0 where alpha_bar_s belongs: the prior is that of x_s.": (
                lambda at_s, at_t: at_t.sqrt() * (1 - at_t / at_s) / (1 - at_t)
            ),
            "The root of alpha_bar_s is missing.": (
                lambda at_s, at_t: (1 - at_t / at_s) / (1 - at_t)
            ),
            "alpha_bar_s stands there without its root.": (
                lambda at_s, at_t: (at_s - at_t) / (1 - at_t)
            ),
            "alpha_bar_s - alpha_bar_t is not the noise of the jump. What takes x_s to x_t?": (
                lambda at_s, at_t: at_s.sqrt() * (at_s - at_t) / (1 - at_t)
            ),
            "This is the weight of x_t. That of x0 was asked for.": (
                lambda at_s, at_t: (at_t / at_s).sqrt() * (1 - at_s) / (1 - at_t)
            ),
            "This is the mean of x_s before x_t is known. What does x_t change?": (
                lambda at_s, at_t: at_s.sqrt() + 0 * at_t
            ),
            "That is what the jump keeps; asked is its noise: what takes the place of beta_t?": (
                lambda at_s, at_t: at_s.sqrt() * (at_t / at_s) / (1 - at_t)
            ),
            "This is the factor of x0 in H (section 4). The mean is H/P.": (
                lambda at_s, at_t: at_s.sqrt() / (1 - at_s) + 0 * at_t
            ),
            "Below the line stands 1 - alpha_bar_s. (8) has there the noise of the state that is "
            "seen: x_t.": lambda at_s, at_t: at_s.sqrt() * (1 - at_t / at_s) / (1 - at_s),
            "The divisor is missing: (8) has 1 - alpha_bar_t below the line.": (
                lambda at_s, at_t: at_s.sqrt() * (1 - at_t / at_s)
            ),
        },
        hints=(
            "Only the likelihood changes: it is the jump from s to t instead of one step.",
            "The jump keeps alpha_bar_t / alpha_bar_s of the variance, and its noise has the rest.",
            "Go through (8): what now takes the place of t - 1, and what that of beta_t?",
        ),
    ),
    "03.3": Exercise(
        truth=_x0_mean,
        cases=_lists,
        mistakes={
            "The shares were divided by a sum that is 0: every density was too small for a number. "
            "Work with logarithms, up to what is the same for all points.": _weighted(
                shares=lambda logs: logs.exp() / logs.exp().sum(1, keepdim=True)
            ),
            "The distance is from x_t to the points themselves. Where does the noise put the "
            "centre of q(x_t | x_0)?": _weighted(centre=lambda s, t: 1.0),
            "The points are multiplied by alpha_bar_t. (4) of lesson 02 has its root.": _weighted(
                centre=lambda s, t: s.alpha_bars[t]
            ),
            "alpha_t is of one step. t steps keep alpha_bar_t.": _weighted(
                centre=lambda s, t: s.alphas[t].sqrt()
            ),
            "In the exponent of a Gaussian the variance stands with a factor 2.": _weighted(
                width=lambda s, t: s.marginal_vars[t]
            ),
            "Divided by the standard deviation. The exponent has the variance.": _weighted(
                width=lambda s, t: 2 * s.marginal_vars[t].sqrt()
            ),
            "The variance is that of one step, beta_t. x_t has the noise of all t steps.": (
                _weighted(width=lambda s, t: 2 * s.betas[t])
            ),
            "This is alpha_bar of t - 1. x_t belongs to row t.": _weighted(
                centre=lambda s, t: s.alpha_bars[t - 1].sqrt(),
                width=lambda s, t: 2 * s.marginal_vars[t - 1],
            ),
            "The exponent has the wrong sign: the farthest point gets the largest share.": (
                _weighted(size=lambda apart: -apart.square().sum(2))
            ),
            "The distance is not squared.": _weighted(
                size=lambda apart: apart.square().sum(2).sqrt()
            ),
            "The mean was taken over the coordinates. The logarithms of a product add up.": (
                _weighted(size=lambda apart: apart.square().mean(2))
            ),
            "The shares sum to 1 over the states. They should for each state, over the points.": (
                _weighted(shares=lambda logs: logs.softmax(0))
            ),
            "That is the one most likely point. Asked is the mean of all, with their shares.": (
                _weighted(
                    shares=lambda logs: torch.nn.functional.one_hot(
                        logs.argmax(1), logs.shape[1]
                    ).to(logs)
                )
            ),
            "That is the mean of the scaled points. Asked is the mean of x_0.": _weighted(
                give=lambda points, s, t: s.alpha_bars[t].sqrt() * points
            ),
            "That is the mean of the list. What does x_t change?": _weighted(
                size=lambda apart: 0 * apart.sum(2)
            ),
        },
        hints=(
            "First log q(x_t | x_0) for each state and each point, (n, N), up to what all points "
            "share.",
            "x_t[:, None] is (n, 1, D): with (N, D) it gives (n, N, D). Which of the three goes?",
            "softmax makes shares of logarithms, however small the densities. Over which dim?",
        ),
    ),
}
