"""A small U-Net for images, in blocks that can each be read on their own.

x_t -> stem -> ResBlock ---------------- skip ---------------> cat -> ResBlock -> last -> out
                  |                                             |
                 Down -> ResBlock -> SelfAttention -> ResBlock -> Up
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import require
from .embeddings import check_even, check_steps, timestep_embedding
from .inputs import (
    check_block,
    check_channels,
    check_floats,
    check_images,
    check_sizes,
    check_told,
    check_unet,
)
from .weights import drawn_from

GROUPS = 8  # GroupNorm normalises each example in 8 groups of channels: it never sees the batch


class ResBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut; the step t shifts the channels between them.

    h = conv1(SiLU(norm1(x))); h = h + Linear(emb); return shortcut(x) + conv2(SiLU(norm2(h))).
    x: (B, C_in, H, W), emb: (B, E). Returns (B, C_out, H, W).
    Source: He et al. 2016; Ho et al. 2020, appendix B.
    """

    def __init__(self, in_channels: int, out_channels: int, emb_dim: int) -> None:
        super().__init__()
        check_sizes(GROUPS, in_channels=in_channels, out_channels=out_channels, emb_dim=emb_dim)
        self.norm1 = nn.GroupNorm(GROUPS, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.from_t = nn.Linear(emb_dim, out_channels)
        self.norm2 = nn.GroupNorm(GROUPS, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)
        nn.init.zeros_(self.conv2.weight)  # a new block is its shortcut alone: training adds to it
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        check_block(x, emb, self.conv1, self.from_t)
        h = self.conv1(F.silu(self.norm1(x)))  # (B, C_out, H, W)
        h = h + self.from_t(emb)[:, :, None, None]  # + (B, C_out, 1, 1): the same at every pixel
        h = self.conv2(F.silu(self.norm2(h)))  # (B, C_out, H, W)
        return self.shortcut(x) + h


class SelfAttention(nn.Module):
    """Let every pixel look at every other: the only layer that sees the whole image at once.

    softmax(q k^T / sqrt(C / heads)) v over the H*W pixels, added to x.
    x: (B, C, H, W). Returns (B, C, H, W). Cost grows as (H*W)^2, so it sits where H*W is least.
    Source: Vaswani et al. 2017, eq. 1; several heads as in Nichol & Dhariwal 2021.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        check_sizes(GROUPS, channels=channels, heads=heads)
        self.heads = heads
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.to_qkv = nn.Linear(channels, 3 * channels)
        self.to_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.to_qkv)
        B, C, H, W = x.shape
        pixels = self.norm(x).flatten(2).transpose(1, 2)  # (B, H*W, C)
        qkv = self.to_qkv(pixels).view(B, H * W, 3, self.heads, C // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, H*W, C/heads)
        mixed = F.scaled_dot_product_attention(q, k, v)  # (B, heads, H*W, C/heads)
        mixed = mixed.transpose(1, 2).reshape(B, H * W, C)  # the heads side by side again
        return x + self.to_out(mixed).transpose(1, 2).reshape(B, C, H, W)


class Down(nn.Module):
    """Halve the side: a 3x3 convolution at every second pixel.

    x: (B, C_in, H, W). Returns (B, C_out, H/2, W/2).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        check_channels(in_channels, out_channels)
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.conv)
        return self.conv(x)


class Up(nn.Module):
    """Double the side: repeat each pixel two by two, then convolve.

    x: (B, C_in, H, W). Returns (B, C_out, 2H, 2W).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        check_channels(in_channels, out_channels)
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.conv)
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class UNet(nn.Module):
    """A U-Net: forward(x_t, t) -> eps_hat (or v, or x0_hat: as trained), of the shape of x_t.

    widths: the channels at each resolution, finest first; the side halves from one to the next.
    patch: the stem folds each patch x patch square into channels, so that the dearest layers work
    on patch^2 fewer pixels; the end unfolds it. 1 leaves the image as it is.
    No activation follows the last layer, which starts at zero: a new net answers 0.
    classes: how many labels y (B,) it can be told; without y it gets null_label = classes.

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
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_unet(GROUPS, in_channels, widths, patch, heads, classes=classes)
        check_even("emb_dim", emb_dim)
        self.in_channels, self.patch, self.emb_dim = in_channels, patch, emb_dim
        self.factor = patch * 2 ** (len(widths) - 1)  # what H and W must be divisible by
        self.null_label = classes
        with drawn_from(seed):
            self._build(in_channels * patch**2, widths, heads)
            self.label = nn.Embedding(classes + 1, emb_dim) if classes else None
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.to(memory_format=torch.channels_last)  # the same numbers, laid out to be faster

    def _build(self, folded: int, widths: tuple[int, ...], heads: int) -> None:
        E, fine, coarse = self.emb_dim, widths[0], widths[-1]
        steps = list(pairwise(widths))  # (finer, coarser) pairs
        self.time = nn.Sequential(nn.Linear(E, E), nn.SiLU(), nn.Linear(E, E), nn.SiLU())
        self.stem = nn.Conv2d(folded, fine, 3, padding=1)
        self.down_blocks = nn.ModuleList(ResBlock(a, a, E) for a, b in steps)
        self.downs = nn.ModuleList(Down(a, b) for a, b in steps)
        self.middle_in = ResBlock(coarse, coarse, E)
        self.attention = SelfAttention(coarse, heads)
        self.middle_out = ResBlock(coarse, coarse, E)
        self.ups = nn.ModuleList(Up(b, a) for a, b in reversed(steps))
        self.up_blocks = nn.ModuleList(ResBlock(2 * a, a, E) for a, b in reversed(steps))
        self.norm = nn.GroupNorm(GROUPS, fine)
        self.last = nn.Conv2d(fine, folded, 3, padding=1)

    def forward(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        self._check_input(x_t, t, y)
        emb = self.time(timestep_embedding(t, self.emb_dim))  # (B, emb_dim)
        if self.label is not None:
            emb = emb + self.label(torch.full_like(t, self.null_label) if y is None else y)
        h = self.stem(F.pixel_unshuffle(x_t, self.patch))  # (B, widths[0], H/patch, W/patch)
        skips = []
        for block, down in zip(self.down_blocks, self.downs, strict=True):
            h = block(h, emb)
            skips.append(h)  # kept for the way up, where its details are needed again
            h = down(h)  # (B, next width, half the side)
        h = self.middle_out(self.attention(self.middle_in(h, emb)), emb)  # (B, widths[-1], ...)
        for up, block in zip(self.ups, self.up_blocks, strict=True):
            h = torch.cat([up(h), skips.pop()], dim=1)  # (B, 2 * width, twice the side)
            h = block(h, emb)  # (B, width, the same side)
        h = self.last(F.silu(self.norm(h)))  # (B, in_channels * patch^2, H/patch, W/patch)
        return F.pixel_shuffle(h, self.patch)  # (B, in_channels, H, W)

    def _check_input(self, x_t: Tensor, t: Tensor, y: Tensor | None) -> None:
        check_floats("x_t", x_t, self.stem.weight)
        shape = tuple(x_t.shape)
        if x_t.ndim != 4 or x_t.shape[1] != self.in_channels:
            raise ValueError(f"x_t must have shape (B, {self.in_channels}, H, W), got {shape}")
        if 0 in shape[2:] or x_t.shape[2] % self.factor or x_t.shape[3] % self.factor:
            wanted = f"H and W divisible by {self.factor} = patch * 2**(len(widths) - 1)"
            raise ValueError(f"x_t must have {wanted}, got {shape}")
        least = len(x_t) * self.attention.norm.num_channels * shape[2] * shape[3]
        require(least != GROUPS * self.factor**2, "x_t", "have more pixels, to normalise", x_t)
        check_steps(t, x_t)
        check_told(y, x_t, self.null_label)
