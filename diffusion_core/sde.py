"""Continuous time: stochastic differential equations, and the one loop that follows them.

time runs from 0, clean data, to 1. An SDE is two functions of a state and a time; the loop is
Euler's, in either direction: no higher order, and no steps of its own choice (see likelihood.py).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from .checks import check_data, check_kinds, check_like, kind, numbers, require
from .gaussian import standard_normal
from .traces import checked


class SDE(NamedTuple):
    """dx = drift(x, time) dtime + diffusion(x, time) dW, W a Wiener process.

    drift (B, ...), diffusion a number or a tensor that broadcasts to x. marginal(time), where it
    is known, gives two numbers a and b: x = a x_0 + b eps at that time, eps ~ N(0, I).
    """

    drift: Callable[[Tensor, float], Tensor]
    diffusion: Callable[[Tensor, float], Tensor | float]
    marginal: Callable[[float], tuple[float, float]] | None = None


def vp_sde(beta_min: float = 0.1, beta_max: float = 20.0) -> SDE:
    """Return dx = -beta(time) x / 2 dtime + sqrt(beta(time)) dW, the limit of DDPM.

    beta(time) = beta_min + time (beta_max - beta_min) is T beta_t at t = time T for T -> infinity;
    a^2 = alpha_bar(time) = exp(-int_0^time beta), as in `vp_schedule`, and b^2 = 1 - a^2.
    Raises ValueError unless 0 < beta_min <= beta_max.
    Source: Song et al. (2021), equations 11 and 32.
    """
    low, high = _ordered("beta_min", beta_min, "beta_max", beta_max)

    def beta(time: float) -> float:
        return low + time * (high - low)

    def marginal(time: float) -> tuple[float, float]:
        log_alpha_bar = -(low * time + (high - low) * time**2 / 2)
        return math.exp(log_alpha_bar / 2), math.sqrt(-math.expm1(log_alpha_bar))

    return SDE(
        lambda x, time: -0.5 * beta(time) * x, lambda x, time: math.sqrt(beta(time)), marginal
    )


def ve_sde(lowest: float = 0.01, highest: float = 50.0) -> SDE:
    """Return dx = sqrt(d level(time)^2 / dtime) dW, the limit of NCSN's geometric noise levels.

    level(time) = lowest (highest / lowest)^time; a = 1, b^2 = level(time)^2 - lowest^2, exactly:
    at time 0 there is clean data. (The paper leaves out lowest^2.)
    Raises ValueError unless 0 < lowest <= highest.
    Source: Song et al. (2021), equations 9 and 30.
    """
    low, high = _ordered("lowest", lowest, "highest", highest)
    growth = 2 * math.log(high / low)

    def diffusion(x: Tensor, time: float) -> float:
        return low * math.exp(growth * time / 2) * math.sqrt(growth)

    def marginal(time: float) -> tuple[float, float]:
        return 1.0, low * math.sqrt(math.expm1(growth * time))

    return SDE(lambda x, time: torch.zeros_like(x), diffusion, marginal)


def wiener_increments(
    times: Sequence[float] | Tensor, x: Tensor, *, generator: torch.Generator | None = None
) -> Tensor:
    """Draw W(times[i + 1]) - W(times[i]) ~ N(0, |times[i + 1] - times[i]| I), each by itself.

    Shapes: times (n + 1,), rising or falling strictly; result (n, *x.shape), of x's dtype and
    device. Its cumulated sum is a Wiener process, with covariance min(s, t) from 0 on.
    """
    check_kinds(generator=generator)
    check_data("x", x)
    spans = [end - start for start, end in pairwise(checked_times(times))]
    return torch.stack([_increment(x, span, generator) for span in spans])


def euler_maruyama(
    sde: SDE,
    x: Tensor,
    times: Sequence[float] | Tensor,
    *,
    increments: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Yield the state at each of times[1:]: x + drift dtime + diffusion dW, from x at times[0].

    `increments` as from wiener_increments, drawn if not given. Where times fall, dtime < 0 and the
    SDE should be a reverse one. No gradients are kept. Strong order 1 where diffusion does not
    depend on x, else 1/2; weak order 1. x (B, ...), times (n + 1,).
    Raises ValueError for times or increments of another form. Source: Kloeden and Platen (1992).
    """
    check_sde("sde", sde)
    check_kinds(generator=generator)
    check_data("x", x)
    spans = list(pairwise(checked_times(times)))
    if increments is not None:
        name = f"{len(spans)} times x"
        check_like("increments", increments, name, x.expand(len(spans), *x.shape))
    for i, (start, end) in enumerate(spans):
        with torch.no_grad():
            change = (end - start) * checked("drift(x, time)", sde.drift(x, start), x)
            diffusion = _checked_diffusion(sde.diffusion(x, start), x)
            if isinstance(diffusion, Tensor) or diffusion != 0:  # else an ODE: nothing is drawn
                dw = _increment(x, end - start, generator) if increments is None else increments[i]
                change = checked("diffusion(x, time) dW", change + diffusion * dw, x)
            x = x + change
        yield x


def check_sde(name: str, sde: SDE) -> None:
    """Refuse what is no SDE of functions."""
    if not isinstance(sde, SDE):
        raise TypeError(f"{name} must be an SDE, got {kind(sde)}")
    known = {} if sde.marginal is None else {"marginal": sde.marginal}
    check_kinds(drift=sde.drift, diffusion=sde.diffusion, **known)


def _checked_diffusion(diffusion: Tensor | float, x: Tensor) -> Tensor | float:
    """Return what diffusion(x, time) answered; refuse what does not broadcast to x."""
    shape = getattr(diffusion, "shape", ())
    pairs = zip(reversed(shape), reversed(x.shape), strict=False)
    fits = len(shape) <= x.ndim and all(a in (1, b) for a, b in pairs)
    ok = fits and isinstance(diffusion, Tensor | int | float)
    require(ok, "diffusion(x, time)", "be a number or broadcast to x", diffusion)
    return diffusion


def checked_times(times: Sequence[float] | Tensor) -> list[float]:
    """Return times as floats; refuse fewer than 2, and what neither rises nor falls strictly."""
    given, row = numbers("times", times), []
    if given.ndim == 1 and not given.is_meta and not given.is_complex():
        row = given.tolist()
    rises = all(a < b for a, b in pairwise(row)) or all(a > b for a, b in pairwise(row))
    ok = len(row) > 1 and rises and all(map(math.isfinite, row))
    require(ok, "times", "be 2 or more numbers that all rise or all fall", times)
    return [float(time) for time in row]


def _increment(x: Tensor, span: float, generator: torch.Generator | None) -> Tensor:
    return math.sqrt(abs(span)) * standard_normal(x, generator)


def _ordered(low_name: str, low: float, high_name: str, high: float) -> tuple[float, float]:
    both = isinstance(low, int | float) and isinstance(high, int | float)
    ok = both and 0 < low <= high < math.inf
    wanted = f"be numbers, 0 < {low_name} <= {high_name}"
    require(ok, f"{low_name} and {high_name}", wanted, (low, high))
    return low, high
