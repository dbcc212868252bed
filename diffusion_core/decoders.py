"""p(x_0 | x_1): how likely the data is, given the last Gaussian of the way back."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .checks import (
    check_alike,
    check_count,
    check_data,
    check_finite,
    check_kinds,
    check_like,
    check_numbers,
    kind,
    numbers,
    require,
)
from .gaussian import Gaussian, check_density
from .nets.levels import LEVELS, check_levels

Decoder = Callable[[Tensor, Gaussian, Tensor], Tensor]  # (x0, p, x_1) -> log p(x0 | x_1), (B,)


def gaussian_decoder(x0: Tensor, p: Gaussian, x_1: Tensor | None = None) -> Tensor:
    """Return log N(x_0; mean, var), shape (B,), in nats: for continuous data. x_1 is not asked."""
    check_data("x0", x0)
    require(x0.ndim > 1, "x0", "have shape (B, ...), two axes or more", x0)
    check_density(p, x0, "p")
    return p.log_prob(x0).flatten(1).sum(1)


def discretized_decoder(x0: Tensor, p: Gaussian, x_1: Tensor | None = None) -> Tensor:
    """Return log P(x_0), shape (B,), in nats, for x_0 on the 256 levels -1, -1 + 2/255, .., 1.

    P = Phi((x_0 + 1/255 - mean) / std) - Phi((x_0 - 1/255 - mean) / std); the lowest level
    reaches down to -infinity and the highest up to infinity. In log space: finite far away.
    x_1 is not asked.
    Raises ValueError for an x_0 that is not on a level. Source: Ho et al. (2020), equation 13.
    """
    check_data("x0", x0)
    check_density(p, x0, "p")
    check_like("p.mean", p.mean, "x0", x0)
    check_levels(x0)
    level = (x0 + 1) * (LEVELS - 1) / 2
    half = 1 / (LEVELS - 1)
    upper = ((x0 - p.mean + half) / p.var.sqrt()).masked_fill(level > LEVELS - 1.5, math.inf)
    lower = ((x0 - p.mean - half) / p.var.sqrt()).masked_fill(level < 0.5, -math.inf)
    flipped = lower > 0  # by symmetry: in the upper tail both logs would round to 0
    far = torch.finfo(x0.dtype).max ** 0.5  # as good as infinite, and with derivatives
    low = torch.where(flipped, -upper, lower).clamp(-far, far)
    high = torch.where(flipped, -lower, upper).clamp(-far, far)
    log_low, log_high = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    return (log_high + (-torch.expm1(log_low - log_high)).log()).flatten(1).sum(1)


def decoded(decoder: Decoder, x0: Tensor, p: Gaussian, x_1: Tensor) -> Tensor:
    """Return decoder(x0, p, x_1); refuse what is not a number for each example of x0."""
    check_kinds(decoder=decoder)
    answer, name = decoder(x0, p, x_1), "decoder(x0, p, x_1)"
    if not (isinstance(answer, Tensor) and answer.shape == x0.shape[:1]):
        wanted = f"a torch.Tensor ({len(x0)},)"
        raise TypeError(f"{name} must be {wanted}, got {kind(answer)}")
    check_alike(x0=x0, **{name: answer.view(-1, *[1] * (x0.ndim - 1)).expand_as(x0)})
    return check_finite(answer, **{name: answer})


def bits_per_dim(nats: Tensor | float, dim: int, *, bin_width: float = 1.0) -> Tensor | float:
    """Return nats / (dim ln 2) - log2(bin_width), the bits that a coordinate needs.

    bin_width is 1 for the probability of a level (the discretized decoder), and the width of
    the level for a density: what is known only up to that width costs fewer bits.
    """
    real = nats.is_floating_point() if isinstance(nats, Tensor) else isinstance(nats, int | float)
    require(real, "nats", "be a number or a floating-point torch.Tensor", nats)
    check_count("dim", dim)
    check_numbers(0, math.inf, bin_width=bin_width)
    given = numbers("nats", nats)
    check_finite(given, nats=given)
    return nats / (dim * math.log(2)) - math.log2(bin_width)
