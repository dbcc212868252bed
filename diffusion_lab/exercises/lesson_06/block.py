"""The residual block."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diffusion_core import nets

from ..exercise import Exercise

DTYPES = (torch.float64, torch.float32)


def drawn(module: nn.Module, generator: torch.Generator) -> nn.Module:
    """Return a module with fresh weights everywhere, also where a new one has zeros and ones."""
    with torch.no_grad():
        for weight in module.parameters():
            fresh = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
            weight.copy_(0.5 * fresh + (weight.ndim == 1))
    return module.requires_grad_(False)


def _blocks(generator: torch.Generator) -> list[tuple]:
    """Blocks that keep the number of channels, and some that change it.

    Height B and width `out` let from_t(emb) be added without its two axes: so that is recognised.
    """
    cases = []
    for dtype in DTYPES:
        for B, inside, out in ((2, 8, 8), (3, 8, 16), (1, 16, 8)):
            block = drawn(nets.ResBlock(inside, out, 6).to(dtype), generator)
            x = torch.randn(B, inside, B, out, generator=generator, dtype=dtype)
            cases.append((block, x, torch.randn(B, 6, generator=generator, dtype=dtype)))
    return cases


def _block(
    first: Callable = lambda block, x: F.silu(block.norm1(x)),
    told: Callable = lambda block, h, c: block.norm2(h + c),
    last: Callable = lambda block, h: block.conv2(F.silu(h)),
    join: Callable = lambda block, x, h: block.shortcut(x) + h,
) -> Callable:
    """The residual block, with another way in one of its parts."""

    def forward(block: nn.Module, x: Tensor, emb: Tensor) -> Tensor:
        h = block.conv1(first(block, x))
        return join(block, x, last(block, told(block, h, block.from_t(emb)[:, :, None, None])))

    return forward


def _backwards(block: nn.Module, x: Tensor, emb: Tensor, late: bool = False) -> Tensor:
    """A block that convolves before it normalises and bends."""
    told = block.from_t(emb)[:, :, None, None]
    h = F.silu(block.norm1(block.conv1(x) + (0 if late else told))) + (told if late else 0)
    return block.shortcut(x) + F.silu(block.norm2(block.conv2(h)))


def _too_late(block: nn.Module, x: Tensor, emb: Tensor) -> Tensor:
    """A block that is told emb behind conv2."""
    untold = _block(told=lambda block, h, c: block.norm2(h))
    return untold(block, x, emb) + block.from_t(emb)[:, :, None, None]


EXERCISES = {
    "06.2": Exercise(
        truth=_block(),
        cases=_blocks,
        mistakes={
            "The shortcut is missing: a new block, whose conv2 is zero, would answer 0.": _block(
                join=lambda block, x, h: h
            ),
            "The block is not told emb: from_t is never used.": _block(
                told=lambda block, h, c: block.norm2(h)
            ),
            "emb comes too late: it is added before norm2, right after conv1.": _block(
                told=lambda block, h, c: block.norm2(h) + c
            ),
            "emb comes too late: the number is added between conv1 and norm2, not behind conv2.": (
                _too_late
            ),
            "from_t(emb) lacks two axes: with [:, :, None, None] each channel gets its number at "
            "every pixel.": _block(told=lambda block, h, c: block.norm2(h + c[:, :, 0, 0])),
            "norm1 is used twice: the second half has norm2.": _block(
                told=lambda block, h, c: block.norm1(h + c)
            ),
            "The order is normalise, bend, convolve: both halves of yours convolve first.": (
                _backwards
            ),
            "The order is normalise, bend, convolve; the number is added between conv1 and "
            "norm2.": lambda *case: _backwards(*case, late=True),
            "x itself is added: where the number of channels changes, only block.shortcut(x) "
            "fits.": _block(join=lambda block, x, h: x + h),
            "emb is added once more than it should be.": _block(
                told=lambda block, h, c: block.norm2(h + c) + c
            ),
            "The first half does not bend: SiLU is missing before conv1.": _block(
                first=lambda block, x: block.norm1(x)
            ),
            "The second half does not bend: SiLU is missing before conv2.": _block(
                last=lambda block, h: block.conv2(h)
            ),
            "The second half is not normalised: norm2 is missing.": _block(
                told=lambda block, h, c: h + c
            ),
            "The first half is not normalised: norm1 is missing.": _block(
                first=lambda block, x: F.silu(x)
            ),
            "The order is normalise, bend, convolve; your first half bends before it "
            "normalises.": _block(first=lambda block, x: block.norm1(F.silu(x))),
            "The order is normalise, bend, convolve; your second half bends before it "
            "normalises.": _block(
                told=lambda block, h, c: block.norm2(F.silu(h + c)), last=lambda b, h: b.conv2(h)
            ),
            "Nothing bends behind the sum: the result has no SiLU.": _block(
                join=lambda block, x, h: F.silu(block.shortcut(x) + h)
            ),
            "The shortcut takes what norm1 and SiLU have made: it is the block's input that is "
            "added.": _block(join=lambda block, x, h: block.shortcut(F.silu(block.norm1(x))) + h),
        },
        hints=(
            "Each half is three calls: h = block.conv1(F.silu(block.norm1(x))) is the first.",
            "block.from_t(emb) is (B, channels). Give it two more axes, so that each channel gets "
            "its number at every pixel.",
            "Between conv1 and norm2 the number is added; the shortcut is added at the very end.",
        ),
    ),
}
