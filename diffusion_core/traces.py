"""The trace of a Jacobian: exactly, or estimated with one random direction.

A `score_model(x) -> s` maps a batch (B, ...) to as many numbers, each example by itself.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import grad

from .checks import (
    check_alike,
    check_data,
    check_follows,
    check_kinds,
    check_like,
    like_input,
    require,
    without_autocast,
)

ScoreModel = Callable[[Tensor], Tensor]  # score_model(x) -> s, both (B, ...)


class Traced(NamedTuple):
    """A score s, shape of x, and the trace of its Jacobian ds/dx, or an estimate of it, (B,)."""

    score: Tensor
    trace: Tensor


class ProbeVariances(NamedTuple):
    """Variances of v^T J v for v ~ N(0, I) and for random signs, each (B,)."""

    gaussian: Tensor
    rademacher: Tensor


def exact_trace(score_model: ScoreModel, x: Tensor) -> Traced:
    """Return s(x) and the trace of ds/dx for each example, by one backward pass a coordinate.

    x (B, ...). Raises ValueError where s does not depend on x, as after .detach().
    """
    check_kinds(score_model=score_model)
    check_data("x", x)

    def coordinates(score: Tensor) -> Sequence[Tensor]:
        return score.reshape(len(x), -1).sum(0).unbind()

    def take(slope: Tensor, i: int) -> Tensor:
        return slope[:, i].clone()  # a view would hold all of the gradient

    score, diagonal = _score_and_slopes(score_model, x, coordinates, take)
    return Traced(score, torch.stack(diagonal).sum(0))


def hutchinson_trace(score_model: ScoreModel, x: Tensor, v: Tensor) -> Traced:
    """Return s(x) and v^T (ds/dx) v, an estimate of the trace, by one backward pass.

    Its mean is the trace where E[v v^T] = I: so for `standard_normal` and `rademacher`, not for
    v scaled to length 1. x and v (B, ...). Raises ValueError where s does not depend on x.
    Source: Hutchinson (1990).
    """
    check_kinds(score_model=score_model)
    check_data("x", x)
    check_like("v", v, "x", x)
    rows = v.reshape(len(x), -1)
    score, (trace,) = _score_and_slopes(
        score_model, x, lambda score: [(score * v).sum()], lambda slope, _: (slope * rows).sum(1)
    )
    return Traced(score, trace)


def rademacher(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw random signs, -1 or 1, with the shape, dtype and device of `like`."""
    check_kinds(generator=generator)
    check_alike(like=like)
    device = (generator or like).device
    bits = torch.randint(2, like.shape, generator=generator, device=device)
    return (2 * bits - 1).to(like)


def probe_variances(jacobian: Tensor) -> ProbeVariances:
    """Return the variances of v^T J v for J (B, D, D): 2 |S|^2 for v ~ N(0, I) and
    2 (|S|^2 - sum_i S_ii^2) for random signs, S = (J + J^T) / 2, |S|^2 the sum of its squares.
    """
    check_data("jacobian", jacobian)
    square = jacobian.ndim == 3 and jacobian.shape[1] == jacobian.shape[2]
    require(square, "jacobian", "have shape (B, D, D)", jacobian)
    squares = (jacobian / 2 + jacobian.mT / 2).square()
    beside = squares.triu(1).sum((1, 2)) + squares.tril(-1).sum((1, 2))
    return ProbeVariances(2 * squares.sum((1, 2)), 2 * beside)


def checked(name: str, answer: Tensor, x: Tensor) -> Tensor:
    """Return what a model answered to x; refuse another shape, dtype, or what is not finite."""
    answer = like_input(answer, x)
    check_like(name, answer, "x", x)
    return answer


def _score_and_slopes(
    score_model: ScoreModel,
    x: Tensor,
    totals: Callable[[Tensor], Sequence[Tensor]],
    take: Callable[[Tensor, int], Tensor],
) -> tuple[Tensor, list[Tensor]]:
    """Return s(x) and take(slope, i) of the gradient (B, D) of each total i, one after another.

    A gradient is 0 where a total does not hold x; its own graph is kept where the caller's mode
    asks. Refuses an s cut off from x.
    """
    follows, taken = False, []
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x if x.requires_grad else x.detach().requires_grad_()
        score = checked("score_model(x)", score_model(x), x)
        options = {"create_graph": keep, "retain_graph": True, "allow_unused": True}
        with without_autocast(x):
            for i, part in enumerate(totals(score) if score.requires_grad else ()):
                (slope,) = grad(part, x, **options)
                follows = follows or slope is not None
                slope = torch.zeros_like(x) if slope is None else slope
                with torch.set_grad_enabled(keep):
                    taken.append(take(slope.reshape(len(x), -1), i))
    check_follows("score_model(x)", follows, "x")
    return score if keep else score.detach(), taken
