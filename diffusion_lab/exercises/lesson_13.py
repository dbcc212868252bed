"""Lesson 13: the loss of flow matching, another paper's time, one velocity, pairs for reflow."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

import diffusion_core as dc

from .exercise import Exercise

DTYPES = (torch.float64, torch.float32)
VAR = 0.25


class Field(NamedTuple):
    """A velocity tanh(x inner) outer (1 + time^2) + time, of x (B, D) and a time for each row."""

    inner: Tensor
    outer: Tensor

    def __call__(self, x: Tensor, time: Tensor | float) -> Tensor:
        time = torch.as_tensor(time, dtype=x.dtype, device=x.device).reshape(-1, 1)
        return torch.tanh(x @ self.inner) @ self.outer * (1 + time**2) + time


def _field(dim: int, dtype: torch.dtype, generator: torch.Generator) -> Field:
    inner, outer = torch.randn(2, dim, dim, generator=generator, dtype=dtype)
    return Field(inner, outer)


def _loss(
    *,
    between: Callable = lambda x0, eps, time: (1 - time) * x0 + time * eps,
    target: Callable = lambda x0, eps, x: eps - x0,
    asked: Callable = lambda time: time,
    error: Callable = lambda left: left.square().mean(),
) -> Callable:
    """The loss with another path, target, time for the model, or another mean."""

    def loss(model: Callable, x0: Tensor, eps: Tensor, time: Tensor) -> Tensor:
        x = between(x0, eps, time[:, None])
        return error(target(x0, eps, x) - model(x, asked(time)))

    return loss


def _flow_loss(model: Callable, x0: Tensor, eps: Tensor, time: Tensor) -> Tensor:
    """The package's loss, at given times."""
    return dc.flow_loss(model, x0, eps=eps, draw_time=lambda like, generator: time)


def _without_columns(model: Callable, x0: Tensor, eps: Tensor, time: Tensor) -> Tensor:
    """The times broadcast along the rows; where shapes do not fit, it stops."""
    x = (1 - time) * x0 + time * eps
    return (eps - x0 - model(x, time)).square().mean()


def _batches(generator: torch.Generator) -> list[tuple]:
    """B = D among them; the times reach both ends."""
    cases = []
    for dtype in DTYPES:
        for size, dim in ((5, 2), (3, 3), (1, 4)):
            x0, eps = torch.randn(2, size, dim, generator=generator, dtype=dtype)
            time = torch.rand(size, generator=generator, dtype=dtype)
            if size == 5:
                time[0], time[1] = 0, 1
            cases.append((_field(dim, dtype, generator), 2 * x0 + 1, eps, time))
    return cases


def _translated(theirs: Callable, x: Tensor, time: Tensor) -> Tensor:
    """By both ends: their answer is data less noise, at x = s data + (1 - s) noise."""
    s = (1 - time).reshape(-1, 1)
    velocity = theirs(x, s[:, 0])
    data, noise = x + (1 - s) * velocity, x - s * velocity
    return dc.velocity_target(data, noise)


def _states(generator: torch.Generator) -> list[tuple]:
    cases = []
    for dtype in DTYPES:
        for size, dim in ((4, 2), (3, 3), (1, 2)):
            x = torch.randn(size, dim, generator=generator, dtype=dtype)
            time = 0.45 * torch.rand(size, generator=generator, dtype=dtype)
            cases.append((_field(dim, dtype, generator), x, time))
    return cases


def _velocity() -> float:
    """Cov(u, x) / Var(x) at time 1/2 for u = eps - x_0 and x = (x_0 + eps) / 2."""
    field = dc.mixture_velocity(dc.mixture(torch.zeros(1, 1).double(), VAR))
    return field(torch.ones(1, 1).double(), 0.5).item()


def _pairs(
    *,
    span: Callable = lambda time, after: after - time,
    asked: Callable = lambda time, after: time,
    given: Callable = lambda x, eps: (x, eps),
    path: Callable = lambda times: times,
) -> Callable:
    """Euler's steps of another length, asked at another time, or another pair."""

    def pairs(velocity: Callable, eps: Tensor, times: Tensor) -> tuple:
        x, way = eps, path(times)
        for time, after in pairwise(way):
            x = x + span(time, after) * velocity(x, asked(time, after).expand(len(x)))
        return given(x, eps)

    return pairs


def _by_euler(velocity: Callable, eps: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """The package's Euler steps, with gradients."""
    x = eps
    drift = dc.straight_flow(velocity).drift
    for time, after in pairwise(times.tolist()):
        x = torch.add(x, drift(x, time), alpha=after - time)
    return x, eps


def _from_the_noise(velocity: Callable, eps: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """Each step asks at the noise, not where the last step led."""
    x = eps
    for time, after in pairwise(times):
        x = x + (after - time) * velocity(eps, time.expand(len(x)))
    return x, eps


def _noises(generator: torch.Generator) -> list[tuple]:
    """Grids of several steps that are not even."""
    cases = []
    for dtype in DTYPES:
        for size, dim, steps in ((4, 2, 3), (3, 3, 6), (1, 2, 4)):
            eps = torch.randn(size, dim, generator=generator, dtype=dtype)
            parts = 0.2 + torch.rand(steps, generator=generator, dtype=dtype)
            times = 1 - torch.cat([parts.new_zeros(1), (parts / parts.sum()).cumsum(0)])
            times[-1] = 0
            cases.append((_field(dim, dtype, generator), eps, times))
    return cases


EXERCISES = {
    "13.1": Exercise(
        truth=_flow_loss,
        cases=_batches,
        mistakes={
            "Noise and data are exchanged on the line: at time 0 there is data.": _loss(
                between=lambda x0, eps, time: time * x0 + (1 - time) * eps
            ),
            "The target has the other sign. Take the derivative of (51) in time.": _loss(
                target=lambda x0, eps, x: x0 - eps
            ),
            "The target is the noise. Asked is the velocity, which has the data in it, too.": _loss(
                target=lambda x0, eps, x: eps
            ),
            "The target is the data. Asked is the velocity.": _loss(target=lambda x0, eps, x: x0),
            "That is the way from x to the noise. The velocity is of the whole line.": _loss(
                target=lambda x0, eps, x: eps - x
            ),
            "The path is that of a diffusion, with roots. The line has none.": _loss(
                between=lambda x0, eps, time: (1 - time).sqrt() * x0 + time.sqrt() * eps
            ),
            "The times were broadcast along the rows: each example has one. Use time[:, None].": (
                _without_columns
            ),
            "The model was asked at 1 - time.": _loss(asked=lambda time: 1 - time),
            "Squares were added over the coordinates. Take the mean over them, too.": _loss(
                error=lambda left: left.square().sum(1).mean()
            ),
            "Squares were added. Take their mean.": _loss(error=lambda left: left.square().sum()),
            "That is the mean of the sizes of the errors. Asked is that of their squares.": _loss(
                error=lambda left: left.abs().mean()
            ),
            "Half of it: leave out the factor 1/2.": _loss(
                error=lambda left: left.square().mean() / 2
            ),
        },
        hints=(
            "Three lines: the place x on the line, its velocity, and the mean square of what the "
            "model's answer misses.",
            "time is (B,) and x0 is (B, D): time[:, None] gives each row its own time.",
            "x = (1 - time[:, None]) * x0 + time[:, None] * eps, and the target is eps - x0.",
        ),
    ),
    "13.2": Exercise(
        truth=_translated,
        cases=_states,
        mistakes={
            "The time is turned, the sign is not: a derivative in s is minus one in time.": (
                lambda theirs, x, time: theirs(x, 1 - time)
            ),
            "The sign is turned, the time is not: your noise is at 1, theirs is at 0.": (
                lambda theirs, x, time: -theirs(x, time)
            ),
            "That is their velocity as it is. Where is noise in their time?": (
                lambda theirs, x, time: theirs(x, time)
            ),
            "The place was turned round. x is the same place in both.": (
                lambda theirs, x, time: -theirs(-x, 1 - time)
            ),
            "The velocity was divided by a time. Turning time changes its sign only.": (
                lambda theirs, x, time: -theirs(x, 1 - time) / (1 - time).reshape(-1, 1)
            ),
            "Minus their time is outside [0, 1]. Which s is the same place as your time?": (
                lambda theirs, x, time: -theirs(x, -time)
            ),
        },
        hints=(
            "Where on their axis does the data lie, and where on yours?",
            "The same line, run through the other way: s = 1 - time.",
            "If s = 1 - time, then ds = -dtime, so the derivative changes its sign.",
        ),
    ),
    "13.3": Exercise(
        truth=_velocity,
        cases=lambda generator: [()],
        mistakes={
            "That is eps + x_0, or it takes x_0 to be 0. The best guess of x_0 moves with x, and "
            "is taken off.": lambda: 2.0,
            "The standard deviation 1/2 was put in where the variance 1/4 belongs.": (
                lambda: (0.5 - 0.5 * 0.5) / (0.25 * 0.5 + 0.25)
            ),
            "That is the best guess of the noise. Take off that of the data.": (
                lambda: 0.5 / (0.25 * VAR + 0.25)
            ),
            "That is the best guess of the data. The velocity is eps - x_0.": (
                lambda: 0.5 * VAR / (0.25 * VAR + 0.25)
            ),
            "The variance of x has the squares of both factors: 1/4 * 1/4 + 1/4.": (
                lambda: (0.5 - 0.5 * VAR) / (0.5 * VAR + 0.5)
            ),
            "That is the covariance. Divide it by the variance of x.": lambda: 0.5 - 0.5 * VAR,
            "The sign is turned round: towards noise, the particle moves outwards.": (
                lambda: -(0.5 - 0.5 * VAR) / (0.25 * VAR + 0.25)
            ),
        },
        hints=(
            "One Gaussian: the formula for u* in section 3 with k = 1, m = 0 and v = 1/4.",
            "x = x_0 / 2 + eps / 2 has the variance 1/4 * 1/4 + 1/4 * 1.",
            "Cov(eps - x_0, x) = 1/2 - 1/2 * 1/4. Divide by the variance of x; x itself is 1.",
        ),
    ),
    "13.4": Exercise(
        truth=_by_euler,
        cases=_noises,
        mistakes={
            "The step has the wrong sign: times fall, so after - time is negative.": _pairs(
                span=lambda time, after: time - after
            ),
            "The velocity was asked at the time where the step ends. Euler asks at its start.": (
                _pairs(asked=lambda time, after: after)
            ),
            "The pair is the wrong way round: the end x0 first, then the noise.": _pairs(
                given=lambda x, eps: (eps, x)
            ),
            "Both are the end. The second is the noise where the path began.": _pairs(
                given=lambda x, eps: (x, x)
            ),
            "Only the ends were given. A pair needs its noise, too.": _pairs(
                given=lambda x, eps: x
            ),
            "That is one step over the whole way. Take one from each time to the next.": _pairs(
                path=lambda times: times[[0, -1]]
            ),
            "All steps were taken as equally long. The times say how long each is.": _pairs(
                path=lambda times: torch.linspace(1, 0, len(times)).to(times)
            ),
            "Each step asked at the noise. Ask where the last step led.": _from_the_noise,
            "The last step, to time 0, is missing.": _pairs(path=lambda times: times[:-1]),
            "The model was asked at 1 - time.": _pairs(asked=lambda time, after: 1 - time),
            "The ends went to other noises. Each belongs to its own.": _pairs(
                given=lambda x, eps: (x, eps.flip(0))
            ),
        },
        hints=(
            "A loop over neighbouring times: pairwise(times) gives each with the next.",
            "time.expand(len(x)) gives each example the same time.",
            "x = x + (after - time) * velocity(x, time.expand(len(x))); at the end return x, eps.",
        ),
    ),
}
