"""p(x_0 | x_1): how likely the data is, given the last Gaussian of the way back."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .checks import check_data, check_like
from .gaussian import Gaussian

Decoder = Callable[[Tensor, Gaussian], Tensor]  # (x0, p) -> log p(x0), shape (B,)
LEVELS = 256


def gaussian_decoder(x0: Tensor, p: Gaussian) -> Tensor:
    """Return log N(x_0; mean, var), shape (B,), in nats: for continuous data."""
    return p.log_prob(x0).flatten(1).sum(1)


def discretized_decoder(x0: Tensor, p: Gaussian) -> Tensor:
    """Return log P(x_0), shape (B,), in nats, for x_0 on the 256 levels -1, -1 + 2/255, .., 1.

    P = Phi((x_0 + 1/255 - mean) / std) - Phi((x_0 - 1/255 - mean) / std); the lowest level
    reaches down to -infinity and the highest up to infinity. In log space: finite far away.
    Raises ValueError for an x_0 that is not on a level. Source: Ho et al. (2020), equation 13.
    """
    check_data("x0", x0)
    check_like("p.mean", p.mean, "x0", x0)
    level = (x0 + 1) * (LEVELS - 1) / 2
    if not ((level - level.round()).abs() < 1e-3).all() or x0.abs().max() > 1 + 1e-6:
        raise ValueError(f"x0 must lie on the {LEVELS} levels from -1 to 1, got other values")
    half = 1 / (LEVELS - 1)
    upper = ((x0 - p.mean + half) / p.var.sqrt()).masked_fill(level > LEVELS - 1.5, math.inf)
    lower = ((x0 - p.mean - half) / p.var.sqrt()).masked_fill(level < 0.5, -math.inf)
    flipped = lower > 0  # by symmetry: in the upper tail both logs would round to 0
    low, high = torch.where(flipped, -upper, lower), torch.where(flipped, -lower, upper)
    log_low, log_high = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    return (log_high + (-torch.expm1(log_low - log_high)).log()).flatten(1).sum(1)
