"""Folding a picture: 2 x 2 pixels become four channels."""

import torch
from torch import Tensor, nn

from ..exercise import Exercise

DTYPES = (torch.float64, torch.float32)


def _unfolded(generator: torch.Generator) -> list[tuple]:
    shapes = ((1, 1, 4, 4), (2, 1, 4, 6), (3, 1, 8, 2))
    cases = [torch.randn(*s, generator=generator, dtype=d) for d in DTYPES for s in shapes]
    return [(x,) for x in cases]


def _squares(x: Tensor, *order: int) -> Tensor:
    """Cut into squares of 2 x 2, and write these axes out in another order."""
    B, _, H, W = x.shape
    return x.reshape(B, H // 2, 2, W // 2, 2).permute(*order).reshape(B, 4, H // 2, W // 2)


def _quadrants(x: Tensor) -> Tensor:
    B, _, H, W = x.shape
    return x.reshape(B, 2, H // 2, 2, W // 2).permute(0, 1, 3, 2, 4).reshape(B, 4, H // 2, W // 2)


EXERCISES = {
    "06.1": Exercise(
        truth=lambda x: nn.functional.pixel_unshuffle(x, 2),
        cases=_unfolded,
        mistakes={
            "Cutting the numbers into four rows in their order does not make squares: split the "
            "rows and the columns first.": lambda x: x.reshape(
                len(x), 4, x.shape[2] // 2, x.shape[3] // 2
            ),
            "These are the four quarters of the picture. H is split into H/2 pairs of rows: the "
            "2 comes after H/2.": _quadrants,
            "Rows and columns have changed places in the channels: the row within the square "
            "counts twice.": lambda x: _squares(x, 0, 4, 2, 1, 3),
            "The axes within the square should come first. permute moves them before H/2 and "
            "W/2.": lambda x: _squares(x, 0, 1, 3, 2, 4),
            "The picture is transposed: H/2 comes before W/2.": lambda x: _squares(
                x, 0, 2, 4, 3, 1
            ),
        },
        hints=(
            "reshape can split one axis into two: H becomes H/2 and 2, in this order.",
            "After the split there are five axes: B, H/2, row, W/2, column. Which order is asked?",
            "The four numbers of a square are the channel: in the order that permute makes, row "
            "and column stand side by side, right after B.",
        ),
    ),
}
