"""The sinusoidal embedding: how a network is told which step t it is looking at."""

import math

import torch
from torch import Tensor


def timestep_embedding(t: Tensor, dim: int, max_period: float = 10_000) -> Tensor:
    """Write each step t as dim numbers, a row of cosines and sines of t at falling frequencies.

    emb[b, k] = cos(f_k t_b) and emb[b, dim/2 + k] = sin(f_k t_b), with
    f_k = max_period**(-k / (dim/2)) for k = 0 .. dim/2 - 1.

    t: (B,) integers. Returns (B, dim), float32, on t's device, every entry in [-1, 1].
    Raises ValueError if dim is not even and positive or t is not (B,), TypeError if t is not
    an int64 or int32 tensor.
    Source: Vaswani et al. 2017, section 3.5; Ho et al. 2020, appendix B.
    """
    if not isinstance(t, Tensor) or t.dtype not in (torch.int64, torch.int32):
        kind = t.dtype if isinstance(t, Tensor) else type(t).__name__
        raise TypeError(f"t must be an integer tensor (int64 or int32), but it is {kind}")
    if t.ndim != 1:
        raise ValueError(f"t must be (B,), one step per example, but it is {tuple(t.shape)}")
    if dim < 2 or dim % 2:
        raise ValueError(f"dim must be even and at least 2, half cosines and half sines, not {dim}")
    half = dim // 2
    exponents = torch.arange(half, dtype=torch.float32, device=t.device) / half  # (dim/2,)
    frequencies = torch.exp(-math.log(max_period) * exponents)  # (dim/2,), 1 down to ~1/max_period
    angles = t.to(torch.float32)[:, None] * frequencies[None, :]  # (B, 1) * (1, dim/2) = (B, dim/2)
    return torch.cat([angles.cos(), angles.sin()], dim=1)  # (B, dim)
