"""The way through a U-Net."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_core import nets

from ..exercise import Exercise
from .block import DTYPES, drawn


def _refuse_nothing(part: nn.Module, given: tuple) -> None:
    if given and given[0] is None:
        raise ValueError("my_block answers None: do exercise 2 first")


def _refuse_half(norm: nn.GroupNorm, given: tuple) -> None:
    if 2 * given[0].shape[1] == norm.num_channels:
        raise ValueError(
            "up_blocks[0] needs twice as many channels: lay what comes from up and what was kept "
            "side by side with torch.cat"
        )


def _explaining(net: nn.Module) -> nn.Module:
    """Let a network say what is wrong, where torch's own error would not."""
    for part in net.modules():
        part.register_forward_pre_hook(_refuse_nothing)
    net.up_blocks[0].norm1.register_forward_pre_hook(_refuse_half)
    return net


def _nets(generator: torch.Generator) -> list[tuple]:
    cases = []
    for dtype in DTYPES:
        for B, height, gain in ((2, 8, False), (1, 4, True)):  # with gain: two channels come out
            net = _explaining(nets.UNet(widths=(8, 16), heads=2, emb_dim=6, gain=gain))
            x_t = torch.randn(B, 1, height, 8, generator=generator, dtype=dtype)
            emb = torch.randn(B, 6, generator=generator, dtype=dtype)
            cases.append((drawn(net.to(dtype), generator), x_t, emb))
    return cases


def _middle(net: nn.Module, h: Tensor, emb: Tensor) -> Tensor:
    return net.middle_out(net.attention(net.middle_in(h, emb)), emb)


def _unet(
    middle: Callable = _middle,
    keep: Callable = lambda net, stem, h: h,
    join: Callable = lambda up, skip: torch.cat([up, skip], 1),
    last: Callable = lambda net, h: net.last(F.silu(net.norm(h))),
) -> Callable:
    """The way through a U-Net of two levels, with another way in one of its parts."""

    def forward(net: nn.Module, x_t: Tensor, emb: Tensor) -> Tensor:
        stem = net.stem(F.pixel_unshuffle(x_t, 2))
        h = net.down_blocks[0](stem, emb)
        skip, deep = keep(net, stem, h), middle(net, net.downs[0](h), emb)
        h = net.up_blocks[0](join(net.ups[0](deep), skip), emb)
        return F.pixel_shuffle(last(net, h), 2)

    return forward


EXERCISES = {
    "06.3": Exercise(
        truth=_unet(),
        cases=_nets,
        mistakes={
            "The two are laid together in the wrong order: first what comes from up, then what "
            "was kept.": _unet(join=lambda up, skip: torch.cat([skip, up], 1)),
            "What is kept for the way up is the answer of the first block, not that of stem.": (
                _unet(keep=lambda net, stem, h: stem)
            ),
            "Nothing was kept: what comes from up is laid beside itself.": _unet(
                join=lambda up, skip: torch.cat([up, up], 1)
            ),
            "What comes from up is left out: the kept part is laid beside itself.": _unet(
                join=lambda up, skip: torch.cat([skip, skip], 1)
            ),
            "The attention is left out.": _unet(
                middle=lambda net, h, emb: net.middle_out(net.middle_in(h, emb), emb)
            ),
            "The attention comes too early: middle_in is before it.": _unet(
                middle=lambda net, h, emb: net.middle_out(net.middle_in(net.attention(h), emb), emb)
            ),
            "The attention comes too late: middle_out is after it.": _unet(
                middle=lambda net, h, emb: net.attention(net.middle_out(net.middle_in(h, emb), emb))
            ),
            "middle_in is left out.": _unet(
                middle=lambda net, h, emb: net.middle_out(net.attention(h), emb)
            ),
            "middle_out is left out.": _unet(
                middle=lambda net, h, emb: net.attention(net.middle_in(h, emb))
            ),
            "norm and SiLU before last are missing.": _unet(last=lambda net, h: net.last(h)),
            "The answer is still folded: F.pixel_shuffle(h, 2) is missing at the end.": (
                lambda net, x_t, emb: F.pixel_unshuffle(_unet()(net, x_t, emb), 2)
            ),
            "norm is left out, before the last convolution.": _unet(
                last=lambda net, h: net.last(F.silu(h))
            ),
            "SiLU is left out, before the last convolution.": _unet(
                last=lambda net, h: net.last(net.norm(h))
            ),
            "Nothing bends behind the last convolution: the answer needs both signs.": _unet(
                last=lambda net, h: F.silu(net.last(F.silu(net.norm(h))))
            ),
            "The answer is added to x_t. The network says v by itself.": lambda net, x_t, emb: (
                x_t + _unet()(net, x_t, emb)
            ),
        },
        hints=(
            "Follow the diagram from left to right, one line for each arrow. Which h is kept?",
            "The kept h is that before down. In the middle: middle_in, attention, middle_out.",
            "torch.cat([from up, kept], dim=1) doubles the channels; up_blocks[0] halves them.",
        ),
    ),
}
