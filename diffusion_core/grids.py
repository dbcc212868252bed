"""Grids of noise levels, from high to low: as a schedule of their own, or rounded to rows of one.

A noise level is sqrt((1 - alpha_bar) / alpha_bar), the standard deviation of the noise in
x_t / sqrt(alpha_bar_t): its square is 1 / snr. The straight path (1 - time) x_0 + time eps has
the level time / (1 - time).
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from .checks import check_count, check_kinds, numbers, require, row
from .schedules import NoiseSchedule

HIGHEST = 1e14  # a schedule's alpha_bar_T is at least 1e-30


def geometric_levels(highest: float, lowest: float, count: int) -> Tensor:
    """Return noise levels from highest to lowest, each the same multiple of the one before.

    They are even in log SNR = -2 ln(noise_level). Shape (count,), float64.
    Raises ValueError unless highest > lowest > 0 and count is at least 2.
    Source: Song and Ermon (2019), section 4.1.
    """
    share = _shares(highest, lowest, count)
    return highest * (lowest / highest) ** share


def karras_levels(highest: float, lowest: float, count: int, *, rho: float = 7.0) -> Tensor:
    """Return noise levels from highest to lowest whose rho-th roots are evenly spaced.

    rho = 1 is even in the noise level itself; rho -> infinity gives geometric_levels.
    Shape (count,), float64. Raises ValueError unless highest > lowest > 0, count is at least 2
    and rho at least 1. Source: Karras et al. (2022), equation 5.
    """
    ok = isinstance(rho, int | float) and 1 <= rho < math.inf
    require(ok, "rho", "be a number of at least 1", rho)
    share = _shares(highest, lowest, count)
    start, end = highest ** (1 / rho), lowest ** (1 / rho)
    levels = (start + share * (end - start)) ** rho
    levels[0], levels[-1] = highest, lowest  # not only to rounding
    return levels


def schedule_from_noise_levels(noise_levels: Tensor) -> NoiseSchedule:
    """Return the schedule with these noise levels, which fall as a sampler meets them: T to 1.

    alpha_bar_t = 1 / (1 + noise_level_t^2), so x_t = sqrt(alpha_bar_t) (x_0 + noise_level_t eps).
    Raises ValueError unless the levels fall strictly to above 0; warns (PriorGapWarning) where
    `prior_gap` is above 0.01, as for a first level below 8.5 (at unit second moment).
    """
    levels = _falling(noise_levels).flip(0)
    squares = torch.cat([levels.new_zeros(1), levels.square()])
    betas = squares.diff() / (1 + squares[1:])
    apart = ((betas > 0) & (betas < 1)).all()
    require(bool(apart), "noise_levels", "make betas inside (0, 1)", betas.tolist())
    return NoiseSchedule(betas)


def nearest_taus(schedule: NoiseSchedule, noise_levels: Tensor) -> list[int]:
    """Return a row of a schedule for each noise level, by the nearest log SNR, and 0 at the end.

    For a network, which knows the rows it was trained on and no level in between. Where two levels
    would share a row they take neighbouring ones, so that all fall strictly, and none is lost.
    Raises ValueError unless the levels fall strictly to above 0, or for more of them than rows.
    """
    check_kinds(schedule=schedule)
    levels = _falling(noise_levels)
    count = len(levels)
    wanted = f"hold at most T = {schedule.T} levels"
    require(count <= schedule.T, "noise_levels", wanted, noise_levels)
    gaps = (schedule.snr[1:].log() + 2 * levels.log()[:, None]).abs()
    taus, above = [], schedule.T + 1
    for left, nearest in zip(range(count, 0, -1), (gaps.argmin(1) + 1).tolist(), strict=True):
        above = max(left, min(nearest, above - 1))  # below the last, with room for all that follow
        taus.append(above)
    return [*taus, 0]


def straight_times(schedule: NoiseSchedule) -> Tensor:
    """Return the time at which the straight path has the SNR of each row: (T + 1,), float64.

    time = sqrt(1 - alpha_bar) / (sqrt(alpha_bar) + sqrt(1 - alpha_bar)), and
    x_t = (sqrt(alpha_bar_t) + sqrt(1 - alpha_bar_t)) x there. Row 0 has time 0.
    """
    check_kinds(schedule=schedule)
    scales, stds = schedule.marginal_factors.table.unbind(1)
    return stds / (scales + stds)


def straight_schedule(times: Sequence[float] | Tensor) -> NoiseSchedule:
    """Return the schedule with the straight path's SNRs at times that fall, as a sampler's do.

    alpha_bar = (1 - time)^2 / ((1 - time)^2 + time^2); rows T to 1. Raises ValueError unless the
    times fall strictly inside (0, 1); warns (PriorGapWarning) for a first one below 0.89.
    """
    times = row("times", times, within=(0, 1))
    require(bool((times.diff() < 0).all()), "times", "fall strictly", times.tolist())
    return schedule_from_noise_levels(times / (1 - times))


def _falling(noise_levels: Tensor) -> Tensor:
    """Return levels as float64 on the CPU; refuse what does not fall strictly to above 0."""
    given, levels = numbers("noise_levels", noise_levels), []
    if given.ndim == 1 and not given.is_meta and not given.is_complex():
        levels = given.tolist()
    falls = all(a > b for a, b in pairwise(levels)) and levels and 0 < levels[-1]
    wanted = f"be one row that falls strictly from at most {HIGHEST:g} to above 0"
    require(bool(falls) and levels[0] <= HIGHEST, "noise_levels", wanted, noise_levels)
    return torch.tensor(levels, dtype=torch.float64, device="cpu")


def _shares(highest: float, lowest: float, count: int) -> Tensor:
    """Return 0 to 1 in `count` even parts, after checking the arguments of a grid."""
    numeric = isinstance(highest, int | float) and isinstance(lowest, int | float)
    ok = numeric and 0 < lowest < highest <= HIGHEST
    wanted = f"be numbers, 0 < lowest < highest <= {HIGHEST:g}"
    require(ok, "highest and lowest", wanted, (highest, lowest))
    check_count("count", count, lowest=2)
    return torch.linspace(0, 1, count, dtype=torch.float64, device="cpu")
