"""The sinusoidal embedding: how a network is told which step t it is looking at."""

import math

import torch
from torch import Tensor

from ..checks import check_count, require


def check_even(name: str, n: int) -> None:
    """Refuse a length of the embedding that is not an even integer of at least 2."""
    check_count(name, n, lowest=2)
    if n % 2:
        raise ValueError(f"{name} must be even, half cosines and half sines, got {n}")


def check_steps(t: Tensor, x_t: Tensor) -> None:
    """Refuse steps t that are not integers (B,), one for each example of x_t."""
    _check_integers(t)
    if t.shape != x_t.shape[:1]:
        raise ValueError(f"t must have shape ({len(x_t)},), got {tuple(t.shape)}")
    require(t.device == x_t.device, "t", f"be on the device of x_t, {x_t.device}", t.device)


def _check_integers(t: Tensor) -> None:
    if not isinstance(t, Tensor) or t.dtype not in (torch.int64, torch.int32):
        given = t.dtype if isinstance(t, Tensor) else type(t).__name__
        raise TypeError(f"t must be an integer tensor (int64 or int32), got {given}")


def timestep_embedding(t: Tensor, dim: int, max_period: float = 10_000) -> Tensor:
    """Write each step t as dim numbers, a row of cosines and sines of t at falling frequencies.

    emb[b, k] = cos(f_k t_b) and emb[b, dim/2 + k] = sin(f_k t_b), with
    f_k = max_period**(-k / (dim/2)) for k = 0 .. dim/2 - 1.

    t: (B,) integers. Returns (B, dim), float32, on t's device, every entry in [-1, 1].
    Raises ValueError for a t that is not (B,) or a dim that is not even and at least 2,
    TypeError where t is not an int64 or int32 tensor or dim not an int.
    Source: Vaswani et al. 2017, section 3.5; Ho et al. 2020, appendix B.
    """
    _check_integers(t)
    if t.ndim != 1:
        raise ValueError(f"t must have shape (B,), one step for each example, got {tuple(t.shape)}")
    check_even("dim", dim)
    period = isinstance(max_period, int | float) and 0 < max_period < math.inf
    require(period, "max_period", "be a positive number", max_period)
    half = dim // 2
    exponents = torch.arange(half, dtype=torch.float32, device=t.device) / half  # (dim/2,)
    frequencies = torch.exp(-math.log(max_period) * exponents)  # (dim/2,), 1 down to ~1/max_period
    angles = t.to(torch.float32)[:, None] * frequencies[None, :]  # (B, 1) * (1, dim/2) = (B, dim/2)
    return torch.cat([angles.cos(), angles.sin()], dim=1)  # (B, dim)
