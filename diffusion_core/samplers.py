"""From noise to data: one step each, and the one loop that takes them."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from .checks import check_count, check_data, check_like, check_t
from .gaussian import standard_normal
from .predictions import Model, eps_from_x0, x0_from_eps
from .process import p_step
from .schedules import NoiseSchedule, at


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
    _check_times(schedule, x_t, t, s)
    if s != t - 1:
        raise ValueError(f"s must be t - 1 = {t - 1}, got {s}: ddim_step can skip steps")
    _, x0_hat = _estimates(schedule, eps_model, x_t, t, clip)
    step = p_step(schedule, x_t, x0_hat, t, variances=variances)
    return Step(s, step.mean if s == 0 else step.sample(generator=generator), x0_hat)


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
    At s = 0 this is x0_hat. x_t (B, ...), t in 1..T, s in 0..t-1, eta in [0, 1].
    Raises ValueError outside these. Source: Song et al. (2021), equations 12 and 16.
    """
    if not isinstance(eta, int | float) or not 0 <= eta <= 1:
        raise ValueError(f"eta must be in [0, 1], got {eta}")
    _check_times(schedule, x_t, t, s)
    if s >= t:
        raise ValueError(f"s must be in 0..t-1 = 0..{t - 1}, got {s}")
    eps_hat, x0_hat = _estimates(schedule, eps_model, x_t, t, clip)
    alpha_bars, noise_vars = schedule.alpha_bars, schedule.marginal_vars
    share = eta**2 * (1 - alpha_bars[t] / alpha_bars[s]) / noise_vars[t]
    sigma = (noise_vars[s] * share).sqrt().to(x_t)
    towards_x_t = (noise_vars[s] * (1 - share)).sqrt().to(x_t)
    x_s = at(alpha_bars.sqrt(), s, x_t) * x0_hat + towards_x_t * eps_hat
    if sigma > 0:
        x_s = x_s + sigma * standard_normal(x_t, generator)
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
    Raises ValueError for other taus and for an eps_model whose output does not match x_t.
    """
    taus = list(range(schedule.T, -1, -1)) if taus is None else list(taus)
    for t in taus:
        check_count("taus", t, lowest=0)
    falls = all(t > s for t, s in pairwise(taus))
    if len(taus) < 2 or taus[0] > schedule.T or taus[-1] != 0 or not falls:
        raise ValueError(
            f"taus must fall strictly from at most T = {schedule.T} to 0, got {taus[:6]}..."
        )
    check_data("x_T", x_T)
    x_t = x_T
    for t, s in pairwise(taus):
        with torch.no_grad():
            result = step(schedule, eps_model, x_t, t, s, **options)
        yield result
        x_t = result.x_t


def _check_times(schedule: NoiseSchedule, x_t: Tensor, t: int, s: int) -> None:
    if isinstance(t, Tensor):
        raise TypeError(f"t must be one int for the whole batch, got a tensor {tuple(t.shape)}")
    check_t(t, x_t, schedule.T, lowest=1)
    check_count("s", s, lowest=0)


def _estimates(
    schedule: NoiseSchedule,
    eps_model: Model,
    x_t: Tensor,
    t: int,
    clip: tuple[float, float] | None,
) -> tuple[Tensor, Tensor]:
    """Return eps_hat and x0_hat, the second clipped and the first made to agree with it."""
    check_data("x_t", x_t)
    times = torch.full((len(x_t),), t, device=x_t.device)
    eps_hat = eps_model(x_t, times)
    check_like("eps_model(x_t, t)", eps_hat, "x_t", x_t)
    x0_hat = x0_from_eps(schedule, x_t, eps_hat, t)
    if clip is not None:
        if not clip[0] < clip[1]:
            raise ValueError(f"clip must be (lowest, highest), got {clip}")
        x0_hat = x0_hat.clamp(*clip)
        eps_hat = eps_from_x0(schedule, x_t, x0_hat, t)
    return eps_hat, x0_hat
