"""Lesson 07: what stands at a wall, the trace by one probe, the lowest loss, denoising."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_core import mixtures, traces

from .exercise import Exercise

DTYPES = (torch.float64, torch.float32)


class Field(NamedTuple):
    """A small network as a model: x (B, D) -> tanh(x inner) outer."""

    inner: Tensor
    outer: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.inner) @ self.outer


def _field(dim: int, generator: torch.Generator, dtype: torch.dtype) -> Field:
    inner, outer = torch.randn(2, dim, dim, generator=generator, dtype=dtype)
    return Field(inner, outer)


def _wall_term(s_low: Tensor, s_high: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The density is 1 / (high - low): s p at the upper wall, less s p at the lower."""
    density = torch.exp(-(high - low).log())
    return s_high * density - s_low * density


def _walls(generator: torch.Generator) -> list[tuple]:
    cases = []
    for dtype in DTYPES:
        for size in (4, 1):
            s_low, s_high, low = torch.randn(3, size, generator=generator, dtype=dtype)
            width = 0.3 + 3 * torch.rand(size, generator=generator, dtype=dtype)
            cases.append((s_low, s_high, low, low + width))
    return cases


def _trace_estimate(model: Callable, x: Tensor, v: Tensor) -> Tensor:
    return traces.hutchinson_trace(model, x, v).trace


def _probes(generator: torch.Generator) -> list[tuple]:
    """Also a case whose weights ask for gradients: they come through create_graph=True only."""
    cases = []
    for dtype in DTYPES:
        for size, dim in ((4, 3), (2, 2), (1, 4)):
            x, v = torch.randn(2, size, dim, generator=generator, dtype=dtype)
            cases.append((_field(dim, generator, dtype), x, v))
    field, x, v = cases[0]
    return [*cases, (Field(*(w.clone().requires_grad_() for w in field)), x, v)]


def _slope(model: Callable, x: Tensor, v: Tensor) -> Tensor:
    """Return v^T J for each example."""
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad((model(x) * v).sum(), x, create_graph=True)
    return slope


def _lowest() -> float:
    """The loss of the best model, the score of N(0, 1 + 1/4), by the mean and the rest."""
    one = torch.ones(1, 1, dtype=torch.float64)
    noisy = mixtures.mixture(0 * one, 1 + 0.5**2)
    per_place = noisy.score(one).item()  # the score at 1: its square is E|score|^2 / Var(x)
    return (1 / 0.5**2 - per_place**2 * (1 + 0.5**2)) / 2


def _denoising(
    noise: Callable = lambda level: level,
    target: Callable = lambda eps, level: -eps / level,
    half: float = 0.5,
) -> Callable:
    """A denoising loss with another noise, another target, or another factor."""

    def loss(net: Callable, x0: Tensor, eps: Tensor, noise_level: float) -> Tensor:
        off = net(x0 + noise(noise_level) * eps) - target(eps, noise_level)
        return half * off.square().sum(1).mean()

    return loss


def _batches(generator: torch.Generator) -> list[tuple]:
    cases = []
    for dtype in DTYPES:
        for size, dim, level in ((5, 2, 0.3), (2, 2, 2.0), (1, 3, 0.7)):
            x0, eps = torch.randn(2, size, dim, generator=generator, dtype=dtype)
            cases.append((_field(dim, generator, dtype), x0, eps, level))
    field, *others = cases[0]
    return [*cases, (Field(*(w.clone().requires_grad_() for w in field)), *others)]


EXERCISES = {
    "07.1": Exercise(
        truth=_wall_term,
        cases=_walls,
        mistakes={
            "The density is missing: s p stands at the walls, and p = 1 / (high - low).": (
                lambda s_low, s_high, low, high: s_high - s_low
            ),
            "The sign is turned round: upper wall less lower wall. A field that points outwards "
            "has a positive trace, and the implicit loss is then too large.": (
                lambda s_low, s_high, low, high: (s_low - s_high) / (high - low)
            ),
            "That is the sum of both walls. [s p] is a difference, upper less lower.": (
                lambda s_low, s_high, low, high: (s_high + s_low) / (high - low)
            ),
            "The density 1/2 belongs to walls at -1 and 1. Here they are low and high.": (
                lambda s_low, s_high, low, high: (s_high - s_low) / 2
            ),
            "You multiplied by the width. A wide interval has a low density: divide.": (
                lambda s_low, s_high, low, high: (s_high - s_low) * (high - low)
            ),
            "Only the upper wall is there. The lower one counts, too.": (
                lambda s_low, s_high, low, high: s_high / (high - low)
            ),
        },
        hints=(
            "Section 2: which term was dropped, and under what condition?",
            "It is [s p] from low to high. How large is the density p of uniform data there?",
            "p is one over the width, at both walls.",
        ),
    ),
    "07.2": Exercise(
        truth=_trace_estimate,
        cases=_probes,
        mistakes={
            "v is used once only: that is the sum of v^T J. Multiply the slope by v, too.": (
                lambda model, x, v: _slope(model, x, v).sum(1)
            ),
            "The first v is missing: take the slope of v · s, not of the sum of s.": (
                lambda model, x, v: (_slope(model, x, torch.ones_like(v)) * v).sum(1)
            ),
            "This is v · s itself, without a slope. Call torch.autograd.grad.": (
                lambda model, x, v: (model(x) * v).sum(1)
            ),
            "This is the trace itself, by one pass a coordinate. Asked is v^T J v, by one pass.": (
                lambda model, x, v: traces.exact_trace(model, x).trace
            ),
            "You divided by the number of coordinates. A trace is a sum.": (
                lambda model, x, v: (_slope(model, x, v) * v).mean(1)
            ),
            "v was scaled to length 1. Then E[v v^T] is I / d, and the trace d times too small.": (
                lambda model, x, v: (_slope(model, x, v) * v).sum(1) / v.square().sum(1)
            ),
            "This is |v^T J|^2: the slope multiplied by itself. Multiply it by v.": (
                lambda model, x, v: _slope(model, x, v).square().sum(1)
            ),
            "The result is summed over the batch. Each example has its own trace.": (
                lambda model, x, v: (_slope(model, x, v) * v).sum()
            ),
        },
        hints=(
            "autograd.grad takes the slope of one number. Which number has the slope v^T J?",
            "It is one sum over all examples. As no example sees another, that is safe.",
            "The slope has the shape of v. What is left is a product with v for each example.",
        ),
    ),
    "07.3": Exercise(
        truth=_lowest,
        cases=lambda generator: [()],
        mistakes={
            "Not even the best model knows the noise in a point, so the loss stays above 0.": (
                lambda: 0
            ),
            "This is the loss of a model that answers 0, d / (2 sigma^2). The best one does "
            "better.": lambda: 2,
            "The factor 1/2 of the loss is missing.": lambda: 3.2,
            "Both terms of the constant are halved, not only the first.": lambda: 1.2,
            "A mean of squares is never negative. Which constant is left in (27)?": lambda: -0.4,
            "You used the score of the clean data, N(0, 1). The best model is that of the noisy "
            "data.": lambda: 1.5,
            "This is half the mean square of the best score. It is what is taken away.": (
                lambda: 0.4
            ),
            "The score of N(0, v) is -x / v, so its mean square is 1 / v, not v.": (
                lambda: (4 - 1.25) / 2
            ),
        },
        hints=(
            "In (27) one term depends on the model. How small can it be?",
            "What is left is the constant. Which distribution has x_0 + sigma eps here?",
            "It is N(0, 1 + sigma^2). The score of N(0, v) is -x / v, with mean square 1 / v.",
        ),
    ),
    "07.4": Exercise(
        truth=_denoising(),
        cases=_batches,
        mistakes={
            "The sign of the target: the score points back to the data, against the noise.": (
                _denoising(target=lambda eps, level: eps / level)
            ),
            "The target is -eps / noise_level. You left out the division.": (
                _denoising(target=lambda eps, level: -eps)
            ),
            "You divided eps by the variance. As x - x_0 is noise_level eps, one power is left.": (
                _denoising(target=lambda eps, level: -eps / level**2)
            ),
            "You multiplied eps by the noise level in the target. Divide.": (
                _denoising(target=lambda eps, level: -eps * level)
            ),
            "The network should see the noisy points x0 + noise_level eps, not clean ones.": (
                _denoising(noise=lambda level: 0)
            ),
            "The noise in x is not scaled: its standard deviation is noise_level.": (
                _denoising(noise=lambda level: 1)
            ),
            "The noise in x is scaled by the variance. Take noise_level itself.": (
                _denoising(noise=lambda level: level**2)
            ),
            "The factor 1/2 is missing.": _denoising(half=1.0),
            "You took the mean over coordinates, too. Sum over them, and take the mean over the "
            "batch.": (
                lambda net, x0, eps, noise_level: (
                    _denoising()(net, x0, eps, noise_level) / x0.shape[1]
                )
            ),
            "You summed over the batch. Take its mean.": (
                lambda net, x0, eps, noise_level: _denoising()(net, x0, eps, noise_level) * len(x0)
            ),
            "This is one loss for each example. Take the mean over the batch.": (
                lambda net, x0, eps, noise_level: (
                    (net(x0 + noise_level * eps) + eps / noise_level).square().sum(1) / 2
                )
            ),
        },
        hints=(
            "Three lines: the noisy points, the network's answer there, and what it should be.",
            "It should be -eps / noise_level: section 4.",
            "Square the difference and sum it over dimension 1. Which mean and factor are left?",
        ),
    ),
}
