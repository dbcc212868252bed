"""A small network for 2-D data: what a U-Net is for images, an MLP is for points."""

import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import check_count
from .embeddings import check_even, check_steps, timestep_embedding
from .inputs import check_input
from .weights import drawn_from


class MLP(nn.Module):
    """An eps-network on points: forward(x_t, t) -> eps_hat, both (B, dim).

    The steps t enter as a sinusoidal embedding, added to the first features of x_t. Each of the
    depth hidden layers of width units is h + SiLU(Linear(h)). Nothing follows the last layer,
    because a noise takes every sign.

    x_t: (B, dim) floats, t: (B,) integers. Raises ValueError for any other shape, for an odd
    width or a size below 1, TypeError where a size is not an int.
    The weights follow from seed alone; the global random state is left as it was.
    Source: the time embedding of Ho et al. 2020, appendix B; residual layers of He et al. 2016.
    """

    def __init__(self, dim: int = 2, width: int = 128, depth: int = 3, seed: int = 0) -> None:
        super().__init__()
        check_count("dim", dim)
        check_even("width", width)
        check_count("depth", depth)
        self.dim = dim
        self.width = width
        with drawn_from(seed):
            self.from_x = nn.Linear(dim, width)
            self.from_t = nn.Linear(width, width)
            self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
            self.to_out = nn.Linear(width, dim)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        check_input("x_t", x_t, self.from_x.weight)
        if x_t.ndim != 2 or x_t.shape[1] != self.dim:
            raise ValueError(f"x_t must have shape (B, {self.dim}), got {tuple(x_t.shape)}")
        check_steps(t, x_t)
        emb = timestep_embedding(t, self.width).to(x_t.dtype)  # float32 until here
        h = self.from_x(x_t) + self.from_t(emb)  # (B, width)
        for layer in self.hidden:
            h = h + F.silu(layer(h))  # (B, width)
        return self.to_out(h)  # (B, dim)
