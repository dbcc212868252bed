"""The blocks of a U-Net, each to be read on its own."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .inputs import check_block, check_channels, check_images, check_sizes

GROUPS = 8  # GroupNorm normalises each example in 8 groups of channels: it never sees the batch


class ResBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut; the step t shifts the channels between them.

    h = conv1(SiLU(norm1(x))); h = norm2(h + Linear(emb)); return shortcut(x) + conv2(SiLU(h)).
    With scale_shift the step scales them, too: h = (1 + scale) norm2(h) + shift, both from emb.
    x: (B, C_in, H, W), emb: (B, E). Returns (B, C_out, H, W).
    Source: He et al. 2016; Ho et al. 2020, appendix B; Dhariwal & Nichol 2021, section 3.
    """

    def __init__(
        self, in_channels: int, out_channels: int, emb_dim: int, *, scale_shift: bool = False
    ) -> None:
        super().__init__()
        check_sizes(GROUPS, in_channels=in_channels, out_channels=out_channels, emb_dim=emb_dim)
        self.scale_shift = scale_shift
        self.norm1 = nn.GroupNorm(GROUPS, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.from_t = nn.Linear(emb_dim, out_channels * (2 if scale_shift else 1))
        self.norm2 = nn.GroupNorm(GROUPS, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)
        nn.init.zeros_(self.conv2.weight)  # a new block is its shortcut alone: training adds to it
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        check_block(x, emb, self.conv1, self.from_t)
        h = self.conv1(F.silu(self.norm1(x)))  # (B, C_out, H, W)
        told = self.from_t(emb)[:, :, None, None]  # (B, ..., 1, 1): the same at every pixel
        if self.scale_shift:
            shift, scale = told.chunk(2, dim=1)
            h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        else:
            h = self.norm2(h + told)
        return self.shortcut(x) + self.conv2(F.silu(h))  # (B, C_out, H, W)


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
