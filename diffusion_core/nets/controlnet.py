"""ControlNet: a trained U-Net that stays as it is, steered by a second picture.

x_t ------------------- stem -> base's way down ---- skips, middle ----(+)-> base's way up -> out
                                                                        |
x_t -> copy of stem -(+)------> copy of the way down -> zero convolutions
                      |
control -> zero convolution
"""

import copy
import math
from collections.abc import Callable
from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import check_count, check_numbers, kind, require
from .inputs import check_input, check_noisy
from .unet import UNet
from .weights import drawn_from

# The way up, and what tells t and y.
NOT_COPIED = ("time", "label", "ups", "up_blocks", "norm", "last")


def zero_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return a 1x1 convolution whose weights and biases begin at 0."""
    check_count("in_channels", in_channels)
    check_count("out_channels", out_channels)
    with drawn_from(0):
        conv = nn.Conv2d(in_channels, out_channels, 1)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv


class ControlNet(nn.Module):
    """A UNet steered by a picture: forward(x_t, t, y, control=...) answers as the base does.

    skip_i + control_scale * zero_skips[i](skip_i of the copy), and the same for the middle, go up
    through the base; the copy sees stem(x_t) + zero_in(control). A new one is its base, to the bit.

    The base is frozen in place, in evaluation mode, and no child of this module: no optimizer, no
    average, no train() and no state_dict meets it; only to() takes it along. What is stored is the
    control alone. control: (B, control_channels, H, W), x_t, t and y as the base's.
    Raises TypeError unless base is a UNet, ValueError for a control_scale below 0.
    Source: Zhang et al. (2023), section 3.
    """

    def __init__(self, base: UNet, control_channels: int = 1) -> None:
        super().__init__()
        if not isinstance(base, UNet) or base.stem.weight.is_meta:
            raise TypeError(f"base must be a nets.UNet with numbers in it, got {kind(base)}")
        check_count("control_channels", control_channels)
        self.control_channels = control_channels
        self._unregistered = (base.requires_grad_(False).eval(),)  # a tuple makes it no child
        self.encoder = _trainable_copy(base)
        fine, widths = base.stem.out_channels, [down.conv.in_channels for down in base.downs]
        coarse = base.attention.norm.num_channels
        self.zero_in = zero_conv(control_channels * base.patch**2, fine)
        self.zero_skips = nn.ModuleList(zero_conv(width, width) for width in widths)
        self.zero_middle = zero_conv(coarse, coarse)
        self.to(base.stem.weight)

    @property
    def base(self) -> UNet:
        """The frozen network."""
        return self._unregistered[0]

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        y: Tensor | None = None,
        *,
        control: Tensor,
        control_scale: float = 1.0,
    ) -> Tensor:
        self._check_input(x_t, t, y, control, control_scale)
        if control_scale == 0:
            return self.base(x_t, t, y)
        base, emb = self.base, self.base.embed(t, y)
        x, c = (F.pixel_unshuffle(picture, base.patch) for picture in (x_t, control))
        h, skips = base.encode(base.stem(x), emb)
        h_copy, skips_copy = self.encoder.encode(self.encoder.stem(x) + self.zero_in(c), emb)
        h = h + control_scale * self.zero_middle(h_copy)
        added = [zero(skip) for zero, skip in zip(self.zero_skips, skips_copy, strict=True)]
        skips = [skip + control_scale * a for skip, a in zip(skips, added, strict=True)]
        return base.decode(h, skips, emb, x_t)

    def _check_input(self, x_t, t, y, control, control_scale) -> None:
        check_noisy(self.base, x_t, t, y)
        check_input("control", control, self.zero_in.weight)
        shape = (len(x_t), self.control_channels, *x_t.shape[2:])
        require(control.shape == shape, "control", f"have shape {shape}, as x_t has", control)
        check_numbers(0, math.inf, "[)", control_scale=control_scale)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the base, too, wherever to(), double() and the like move the weights."""
        self.base._apply(fn, recurse)
        return super()._apply(fn, recurse)


def _trainable_copy(base: UNet) -> UNet:
    """Return a copy of a UNet's way down: stem, down_blocks, downs and the middle."""
    encoder = copy.deepcopy(base).requires_grad_(True).train()
    for part in NOT_COPIED:
        delattr(encoder, part)
    return encoder
