"""A small transformer for images or latents, on the same seam as the U-Net.

x_t -> patches as tokens -> + place -> blocks, each steered by t and y -> last -> patches -> out
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import check_count, require
from .embeddings import check_even, check_steps, timestep_embedding
from .inputs import check_input, check_told
from .weights import drawn_from

MLP_RATIO = 2  # how much wider the hidden layer of a block is


class DiT(nn.Module):
    """A diffusion transformer: forward(x_t, t) -> eps_hat (or v, as trained), of x_t's shape.

    Each patch x patch square is a token of width numbers. A block adds attention over all tokens,
    then an MLP of each; t and y shift and scale what goes in, and gate what comes out (adaLN-zero).
    The gates and the last layer start at zero: a new block changes nothing, a new net answers 0.
    classes: how many labels y (B,) it can be told; without y it gets null_label = classes.

    x_t: (B, in_channels, side, side), t: (B,) integers. Raises ValueError for any other shape, or
    if patch does not divide side or heads width. The weights follow from seed alone.
    Source: Peebles and Xie (2023), section 3.
    """

    def __init__(
        self,
        in_channels: int = 8,
        side: int = 4,
        width: int = 64,
        depth: int = 4,
        heads: int = 4,
        *,
        patch: int = 1,
        emb_dim: int = 32,
        classes: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        sizes = {"in_channels": in_channels, "side": side, "width": width, "depth": depth}
        for name, n in (sizes | {"heads": heads, "patch": patch}).items():
            check_count(name, n)
        require(side % patch == 0, "patch", f"divide side, {side}", patch)
        require(width % heads == 0, "heads", f"divide width, {width}", heads)
        check_even("emb_dim", emb_dim)
        check_count("classes", classes, lowest=0)
        self.in_channels, self.side, self.patch, self.emb_dim = in_channels, side, patch, emb_dim
        self.null_label = classes
        with drawn_from(seed):
            self._build(width, depth, heads)
            self.label = nn.Embedding(classes + 1, emb_dim) if classes else None

    def _build(self, width: int, depth: int, heads: int) -> None:
        E, folded = self.emb_dim, self.in_channels * self.patch**2
        tokens = (self.side // self.patch) ** 2
        self.time = nn.Sequential(nn.Linear(E, E), nn.SiLU(), nn.Linear(E, E))
        self.stem = nn.Linear(folded, width)
        self.place = nn.Parameter(0.02 * torch.randn(tokens, width, device="cpu"))
        self.blocks = nn.ModuleList(_Block(width, heads, E) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.steer = _zero_linear(E, 2 * width)
        self.last = _zero_linear(width, folded)

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        self._check_input(x_t, t, y)
        emb = self._embed(t, y)  # (B, emb_dim)
        folded = F.pixel_unshuffle(x_t, self.patch)  # (B, in_channels * patch^2, rows, columns)
        h = self.stem(folded.flatten(2).transpose(1, 2)) + self.place  # (B, tokens, width)
        for block in self.blocks:
            h = block(h, emb)
        shift, scale = self.steer(emb)[:, None].chunk(2, dim=2)
        out = self.last(self.norm(h) * (1 + scale) + shift)  # (B, tokens, in_channels * patch^2)
        return F.pixel_shuffle(out.transpose(1, 2).reshape(folded.shape), self.patch)

    def _embed(self, t: Tensor, y: Tensor | None) -> Tensor:
        """Return what the blocks are told of the steps t and the labels y, (B, emb_dim)."""
        emb = self.time(timestep_embedding(t, self.emb_dim).to(self.place.dtype))
        if self.label is not None:
            emb = emb + self.label(torch.full_like(t, self.null_label) if y is None else y)
        return F.silu(emb)

    def _check_input(self, x_t: Tensor, t: Tensor, y: Tensor | None) -> None:
        check_input("x_t", x_t, self.place)
        shape = (self.in_channels, self.side, self.side)
        require(x_t.shape[1:] == shape, "x_t", f"have shape (B, {str(shape)[1:]}", x_t)
        check_steps(t, x_t)
        check_told(y, x_t, self.null_label)


class _Block(nn.Module):
    """h + gate * attention(norm(h)), then h + gate * MLP(norm(h)); emb shifts, scales and gates."""

    def __init__(self, width: int, heads: int, emb_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = nn.Linear(width, width)
        hidden = MLP_RATIO * width
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.steer = _zero_linear(emb_dim, 6 * width)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        told = self.steer(emb)[:, None].chunk(6, dim=2)  # each (B, 1, width)
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = told
        h = h + gate * self._attention(self.norm(h) * (1 + scale) + shift)
        return h + gate_mlp * self.mlp(self.norm(h) * (1 + scale_mlp) + shift_mlp)

    def _attention(self, h: Tensor) -> Tensor:
        B, N, width = h.shape
        qkv = self.to_qkv(h).view(B, N, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, N, width/heads)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.to_out(mixed.reshape(B, N, width))  # the heads side by side again


def _zero_linear(in_features: int, out_features: int) -> nn.Linear:
    layer = nn.Linear(in_features, out_features)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
