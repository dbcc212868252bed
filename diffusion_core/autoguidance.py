"""Guidance by a worse network of the same kind, and guidance in a part of the way only."""

import sys

import torch
from torch import Tensor

from .checks import check_alike, check_count, check_finite, check_kinds, check_t, like_input
from .guidance import led
from .predictions import Model


def autoguided(model: Model, weak: Model, *, guidance_scale: float = 2.0) -> Model:
    """Return (x_t, t) -> weak(x_t, t) + guidance_scale [model(x_t, t) - weak(x_t, t)].

    weak is a worse model of the same data: smaller, or less trained. Where it errs c > 1 times as
    far as the model in the same direction, the errors cancel at guidance_scale c / (c - 1).
    Scale 0 is weak, 1 the model, of one call each, others of two. Both must predict the same, eps,
    v or x0, and be told the same label, if any: functools.partial(model, y=y).
    Raises ValueError for a negative guidance_scale. Source: Karras et al. (2024), equation 3.
    """
    check_kinds(**{"model(x_t, t)": model, "weak(x_t, t)": weak})
    return led({"weak(x_t, t)": weak, "model(x_t, t)": model}, guidance_scale)


def limited(guided: Model, plain: Model, lowest: int, highest: int) -> Model:
    """Return (x_t, t) -> guided(x_t, t) where lowest <= t <= highest, plain(x_t, t) elsewhere.

    A model that no example needs is not called; else it sees the whole batch. t an integer or (B,).
    Both must predict the same. Raises ValueError unless 0 <= lowest <= highest.
    Source: Kynkäänniemi et al. (2024), equation 5, whose interval is one of noise levels
    sigma: t rises with sigma = schedule.snr[t] ** -0.5.
    """
    check_kinds(guided=guided, plain=plain)
    check_count("lowest", lowest, lowest=0)
    check_count("highest", highest, lowest=lowest)

    def chosen(x_t: Tensor, t: Tensor | int) -> Tensor:
        check_alike(x_t=x_t)
        steps = torch.as_tensor(check_t(t, x_t, sys.maxsize), device="cpu")
        inside = (lowest <= steps) & (steps <= highest)
        asked = {"guided(x_t, t)": guided} if inside.any() else {}
        asked |= {} if inside.all() else {"plain(x_t, t)": plain}
        answers = {name: like_input(model(x_t, t), x_t) for name, model in asked.items()}
        check_alike(x_t=x_t, **answers)
        first, *_, last = [*answers.values()] * 2
        inside = inside.to(x_t.device).reshape(-1, *[1] * (x_t.ndim - 1))
        return check_finite(torch.where(inside, first, last), **answers)

    return chosen
