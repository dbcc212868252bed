"""Mixtures whose components belong to classes: the exact classifier, and what is tilted by it."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .checks import (
    check_count,
    check_data,
    check_finite,
    check_kinds,
    check_labels,
    check_like,
    check_numbers,
    check_t,
    require,
)
from .mixtures import Mixture, by_step, check_mixture, diffuse
from .predictions import Model
from .schedules import NoiseSchedule


def of_class(data: Mixture, labels: Tensor, label: int) -> Mixture:
    """Return p(x_0 | y = label), the part of a mixture whose components k have labels[k] = label.

    labels (K,) integers. Raises ValueError where no component of positive weight has this one.
    """
    _check_classes(data, labels)
    check_count("label", label, lowest=0)
    weights = data.weights * (labels == label)
    require(bool(weights.sum() > 0), "label", f"have a component in {labels.tolist()}", label)
    return data._replace(weights=weights / weights.sum())


def mixture_classifier(schedule: NoiseSchedule, data: Mixture, labels: Tensor) -> Model:
    """Return the exact classifier(x_t, t) -> log p(y | x_t), (B, classes), in nats.

    p(y | x_t) = sum of p(k | x_t) over the components of the mixture with labels[k] = y.
    labels (K,) integers, 0..classes-1, each at least once. x_t (B, ...), t in 0..T an integer or
    (B,). Raises ValueError for other labels, and at t = 0 where a variance is 0.
    """
    check_kinds(schedule=schedule)
    _check_classes(data, labels)
    parts = [of_class(data, labels, label) for label in range(int(labels.max()) + 1)]
    shares = torch.stack([data.weights[labels == label].sum() for label in range(len(parts))])

    def at(x_t: Tensor, step: int) -> Tensor:
        found = [diffuse(schedule, part, step).log_prob(x_t) for part in parts]
        logits = (torch.stack(found, 1) + shares.log()).log_softmax(1)
        return check_finite(logits, x_t=x_t, means=data.means)

    def classifier(x_t: Tensor, t: Tensor | int) -> Tensor:
        check_data("x_t", x_t)
        return by_step(at, x_t, check_t(t, x_t, schedule.T)).to(x_t.dtype)

    return classifier


def tilted_density(
    log_prob: Callable[[Tensor], Tensor],
    log_p: Callable[[Tensor], Tensor],
    guidance_scale: float,
    grid: Tensor,
) -> Tensor:
    """Return p(x) p(y | x)^guidance_scale on a grid (n,), its integral made 1 by trapezoids.

    log_prob(x) = log p(x) and log_p(x) = log p(y | x) take x (n, 1) and answer (n,). It is what
    guidance is said to sample; it is p(x | y) at 1. Raises ValueError for a grid that does not
    rise, or at whose ends more than a millionth of the highest density is left.
    """
    check_kinds(log_prob=log_prob, log_p=log_p)
    check_numbers(-math.inf, math.inf, guidance_scale=guidance_scale)
    check_data("grid", grid)
    rises = grid.ndim == 1 and len(grid) > 1 and bool((grid.diff() > 0).all())
    require(rises, "grid", "be numbers (n,) that rise", grid)
    found = {"log_prob(x)": log_prob(grid[:, None]), "log_p(x)": log_p(grid[:, None])}
    for name, values in found.items():
        check_like(name, values, "grid", grid)
    logs = found["log_prob(x)"] + guidance_scale * found["log_p(x)"]
    density = (check_finite(logs, **found) - logs.max()).exp()
    ends = max(density[0].item(), density[-1].item())
    require(ends <= 1e-6, "grid", "reach to where nothing is left of the density", ends)
    return density / torch.trapezoid(density, grid)


def _check_classes(data: Mixture, labels: Tensor) -> None:
    """Refuse labels that are not one of 0, 1, .. for each component."""
    check_mixture(data)
    check_labels(labels, "labels")
    fits = labels.shape == data.weights.shape and labels.device == data.weights.device
    wanted = f"hold one integer of at least 0 for each of {len(data.weights)} components"
    require(fits and bool((labels >= 0).all()), "labels", wanted, labels)
