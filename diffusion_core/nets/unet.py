"""A small U-Net for images, made of the blocks in blocks.py.

x_t -> stem -> ResBlock ---------------- skip ---------------> cat -> ResBlock -> last -> out
                  |                                             |
                 Down -> ResBlock -> SelfAttention -> ResBlock -> Up

With gain, last makes d and k, and out is d + k x_t.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import GROUPS, Down, ResBlock, SelfAttention, Up
from .embeddings import check_even, timestep_embedding
from .inputs import check_noisy, check_unet
from .weights import drawn_from


class UNet(nn.Module):
    """A U-Net: forward(x_t, t) -> eps_hat (or v, or x0_hat: as trained), of the shape of x_t.

    widths: the channels at each resolution, finest first; the side halves from one to the next.
    patch: the stem folds each patch x patch square into channels, the end unfolds it: the dearest
    layers work on patch^2 fewer pixels. The last layer starts at zero: a new net answers 0.
    classes: how many labels y (B,) it can be told; without y it gets null_label = classes.
    scale_shift: t and y scale the channels of each block, too: see `ResBlock`.
    gain: the answer is d + k x_t, d and k of x_t's shape; at small t both are large: use float32.

    x_t: (B, in_channels, H, W), t: (B,) integers. Raises ValueError for any other shape, or if
    patch * 2**(len(widths) - 1) does not divide H and W. The weights follow from seed alone.
    Source: Ronneberger et al. 2015; Ho et al. 2020, appendix B; Nichol & Dhariwal 2021.
    """

    def __init__(
        self,
        in_channels: int = 1,
        widths: tuple[int, ...] = (32, 64),
        patch: int = 2,
        *,
        heads: int = 4,
        emb_dim: int = 128,
        classes: int = 0,
        scale_shift: bool = False,
        gain: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_unet(GROUPS, in_channels, widths, patch, heads, classes=classes)
        check_even("emb_dim", emb_dim)
        self.in_channels, self.patch, self.emb_dim = in_channels, patch, emb_dim
        self.gain = gain
        self.factor = patch * 2 ** (len(widths) - 1)  # what H and W must be divisible by
        self.null_label = classes
        with drawn_from(seed):
            block = partial(ResBlock, emb_dim=emb_dim, scale_shift=scale_shift)
            self._build(in_channels * patch**2, widths, heads, block)
            self.label = nn.Embedding(classes + 1, emb_dim) if classes else None
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.to(memory_format=torch.channels_last)  # the same numbers, laid out to be faster

    def _build(self, folded: int, widths: tuple[int, ...], heads: int, block: Callable) -> None:
        E, fine, coarse = self.emb_dim, widths[0], widths[-1]
        steps = list(pairwise(widths))  # (finer, coarser) pairs
        self.time = nn.Sequential(nn.Linear(E, E), nn.SiLU(), nn.Linear(E, E), nn.SiLU())
        self.stem = nn.Conv2d(folded, fine, 3, padding=1)
        self.down_blocks = nn.ModuleList(block(a, a) for a, b in steps)
        self.downs = nn.ModuleList(Down(a, b) for a, b in steps)
        self.middle_in = block(coarse, coarse)
        self.attention = SelfAttention(coarse, heads)
        self.middle_out = block(coarse, coarse)
        self.ups = nn.ModuleList(Up(b, a) for a, b in reversed(steps))
        self.up_blocks = nn.ModuleList(block(2 * a, a) for a, b in reversed(steps))
        self.norm = nn.GroupNorm(GROUPS, fine)
        self.last = nn.Conv2d(fine, folded * (2 if self.gain else 1), 3, padding=1)

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        check_noisy(self, x_t, t, y)
        emb = self.embed(t, y)  # (B, emb_dim)
        h = self.stem(F.pixel_unshuffle(x_t, self.patch))  # (B, widths[0], H/patch, W/patch)
        h, skips = self.encode(h, emb)  # (B, widths[-1], ...), and what it was on the way
        return self.decode(h, skips, emb, x_t)  # (B, in_channels, H, W)

    def embed(self, t: Tensor, y: Tensor | None) -> Tensor:
        """Return what the blocks are told of the steps t and the labels y, (B, emb_dim)."""
        emb = self.time(timestep_embedding(t, self.emb_dim).to(self.stem.weight.dtype))
        if self.label is None:
            return emb
        return emb + self.label(torch.full_like(t, self.null_label) if y is None else y)

    def encode(self, h: Tensor, emb: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Walk down from the stem's h; return the middle (B, widths[-1], ...) and the skips."""
        skips = []
        for block, down in zip(self.down_blocks, self.downs, strict=True):
            h = block(h, emb)
            skips.append(h)  # kept for the way up, where its details are needed again
            h = down(h)  # (B, next width, half the side)
        return self.middle_out(self.attention(self.middle_in(h, emb)), emb), skips

    def decode(self, h: Tensor, skips: list[Tensor], emb: Tensor, x_t: Tensor) -> Tensor:
        """Walk up from the middle, with the skips, to the answer to x_t (B, in_channels, H, W)."""
        for up, block, skip in zip(self.ups, self.up_blocks, reversed(skips), strict=True):
            h = torch.cat([up(h), skip], dim=1)  # (B, 2 * width, twice the side)
            h = block(h, emb)  # (B, width, the same side)
        h = self.last(F.silu(self.norm(h)))  # no activation follows: the answer has both signs
        h = F.pixel_shuffle(h, self.patch)  # (B, in_channels, H, W); with gain, twice the channels
        if not self.gain:
            return h
        d, k = h.chunk(2, dim=1)
        return d + k * x_t
