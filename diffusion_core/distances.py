"""Squared distances of many points from many others, exact in value and in every derivative."""

from functools import reduce

import torch
from torch import Tensor

from .checks import without_autocast


def squared_distances(x: Tensor, means: Tensor) -> Tensor:
    """Return |x_b - m_k|^2, shape (B, K): 0 for equal points, with right derivatives of any order.

    torch.cdist has no second derivatives, and wrong first ones under torch.func. So with many
    coordinates only the value is its own, and the derivatives are those of |x|^2 - 2 x m + |m|^2.
    """
    if x.shape[1] <= 8:
        columns = zip(x.unbind(1), means.unbind(1), strict=True)
        return reduce(torch.add, ((a[:, None] - b).square() for a, b in columns))
    by_differences = "donot_use_mm_for_euclid_dist"
    value = torch.cdist(x.detach(), means.detach(), compute_mode=by_differences).square()
    if x.device.type not in ("mps", "meta") and torch.is_autocast_enabled(x.device.type):
        x, means = x.double(), means.double()  # the derivatives, too, are taken under autocast
    with without_autocast(x):
        rounded = x.square().sum(1, keepdim=True) - 2 * x @ means.mT + means.square().sum(1)
        return value + (rounded - rounded.detach()).to(value)
