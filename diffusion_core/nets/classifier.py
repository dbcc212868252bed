"""A small convolutional classifier: the judge of generated digits."""

import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import check_count, require
from .inputs import check_input
from .weights import drawn_from


class Classifier(nn.Module):
    """Say which digit it is: forward(x) -> logits (B, 10); features(x) -> (B, widths[2]).

    Three convolutions take 28 x 28 pixels to widths[2] channels of 7 x 7, a linear map makes as
    many features, another the logits. x: (B, 1, 28, 28) in [-1, 1].
    The weights follow from seed alone. Raises ValueError for other images or for no three widths.
    """

    def __init__(self, widths: tuple[int, int, int] = (32, 64, 64), *, seed: int = 0) -> None:
        super().__init__()
        three = isinstance(widths, tuple | list) and len(widths) == 3
        require(three, "widths", "be three numbers of channels", widths)
        for i, width in enumerate(widths):
            check_count(f"widths[{i}]", width)
        first, second, last = widths
        with drawn_from(seed):
            self.conv1 = nn.Conv2d(1, first, 5, stride=2, padding=2)
            self.conv2 = nn.Conv2d(first, second, 3, stride=2, padding=1)
            self.conv3 = nn.Conv2d(second, last, 3, padding=1)
            self.norm1, self.norm2, self.norm3 = (nn.BatchNorm2d(c) for c in widths)
            self.to_features = nn.Linear(last * 7 * 7, last)
            self.to_logits = nn.Linear(last, 10)

    def features(self, x: Tensor) -> Tensor:
        """Return widths[2] numbers for each image: what the logits are made of."""
        check_input("x", x, self.conv1.weight)
        require(x.shape[1:] == (1, 28, 28), "x", "have shape (B, 1, 28, 28)", x)
        h = F.silu(self.norm1(self.conv1(x)))  # (B, widths[0], 14, 14)
        h = F.silu(self.norm2(self.conv2(h)))  # (B, widths[1], 7, 7)
        h = F.silu(self.norm3(self.conv3(h)))
        return F.silu(self.to_features(h.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.to_logits(self.features(x))
