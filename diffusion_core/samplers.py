"""From noise to data: one step each, and the one loop that takes them."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from .checks import (
    check_alike,
    check_count,
    check_data,
    check_finite,
    check_kinds,
    like_input,
    require,
)
from .gaussian import standard_normal
from .predictions import Model
from .schedules import NoiseSchedule
from .tables import check_table


class Step(NamedTuple):
    """The chain at time t: its state x_t, and the estimate x0_hat that led to it."""

    t: int
    x_t: Tensor
    x0_hat: Tensor


def ddpm_step(
    schedule: NoiseSchedule,
    eps_model: Model,
    x_t: Tensor,
    t: int,
    s: int,
    *,
    variances: Tensor | None = None,
    clip: tuple[float, float] | None = None,
    generator: torch.Generator | None = None,
) -> Step:
    """Draw x_s ~ p(x_{t-1} | x_t), s = t - 1: one round of Algorithm 2.

    `variances`: the table of sigma_t^2, schedule.posterior_vars (default) or schedule.betas.
    `clip`: the data's range, to which x0_hat (never the state) is clipped.
    At s = 0 the mean, which is x0_hat, is returned without noise. x_t (B, ...), t in 1..T.
    Raises ValueError for any other s. Source: Ho et al. (2020), Algorithm 2.
    """
    _check_step(schedule, x_t, t, s, clip)
    require(s == t - 1, "s", f"be t - 1 = {t - 1} (ddim_step can skip steps)", s)
    x0_hat = _x0_hat(schedule, eps_model, x_t, t, clip)
    of_x0, of_x_t, std = schedule.posterior_factors.numbers[t]
    if variances is not None:
        std = check_table(schedule, "variances", variances, t).sqrt().item()
    x_s = (of_x0 * x0_hat).add_(x_t, alpha=of_x_t)
    if s > 0:
        x_s.add_(standard_normal(x_t, generator), alpha=std)
    return Step(s, x_s, x0_hat)


def ddim_step(
    schedule: NoiseSchedule,
    eps_model: Model,
    x_t: Tensor,
    t: int,
    s: int,
    *,
    eta: float = 0.0,
    clip: tuple[float, float] | None = None,
    generator: torch.Generator | None = None,
) -> Step:
    """Go from x_t to x_s for any s < t; eta = 0 adds no noise, eta = 1 is the DDPM posterior.

    x_s = sqrt(alpha_bar_s) x0_hat + sqrt(1 - alpha_bar_s - sigma^2) eps_hat + sigma z,
    sigma^2 = eta^2 (1 - alpha_bar_s) / (1 - alpha_bar_t) (1 - alpha_bar_t / alpha_bar_s).
    At s = 0 this is x0_hat. `clip`: the data's range, to which x0_hat is clipped; eps_hat is then
    what x_t and the clipped x0_hat say. x_t (B, ...), t in 1..T, s in 0..t-1, eta in [0, 1].
    Raises ValueError outside these. Source: Song, Meng and Ermon (2021), equations 12 and 16.
    """
    require(isinstance(eta, int | float) and 0 <= eta <= 1, "eta", "be in [0, 1]", eta)
    _check_step(schedule, x_t, t, s, clip)
    x0_hat = _x0_hat(schedule, eps_model, x_t, t, clip)
    (scale_t, std_t), (scale_s, std_s) = (schedule.marginal_factors.numbers[u] for u in (t, s))
    between = max(0.0, std_t**2 - (scale_t / scale_s * std_s) ** 2)  # the variance of q(x_t | x_s)
    fresh = eta**2 * between / std_t**2  # the share of the noise in x_s that is drawn anew
    of_x_t = math.sqrt(1 - fresh) * std_s / std_t  # as eps_hat = (x_t - scale_t x0_hat) / std_t
    x_s = ((scale_s - of_x_t * scale_t) * x0_hat).add_(x_t, alpha=of_x_t)
    if fresh > 0 and s > 0:
        x_s.add_(standard_normal(x_t, generator), alpha=math.sqrt(fresh) * std_s)
    return Step(s, x_s, x0_hat)


def even_taus(T: int, steps: int) -> list[int]:
    """Return steps + 1 times from T down to 0, as evenly spaced as integers can be."""
    check_count("T", T)
    check_count("steps", steps)
    if steps > T:
        raise ValueError(f"steps must be at most T = {T}, got {steps}")
    return [(T * (steps - i) + steps // 2) // steps for i in range(steps + 1)]


def sample_chain(
    step: Callable[..., Step],
    schedule: NoiseSchedule,
    eps_model: Model,
    x_T: Tensor,
    taus: Sequence[int] | None = None,
    **options,
) -> Iterator[Step]:
    """Yield a Step for each of taus[1:], beginning with the state x_T at time taus[0].

    `step` is ddpm_step, ddim_step or a function called like them; `options` (generator, eta,
    clip, variances) are handed to it. `taus` decreases strictly to 0, by default T, T-1, .., 0.
    The last state, at t = 0, is the sample. No gradients are kept.
    Raises ValueError for other taus and for an eps_model whose output does not match x_t; the
    lower dtype of a network under torch.autocast is cast to that of x_t.
    """
    check_kinds(schedule=schedule, step=step)
    taus = checked_taus(schedule, taus)
    check_data("x_T", x_T)
    x_t = x_T
    for t, s in pairwise(taus):
        with torch.no_grad():
            result = step(schedule, eps_model, x_t, t, s, **options)
        yield result
        x_t = result.x_t


def checked_taus(schedule: NoiseSchedule, taus: Sequence[int] | None) -> list[int]:
    """Return the times of a chain, T, T-1, .., 0 if none are given; refuse what does not fall."""
    taus = range(schedule.T, -1, -1) if taus is None else taus
    taus = list(taus) if isinstance(taus, Iterable) else [taus]
    falls = {*map(type, taus)} == {int} and taus == sorted({*taus}, reverse=True)
    wanted = f"be integers that fall strictly from at most T = {schedule.T} to 0"
    require(falls and taus[-1] == 0 < taus[0] <= schedule.T, "taus", wanted, taus)
    return taus


def _check_step(
    schedule: NoiseSchedule, x_t: Tensor, t: int, s: int, clip: tuple[float, float] | None
) -> None:
    """Refuse a state x_t, a step from t to s or a clip that is none."""
    check_alike(schedule=schedule, x_t=x_t)
    times = type(t) is type(s) is int and 0 <= s < t <= schedule.T
    require(times, "t and s", f"be ints, t in 1..{schedule.T} and s in 0..t-1", (t, s))
    require(clip is None or _is_range(clip), "clip", "be numbers (lowest, highest)", clip)


def _is_range(clip: object) -> bool:
    pair = isinstance(clip, tuple | list) and len(clip) == 2
    return pair and all(isinstance(c, int | float) for c in clip) and clip[0] < clip[1]


def _x0_hat(
    schedule: NoiseSchedule,
    eps_model: Model,
    x_t: Tensor,
    t: int,
    clip: tuple[float, float] | None,
) -> Tensor:
    """Return the estimate of x_0 from what eps_model answers, clipped if asked."""
    if not callable(eps_model):  # looked at here first: it is time in every step
        check_kinds(eps_model=eps_model)
    times = torch.full(x_t.shape[:1], t, device=x_t.device)
    eps_hat = like_input(eps_model(x_t, times), x_t)
    both = {"x_t": x_t, "eps_model(x_t, t)": eps_hat}
    check_alike(**both)
    scale, std = schedule.marginal_factors.numbers[t]
    x0_hat = check_finite(torch.sub(x_t, eps_hat, alpha=std).mul_(1 / scale), **both)
    return x0_hat if clip is None else x0_hat.clamp(*clip)
