"""Guidance: from a network that knows labels to an eps_model that leans towards one."""

from collections.abc import Callable

import torch
from torch import Tensor

from .checks import like_input
from .predictions import Model


def classifier_free(
    model: Callable[..., Tensor], y: Tensor, *, guidance_scale: float = 1.0
) -> Model:
    """Return (x_t, t) -> m(x_t, t) + guidance_scale [m(x_t, t, y) - m(x_t, t)], m the model.

    guidance_scale 0 ignores the labels y, 1 is the conditional model as it was trained, more
    pushes away from what all labels share. A model that predicts v or x0 may be guided before it
    is converted: these are affine in eps, and the weights above sum to 1.
    y (B,) integers. model(x_t, t) must answer for no label, as nets.UNet with classes does.
    Raises ValueError for a negative guidance_scale. Source: Ho and Salimans (2022), equation 6,
    whose w is guidance_scale - 1.
    """
    if not guidance_scale >= 0:
        raise ValueError(f"guidance_scale must be at least 0, got {guidance_scale}")

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        told = like_input(model(x_t, t, y), x_t)
        if guidance_scale == 1:
            return told
        untold = like_input(model(x_t, t), x_t)
        return untold + guidance_scale * (told - untold)

    return guided


def drop_labels(
    y: Tensor, null_label: int, share: float = 0.1, *, generator: torch.Generator | None = None
) -> Tensor:
    """Return the labels y (B,) with each replaced by null_label with probability `share`.

    Training on these teaches one network to answer with and without a label.
    Raises ValueError unless share is in [0, 1]. Source: Ho and Salimans (2022), Algorithm 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1], got {share}")
    device = (generator or y).device
    draws = torch.rand(len(y), generator=generator, dtype=torch.float32, device=device)
    return y.masked_fill(draws.to(y.device) < share, null_label)
