"""Guidance: from a network that knows labels to an eps_model that leans towards one."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .checks import (
    check_alike,
    check_count,
    check_finite,
    check_kinds,
    check_labels,
    like_input,
    require,
)
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
    check_kinds(**{"model(x_t, t, y)": model})
    check_labels(y)
    ok = isinstance(guidance_scale, int | float) and 0 <= guidance_scale < math.inf
    require(ok, "guidance_scale", "be at least 0, and finite", guidance_scale)

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        check_alike(x_t=x_t)
        told = like_input(model(x_t, t, y), x_t)
        untold = like_input(model(x_t, t), x_t) if guidance_scale != 1 else told
        answers = {"x_t": x_t, "model(x_t, t, y)": told, "model(x_t, t)": untold}
        check_alike(**answers)
        if guidance_scale == 1:
            return check_finite(told, **answers)
        return check_finite(untold + guidance_scale * (told - untold), **answers)

    return guided


def drop_labels(
    y: Tensor, null_label: int, share: float = 0.1, *, generator: torch.Generator | None = None
) -> Tensor:
    """Return the labels y (B,) with each replaced by null_label with probability `share`.

    Training on these teaches one network to answer with and without a label.
    Raises ValueError unless share is in [0, 1]. Source: Ho and Salimans (2022), Algorithm 1.
    """
    check_kinds(generator=generator)
    check_labels(y)
    check_count("null_label", null_label, lowest=0)
    require(null_label <= torch.iinfo(y.dtype).max, "null_label", f"fit into {y.dtype}", null_label)
    require(isinstance(share, int | float) and 0 <= share <= 1, "share", "be in [0, 1]", share)
    device = (generator or y).device
    draws = torch.rand(len(y), generator=generator, dtype=torch.float32, device=device)
    return y.masked_fill(draws.to(y.device) < share, null_label)
