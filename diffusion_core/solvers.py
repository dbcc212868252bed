"""Fewer calls: steps of second order, and one that corrects, for `sample_chain`.

All follow the probability flow. For y = x_t / sqrt(alpha_bar_t) and the noise level it reads
dy / dlevel = eps_hat, and `ddim_step` is Euler's step for it: each solver here begins with that.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from .checks import check_data, check_kinds, kind
from .langevin import langevin_corrector
from .predictions import Model
from .samplers import Step, checked_taus, ddim_step
from .schedules import NoiseSchedule


class _Left(NamedTuple):
    """What a multistep solver remembers: where it went from and to, and its estimate there."""

    schedule: NoiseSchedule
    t: int
    s: int
    x0_hat: Tensor


def heun_step(
    schedule: NoiseSchedule,
    eps_model: Model,
    x_t: Tensor,
    t: int,
    s: int,
    *,
    clip: tuple[float, float] | None = None,
) -> Step:
    """Go from x_t to x_s by Heun's method: Euler's step with the mean of the slopes at both ends.

    y_s = y_t + (level_s - level_t) (eps_hat(x_t, t) + eps_hat(x_s', s)) / 2, x_s' Euler's,
    y = x / sqrt(alpha_bar), level = sqrt((1 - alpha_bar) / alpha_bar). Order 2, for two calls of
    eps_model; at s = 0, where no network answers, Euler's: x0_hat. x_t (B, ...), 0 <= s < t <= T,
    clip as in ddim_step. Raises ValueError outside these.
    Source: Karras et al. (2022), algorithm 1.
    """
    check_kinds(schedule=schedule, eps_model=eps_model)
    euler = ddim_step(schedule, eps_model, x_t, t, s, clip=clip)
    if s == 0:
        return euler
    ahead = ddim_step(schedule, eps_model, euler.x_t, s, 0, clip=clip)
    (scale_t, std_t), (scale_s, std_s) = (schedule.marginal_factors.numbers[u] for u in (t, s))
    slope = (x_t - scale_t * euler.x0_hat) / std_t
    change = (euler.x_t - scale_s * ahead.x0_hat) / std_s - slope
    half = 0.5 * scale_s * (std_s / scale_s - std_t / scale_t)
    return Step(s, torch.add(euler.x_t, change, alpha=half), euler.x0_hat)


def dpm_solver_2m() -> Callable[..., Step]:
    """Return a fresh step of DPM-Solver++(2M): order 2 for one call, as it remembers the last.

    With l = ln(sqrt(alpha_bar) / sqrt(1 - alpha_bar)) and h = l_s - l_t,
    x_s = sqrt(1 - alpha_bar_s) / sqrt(1 - alpha_bar_t) x_t + sqrt(alpha_bar_s) (1 - e^-h) D,
    D = x0_hat + h / (2 h_before) (x0_hat - x0_hat_before).
    Where t is not where it left, and at s = 0 (h is infinite), D = x0_hat: `ddim_step`.
    step(schedule, eps_model, x_t, t, s, *, clip=None), clip as in ddim_step, 0 <= s < t <= T.
    Source: Lu et al. (2022), DPM-Solver++, algorithm 2.
    """
    left: _Left | None = None

    def step(
        schedule: NoiseSchedule,
        eps_model: Model,
        x_t: Tensor,
        t: int,
        s: int,
        *,
        clip: tuple[float, float] | None = None,
    ) -> Step:
        nonlocal left
        check_kinds(schedule=schedule, eps_model=eps_model)
        x_s, x0_hat = ddim_step(schedule, eps_model, x_t, t, s, clip=clip)[1:]
        before, left = left, _Left(schedule, t, s, x0_hat)
        goes_on = before and before.schedule is schedule and before.s == t
        if s > 0 and goes_on and kind(before.x0_hat) == kind(x0_hat):
            h, h_before = _growth(schedule, t, s), _growth(schedule, before.t, t)
            of_x0 = -math.expm1(-h) * schedule.marginal_factors.numbers[s][0]
            x_s = torch.add(x_s, x0_hat - before.x0_hat, alpha=of_x0 * h / (2 * h_before))
        return Step(s, x_s, x0_hat)

    return step


def predictor_corrector_step(
    schedule: NoiseSchedule,
    eps_model: Model,
    x_t: Tensor,
    t: int,
    s: int,
    *,
    eta: float = 1.0,
    steps: int = 1,
    ratio: float = 0.2,
    clip: tuple[float, float] | None = None,
    generator: torch.Generator | None = None,
) -> Step:
    """Go from x_t to x_s by `ddim_step`, the predictor, then correct x_s by `langevin_corrector`.

    eta = 1 predicts as DDPM does, eta = 0 by the probability flow. 1 + steps calls of eps_model;
    at s = 0, where there is no noise to correct, 1. x_t (B, ...), 0 <= s < t <= T.
    Raises ValueError as these two do. Source: Song et al. (2021), algorithm 3.
    """
    check_kinds(schedule=schedule, eps_model=eps_model, generator=generator)
    step = ddim_step(schedule, eps_model, x_t, t, s, eta=eta, clip=clip, generator=generator)
    if s == 0:
        return step
    options = {"steps": steps, "ratio": ratio, "generator": generator}
    return step._replace(x_t=langevin_corrector(schedule, eps_model, step.x_t, s, **options))


def invert(
    schedule: NoiseSchedule,
    eps_model: Model,
    x0: Tensor,
    taus: Sequence[int] | None = None,
    *,
    heun: bool = False,
) -> Iterator[Step]:
    """Yield a Step for each of taus[-2::-1], from the state x0 up to the latent x_T of its flow.

    Euler's steps dy = dlevel eps_hat(x_t, t), or with `heun` Heun's, of two calls; taus as for
    `sample_chain`, which leads back with an error that falls as the order says. From t = 0, where
    no network answers, the slope is that of the first row, at sqrt(alpha_bar) x0.
    x0 (B, ...). Raises ValueError as sample_chain does. Source: Song, Meng and Ermon (2021), 4.3.
    """
    check_kinds(schedule=schedule, eps_model=eps_model)
    taus = checked_taus(schedule, taus)
    check_data("x0", x0)
    y, levels = x0, [std / scale for scale, std in schedule.marginal_factors.numbers]
    for t, s in pairwise(reversed(taus)):
        with torch.no_grad():
            x0_hat, slope = _slope(schedule, eps_model, y, t or s)
            span = levels[s] - levels[t]
            y_s = y + span * slope
            if heun:
                y_s += span / 2 * (_slope(schedule, eps_model, y_s, s)[1] - slope)
            y = y_s
        yield Step(s, schedule.marginal_factors.numbers[s][0] * y, x0_hat)


def _slope(schedule: NoiseSchedule, eps_model: Model, y: Tensor, t: int) -> tuple[Tensor, Tensor]:
    """Return x0_hat and dy / dlevel = eps_hat at x_t = sqrt(alpha_bar_t) y."""
    scale, std = schedule.marginal_factors.numbers[t]
    x0_hat = ddim_step(schedule, eps_model, scale * y, t, 0).x0_hat
    return x0_hat, (y - x0_hat) * (scale / std)


def _growth(schedule: NoiseSchedule, t: int, s: int) -> float:
    """Return h = l_s - l_t, the growth of ln(sqrt(alpha_bar) / sqrt(1 - alpha_bar)), t > s > 0."""
    (scale_t, std_t), (scale_s, std_s) = (schedule.marginal_factors.numbers[u] for u in (t, s))
    return math.log(scale_s / scale_t * std_t / std_s)
