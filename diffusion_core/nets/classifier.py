"""A small convolutional classifier: the judge of generated digits."""

import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import require
from .inputs import check_floats
from .weights import drawn_from


class Classifier(nn.Module):
    """Say which digit it is: forward(x) -> logits (B, 10); features(x) -> (B, 64).

    Three convolutions take 28 x 28 pixels to 64 channels of 7 x 7, a linear map makes the 64
    features, another the logits. x: (B, 1, 28, 28) in [-1, 1], else ValueError is raised.
    The weights follow from seed alone.
    """

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__()
        with drawn_from(seed):
            self.conv1 = nn.Conv2d(1, 32, 5, stride=2, padding=2)
            self.conv2 = nn.Conv2d(32, 64, 3, stride=2, padding=1)
            self.conv3 = nn.Conv2d(64, 64, 3, padding=1)
            self.norm1, self.norm2, self.norm3 = (nn.BatchNorm2d(c) for c in (32, 64, 64))
            self.to_features = nn.Linear(64 * 7 * 7, 64)
            self.to_logits = nn.Linear(64, 10)

    def features(self, x: Tensor) -> Tensor:
        """Return 64 numbers for each image: what the logits are made of."""
        check_floats("x", x, self.conv1.weight)
        require(x.shape[1:] == (1, 28, 28), "x", "have shape (B, 1, 28, 28)", x)
        h = F.silu(self.norm1(self.conv1(x)))  # (B, 32, 14, 14)
        h = F.silu(self.norm2(self.conv2(h)))  # (B, 64, 7, 7)
        h = F.silu(self.norm3(self.conv3(h)))
        return F.silu(self.to_features(h.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.to_logits(self.features(x))
