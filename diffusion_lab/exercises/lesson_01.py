"""Lesson 01: the slope of a draw in its variance, noises that merge, a die that chooses clouds."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_core.schedules import schedule_from_alpha_bars

from .exercise import Exercise

DTYPES = (torch.float64, torch.float32)
KEEP, STD = 0.8, 0.6  # of each of the two steps; 0.8^2 + 0.6^2 = 1


def _slopes(generator: torch.Generator) -> list[tuple]:
    cases = []
    for dtype in DTYPES:
        for size in (5, 2, 1):
            var = 0.05 + 4 * torch.rand(size, generator=generator, dtype=dtype)
            cases.append((var, torch.randn(size, generator=generator, dtype=dtype)))
    return cases


def _slope_of_var(var: Tensor, eps: Tensor) -> Tensor:
    """By autograd, so that the formula that is asked for stands nowhere."""
    var = var.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad((var.sqrt() * eps).sum(), var)
    return slope


def _std_of_noise() -> float:
    """Two steps of a schedule that keeps 0.8^2 of the variance in each."""
    kept = torch.tensor([KEEP**2, KEEP**4], dtype=torch.float64)
    return schedule_from_alpha_bars(kept).marginal_vars[2].sqrt().item()


def _faces(p: Tensor, u: Tensor) -> Tensor:
    return torch.searchsorted(p.cumsum(0)[:-1].contiguous(), u)


def _turned(y: Tensor, angle: Tensor) -> Tensor:
    """Turn y (N, 2) by angle (N,), against the clock."""
    cos, sin = angle.cos(), angle.sin()
    matrix = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    return torch.einsum("nij,nj->ni", matrix, y)


def _points(
    *,
    face: Callable = _faces,
    stretch: Callable = lambda std, eps: std * eps,
    turn: Callable = _turned,
    place: Callable = lambda centre, y: centre + y,
) -> Callable:
    """The points with another die, stretch, turn, or shift."""

    def points(p: Tensor, u: Tensor, *given: Tensor) -> Tensor:
        centres, stds, angles, eps = given
        k = face(p, u)
        return place(centres[k], turn(stretch(stds[k], eps), angles[k]))

    return points


def _in_other_order(first: str) -> Callable:
    """The points, shifted before the turn, or stretched after it."""

    def points(p: Tensor, u: Tensor, *given: Tensor) -> Tensor:
        centres, stds, angles, eps = given
        k = _faces(p, u)
        if first == "shift":
            return _turned(centres[k] + stds[k] * eps, angles[k])
        return centres[k] + stds[k] * _turned(eps, angles[k])

    return points


def _mirrored(y: Tensor, angle: Tensor) -> Tensor:
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos * y[:, 0] + sin * y[:, 1], sin * y[:, 0] - cos * y[:, 1]], 1)


def _sheared(y: Tensor, angle: Tensor) -> Tensor:
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos * y[:, 0] + sin * y[:, 1], sin * y[:, 0] + cos * y[:, 1]], 1)


def _one_by_one(y: Tensor, angle: Tensor) -> Tensor:
    return torch.stack([angle.cos() * y[:, 0], angle.sin() * y[:, 1]], 1)


def _heaps(generator: torch.Generator) -> list[tuple]:
    """Dice of 5, 2 and 3 faces; as many points as faces among them."""
    cases = []
    for dtype in DTYPES:
        options = {"generator": generator, "dtype": dtype}
        for faces, size in ((5, 40), (2, 2), (3, 12)):
            p = (0.7 * torch.randn(faces, **options)).softmax(0)
            centres = 2 * torch.randn(faces, 2, **options)
            stds = 0.2 + torch.rand(faces, 2, **options) * torch.tensor([2.0, 0.6], dtype=dtype)
            angles = 0.4 + 2 * torch.rand(faces, **options)
            u, eps = torch.rand(size, **options), torch.randn(size, 2, **options)
            cases.append((p, u, centres, stds, angles, eps))
    return cases


EXERCISES = {
    "01.1": Exercise(
        truth=_slope_of_var,
        cases=_slopes,
        mistakes={
            "This is the slope in sigma. Go on by the chain rule: what is the slope of sqrt(v)?": (
                lambda var, eps: eps + 0 * var
            ),
            "The factor 1/2 is missing. What is the slope of v to the power 1/2?": (
                lambda var, eps: eps / var.sqrt()
            ),
            "The root is missing: a power that is lowered by one is -1/2 here, not -1.": (
                lambda var, eps: eps / (2 * var)
            ),
            "You multiplied by sqrt(v). Is a slope steeper or flatter where v is large?": (
                lambda var, eps: eps * var.sqrt() / 2
            ),
            "You multiplied by 2 sqrt(v). The slope of the root is 1 / (2 sqrt(v)).": (
                lambda var, eps: 2 * var.sqrt() * eps
            ),
            "The sign is wrong: a larger variance moves a positive eps to the right.": (
                lambda var, eps: -eps / (2 * var.sqrt())
            ),
            "eps is missing: every draw has a slope of its own.": (
                lambda var, eps: 1 / (2 * var.sqrt()) + 0 * eps
            ),
            "This is the draw less its mean. Asked is its slope in v.": (
                lambda var, eps: var.sqrt() * eps
            ),
        },
        hints=(
            "mu does not depend on v, and eps does not either. What is left?",
            "sqrt(v) is v to the power 1/2. What is the slope of a power?",
        ),
    ),
    "01.2": Exercise(
        truth=_std_of_noise,
        cases=lambda generator: [()],
        mistakes={
            "The standard deviations were added. Which quantity of two noises adds up?": (
                lambda: KEEP * STD + STD
            ),
            "The standard deviations were added, and the first noise was not shrunk.": (
                lambda: 2 * STD
            ),
            "The first noise is multiplied by 0.8, too, in the second step.": (
                lambda: (2 * STD**2) ** 0.5
            ),
            "This is the variance; the standard deviation was asked for.": (
                lambda: KEEP**2 * STD**2 + STD**2
            ),
            "Multiplying a noise by 0.8 multiplies its variance by 0.64, not by 0.8.": (
                lambda: (KEEP * STD**2 + STD**2) ** 0.5
            ),
            "Only the first noise was shrunk; the noise of the second step comes after that.": (
                lambda: KEEP * (2 * STD**2) ** 0.5
            ),
            "This is what is left of the first noise alone.": lambda: KEEP * STD,
            "This is the noise of the second step alone. What is left of the first?": lambda: STD,
            "Nothing is shrunk, and it is a variance. Shrink the first noise, and take the root.": (
                lambda: 2 * STD**2
            ),
            "The variances were subtracted. Noise that is added never makes the spread smaller.": (
                lambda: (STD**2 - KEEP**2 * STD**2) ** 0.5
            ),
        },
        hints=(
            "Write down both noises as they stand in the result, with the factor of each.",
            "The first noise is multiplied by 0.8 as well. Which two numbers go into (2) then?",
        ),
    ),
    "01.3": Exercise(
        truth=_points(),
        cases=_heaps,
        mistakes={
            "Nothing was turned. Each heap has an angle.": _points(turn=lambda y, angle: y),
            "The heaps turn the other way: with the clock. Where should (1, 0) go?": _points(
                turn=lambda y, angle: _turned(y, -angle)
            ),
            "You shifted before you turned, so the centres were turned as well.": (
                _in_other_order("shift")
            ),
            "You turned before you stretched, so all heaps are stretched along the same axes.": (
                _in_other_order("turn")
            ),
            "(0, 1) goes to the wrong side: that is a mirror, and no turn.": _points(
                turn=_mirrored
            ),
            "Both sines have the same sign, so right angles do not stay right.": _points(
                turn=_sheared
            ),
            "Cosine and sine only shrink the two coordinates here. A turn mixes them.": _points(
                turn=_one_by_one
            ),
            "The angles are in radians already.": _points(
                turn=lambda y, angle: _turned(y, torch.deg2rad(angle))
            ),
            "The die was thrown as if it were fair. Each face has a probability of its own.": (
                _points(face=lambda p, u: (u * len(p)).long())
            ),
            "All points went to the most likely heap. Throw the die: u decides.": _points(
                face=lambda p, u: p.argmax().expand(len(u))
            ),
            "u was compared with each probability alone. Which part of [0, 1] has each face?": (
                _points(face=lambda p, u: (u[:, None] > p[:-1]).sum(1))
            ),
            "Faces are counted from 0: face k takes row k.": _points(
                face=lambda p, u: _faces(p, u) - 1
            ),
            "stds are standard deviations already: no root.": _points(
                stretch=lambda std, eps: std.sqrt() * eps
            ),
            "eps was multiplied by a variance. stds are what (1) multiplies by.": _points(
                stretch=lambda std, eps: std**2 * eps
            ),
            "eps was not stretched.": _points(stretch=lambda std, eps: eps),
            "Both coordinates were stretched by the first of the two stds.": _points(
                stretch=lambda std, eps: std[:, :1] * eps
            ),
            "There is no eps in your points: all of a heap lie on one spot.": _points(
                stretch=lambda std, eps: std + 0 * eps
            ),
            "The heaps were not shifted to their centres.": _points(place=lambda centre, y: y),
        },
        hints=(
            "Four lines: the face k of each point, the stretched eps, its turn, its shift.",
            "stds[k], angles[k] and centres[k] have one row for each point.",
            "(1, 0) goes to (cos, sin). A quarter turn more, and you see where (0, 1) goes. What "
            "becomes of (x, y), which is x times the first and y times the second?",
        ),
    ),
}
