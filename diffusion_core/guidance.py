"""Guidance: an eps_model that leans towards a label, by a network told of it or by a classifier."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .checks import (
    check_alike,
    check_count,
    check_data,
    check_finite,
    check_follows,
    check_kinds,
    check_labels,
    check_like,
    check_numbers,
    kind,
    like_input,
    require,
    without_autocast,
)
from .predictions import Model
from .schedules import NoiseSchedule, factors
from .traces import checked

LogProb = Callable[[Tensor, Tensor], Tensor]  # log_p(x_t, t) = log p(y | x_t), (B,)


def classifier_free(
    model: Callable[..., Tensor], y: Tensor, *, guidance_scale: float = 1.0
) -> Model:
    """Return (x_t, t) -> m(x_t, t) + guidance_scale [m(x_t, t, y) - m(x_t, t)], m the model.

    guidance_scale 0 ignores the labels y, 1 is the conditional model as it was trained, of one call
    each; more pushes away from what all labels share. A model that predicts v or x0 may be guided
    before it is converted: these are affine in eps, and the weights above sum to 1.
    y (B,) integers. model(x_t, t) must answer for no label, as nets.UNet with classes does.
    Raises ValueError for a negative guidance_scale. Source: Ho and Salimans (2022), equation 6,
    whose w is guidance_scale - 1: see `scale_from_strength`.
    """
    check_kinds(**{"model(x_t, t, y)": model})
    check_labels(y)

    def told(x_t: Tensor, t: Tensor) -> Tensor:
        return model(x_t, t, y)

    return led({"model(x_t, t)": model, "model(x_t, t, y)": told}, guidance_scale)


def classifier_guided(
    schedule: NoiseSchedule, eps_model: Model, log_p: LogProb, *, guidance_scale: float = 1.0
) -> Model:
    """Return (x_t, t) -> eps_hat - guidance_scale sqrt(1 - alpha_bar_t) grad log p(y | x_t).

    log_p(x_t, t) -> (B,), in nats: of a classifier that knows x_t with its noise, not a logit (see
    `label_log_prob`). With the exact log_p, 1 makes of the eps_model of all data that of y alone.
    x_t (B, ...), t in 1..T. Raises ValueError for a negative guidance_scale, or a log_p cut off
    from x_t. Source: Dhariwal and Nichol (2021), algorithm 2.
    """
    check_kinds(schedule=schedule, eps_model=eps_model, log_p=log_p)
    check_scale(guidance_scale)

    def guided(x_t: Tensor, t: Tensor | int) -> Tensor:
        check_data("x_t", x_t)
        _, std = factors(schedule.marginal_factors, t, x_t, lowest=1)
        eps_hat = checked("eps_model(x_t, t)", eps_model(x_t, t), x_t)
        pull = guidance_scale * log_p_gradient(log_p, x_t, t)
        return check_finite(eps_hat - std * pull, **{"log_p(x_t, t)": pull})

    return guided


def label_log_prob(classifier: Model, y: Tensor) -> LogProb:
    """Return log_p(x_t, t) = log p(y | x_t) of a classifier(x_t, t) -> logits (B, classes).

    The gradient of a logit alone is not that of log p(y | x_t): the other logits move, too.
    y (B,) integers in 0..classes-1. Raises ValueError for a y outside.
    """
    check_kinds(classifier=classifier)
    check_labels(y)

    def log_p(x_t: Tensor, t: Tensor | int) -> Tensor:
        check_alike(x_t=x_t)
        logits = like_input(classifier(x_t, t), x_t)
        ok = isinstance(logits, Tensor) and logits.ndim == 2 and len(logits) == len(x_t)
        require(ok, "classifier(x_t, t)", f"have shape ({len(x_t)}, classes)", logits)
        check_like("classifier(x_t, t)", logits[:, 0], "x_t", x_t.reshape(len(x_t), -1)[:, 0])
        check_finite(logits, **{"classifier(x_t, t)": logits})
        fits = y.shape == x_t.shape[:1] and y.device == x_t.device
        fits = fits and 0 <= y.min() and y.max() < logits.shape[1]
        require(fits, "y", f"be labels of {kind(logits)}", y)
        return logits.log_softmax(1).gather(1, y[:, None].long())[:, 0]

    return log_p


def scale_from_strength(strength: float) -> float:
    """Return guidance_scale = 1 + strength, for the w of (1 + w) m(x_t, t, y) - w m(x_t, t).

    strength 0 is the conditional model, -1 ignores the label; guidance_scale counts from there.
    Raises ValueError below -1. Source: Ho and Salimans (2022), equation 6.
    """
    check_numbers(-1, math.inf, "[)", strength=strength)
    return 1.0 + strength


def strength_from_scale(guidance_scale: float) -> float:
    """Return strength = guidance_scale - 1, the w of Ho and Salimans (2022), equation 6.

    Raises ValueError for a negative guidance_scale.
    """
    check_scale(guidance_scale)
    return guidance_scale - 1.0


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


def check_scale(guidance_scale: float) -> None:
    """Refuse what is no scale of guidance."""
    ok = isinstance(guidance_scale, int | float) and 0 <= guidance_scale < math.inf
    require(ok, "guidance_scale", "be at least 0, and finite", guidance_scale)


def led(models: dict[str, Model], scale: float) -> Model:
    """Return away + scale (towards - away) for two named models (away, towards)."""
    check_scale(scale)
    needed = [name for name, other in zip(models, (1, 0), strict=True) if scale != other]

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        check_alike(x_t=x_t)
        answers = {name: like_input(models[name](x_t, t), x_t) for name in needed}
        check_alike(x_t=x_t, **answers)
        away, *_, towards = [*answers.values()] * 2
        result = away + scale * (towards - away) if len(needed) == 2 else away
        return check_finite(result, x_t=x_t, **answers)

    return guided


def log_p_gradient(log_p: LogProb, x_t: Tensor, t: Tensor | int) -> Tensor:
    """Return grad log p of each example; its own graph is kept where the caller's mode asks."""
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x_t if x_t.requires_grad else x_t.detach().requires_grad_()
        value = like_input(log_p(x, t), x)
        check_like("log_p(x_t, t)", value, "one number an example", x.reshape(len(x), -1)[:, 0])
        check_follows("log_p(x_t, t)", value.requires_grad)
        with without_autocast(x):
            (pull,) = torch.autograd.grad(value.sum(), x, create_graph=keep)
    return pull
