"""What the sliced Wasserstein distance is made of: directions, and two sets' common quantiles."""

import math

import torch
from torch import Tensor


def even_directions(d: int, n_projections: int) -> Tensor:
    """Return unit vectors (n_projections, d), evenly spaced; for d = 1 there is only one."""
    if d == 1:
        return torch.ones(1, 1, dtype=torch.float64, device="cpu")
    turns = torch.arange(n_projections, dtype=torch.float64, device="cpu") / n_projections
    return torch.stack([(math.pi * turns).cos(), (math.pi * turns).sin()], 1)  # half: u is as -u


def merged_quantiles(n: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """Cut (0, 1] at all i/n and j/m: for each piece, which x, which y, and its width."""
    edges = [torch.arange(1, a + 1, device="cpu") * b for a, b in ((n, m), (m, n))]
    edges = torch.cat(edges).unique()
    widths = edges.diff(prepend=edges.new_zeros(1)).double() / (n * m)
    return (edges - 1) // m, (edges - 1) // n, widths
