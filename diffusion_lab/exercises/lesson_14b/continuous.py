"""Lesson 14b: an SDE, the right side of a likelihood and a fast sampler, mended."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from diffusion_core.traces import exact_trace, hutchinson_trace, rademacher

from ...museum.second import exhibits, mended
from ...museum.second.uses import asked, counted
from ..exercise import Exercise

DTYPES = (torch.float64, torch.float32)


def _walks(generator: torch.Generator) -> list[tuple]:
    """Return (x, sigma, dt, noise): also as many paths as steps, and a single step."""
    cases = []
    for dtype in DTYPES:
        for n, B in ((6, 3), (2, 2), (1, 5)):
            noise = torch.randn(n, 2, B, generator=generator, dtype=dtype)
            sigma, dt = (0.5 + torch.rand(2, generator=generator)).tolist()
            x = torch.randn(B, generator=generator, dtype=dtype)
            cases.append((x, sigma, dt / 10, noise))
    return cases


def _walked(
    push: Callable = lambda sigma, dt, z, other: sigma * dt**0.5 * z, pull: float = 0.5
) -> Callable:
    """Return a walk with another push by the noise, or another drift."""

    def walk(x: Tensor, sigma: float, dt: float, noise: Tensor) -> Tensor:
        states = []
        for z, other in noise:
            x = x - pull * dt * x + push(sigma, dt, z, other)
            states.append(x)
        return torch.stack(states)

    return walk


def _questions(generator: torch.Generator) -> list[tuple]:
    """Return (velocity, states, times, directions): what a solver asks, and signs to draw from."""
    cases = []
    for dtype in DTYPES:
        for B, D in ((4, 2), (3, 3), (1, 4)):
            states = torch.randn(3, B, D, generator=generator, dtype=dtype)
            times = torch.rand(3, generator=generator).sort().values.tolist()
            signs = rademacher(torch.ones(20, B, D, dtype=dtype), generator)
            cases.append((velocity, [states[0], *states], [times[0], *times], signs))
    return cases


def velocity(x: Tensor, time: float) -> Tensor:
    """A velocity whose Jacobian is full and changes with time."""
    return torch.sin((1 + time) * x + 2 * x.flip(-1)) - x * x.sum(-1, keepdim=True)


def _sides(trace: Callable) -> Callable:
    """Return a maker with another estimate: trace(s, x, v), s the velocity at one time."""

    def make(velocity: Callable, fresh: Callable) -> Callable:
        v = fresh()
        return lambda x, time: trace(lambda x: velocity(x, time), x, v)

    return make


def _scaled(factor: Callable[[Tensor], float]) -> Callable:
    def trace(s: Callable, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        score, found = hutchinson_trace(s, x, v)
        return score, factor(x) * found

    return _sides(trace)


def _anew_with_time(velocity: Callable, fresh: Callable) -> Callable:
    drawn = {}

    def f(x: Tensor, time: float) -> tuple[Tensor, Tensor]:
        if time not in drawn:
            drawn[time] = fresh()
        return hutchinson_trace(lambda x: velocity(x, time), x, drawn[time])

    return f


def _samples(generator: torch.Generator) -> list[tuple]:
    """Return (denoise, x, levels): one level, two, and more."""
    cases = []
    for dtype in DTYPES:
        for B, n in ((3, 1), (2, 2), (4, 5)):
            steps = 0.4 + torch.rand(n, generator=generator, dtype=torch.float64)
            levels = (0.05 * steps.cumsum(0).exp()).flip(0).tolist()
            x = levels[0] * torch.randn(B, 2, generator=generator, dtype=dtype)
            cases.append((denoise, x, levels))
    return cases


def denoise(x: Tensor, level: float) -> Tensor:
    """The denoiser of data that is two points, -1 and 1, in each coordinate."""
    return torch.tanh(x / (0.2 + level**2))


def _one_more_call(denoise: Callable, x: Tensor, levels: list[float]) -> Tensor:
    return denoise(exhibits.fast_sampler(denoise, x, levels), levels[-1])


def _without_last_step(denoise: Callable, x: Tensor, levels: list[float]) -> Tensor:
    return _sampled()(denoise, x, levels[:-1]) if levels[1:] else x


def _sampled(
    mix: Callable = lambda guess, before, h, h_before: (
        guess + h / (2 * h_before) * (guess - before)
    ),
    end: float = 0.0,
    last: Callable = lambda guess, before: guess,
    size: Callable = lambda level, lower: math.log(level / lower),
) -> Callable:
    """Return a sampler with another mixture, another end, another last guess, or another h."""

    def sampler(denoise: Callable, x: Tensor, levels: list[float]) -> Tensor:
        before, h_before = None, 1.0
        for level, lower in pairwise([*levels, end]):
            guess = denoise(x, level)
            h = size(level, lower) if lower else math.inf
            plain = before is None or lower == 0
            mixed = guess if plain else mix(guess, before, h, h_before)
            if lower == 0 and before is not None:
                mixed = last(guess, before)
            x = lower / level * x + (1 - lower / level) * mixed
            before, h_before = guess, h
        return x

    return sampler


EXERCISES = {
    "14b.1": Exercise(
        truth=mended.noisy_walk,
        cases=_walks,
        mistakes={
            "This is the exhibit itself: what multiplies the draw z is another draw.": (
                exhibits.noisy_walk
            ),
            "The noise has the time step itself where its root belongs.": _walked(
                lambda sigma, dt, z, other: sigma * dt * z
            ),
            "The noise has no time step at all: a short step gets as much as a long one.": _walked(
                lambda sigma, dt, z, other: sigma * z
            ),
            "sigma is missing: each push has the variance of the time step.": _walked(
                lambda sigma, dt, z, other: dt**0.5 * z
            ),
            "sigma is squared. As a standard deviation it stands there once.": _walked(
                lambda sigma, dt, z, other: sigma**2 * dt**0.5 * z
            ),
            "Both draws are added, so each push has twice the variance.": _walked(
                lambda sigma, dt, z, other: sigma * dt**0.5 * (z + other)
            ),
            "The law is right, but take the first draw of each step, not the second.": _walked(
                lambda sigma, dt, z, other: sigma * dt**0.5 * other
            ),
            "The drift is missing: x stays where it is, up to the noise.": _walked(pull=0.0),
            "The drift is x in the place of x / 2.": _walked(pull=1.0),
            "The law is right, and two draws are added for it. Take the first draw alone.": _walked(
                lambda sigma, dt, z, other: sigma * (dt / 2) ** 0.5 * (z + other)
            ),
            "There is no noise left.": _walked(lambda sigma, dt, z, other: 0.0),
        },
        hints=(
            "Write a push as a product. Which of its factors are random?",
            "The diffusion of this SDE is a number, the same in each step: sigma.",
            "The only random number in a push is the first draw of its step, noise[i, 0].",
        ),
    ),
    "14b.2": Exercise(
        truth=mended.right_side,
        cases=_questions,
        use=asked,
        mistakes={
            "This is the exhibit itself: each call of f draws a direction of its own.": (
                exhibits.right_side
            ),
            "A new direction is drawn whenever the time changes. One is enough for the solve.": (
                _anew_with_time
            ),
            "right_side should return a function f(x, time), and yours returns something else.": (
                lambda velocity, fresh: fresh()
            ),
            "f should return two tensors: the velocity (B, D), and the estimate (B,) of its "
            "divergence.": lambda velocity, fresh: velocity,
            "The divergence has the wrong sign.": _scaled(lambda x: -1.0),
            "The divergence is always 0.": _scaled(lambda x: 0.0),
            "The divergence is divided by the dimension: leave the direction as long as it is.": (
                _scaled(lambda x: 1 / x.shape[1])
            ),
            "That is the exact divergence, with a backward pass a coordinate. Asked for is the "
            "estimate.": _sides(lambda s, x, v: exact_trace(s, x)),
            "That is the velocity along the direction, v f. The estimate is v J v, with the "
            "Jacobian J.": _sides(lambda s, x, v: (s(x), (s(x) * v).sum(1))),
        },
        hints=(
            "When is fresh() called: when right_side is, or when f is?",
            "What must be the same in all calls of f is made once, before f.",
            "A function that is defined inside another sees what was made before it.",
        ),
    ),
    "14b.3": Exercise(
        truth=mended.fast_sampler,
        cases=_samples,
        use=counted,
        mistakes={
            "This is the exhibit itself: no step to 0, and noise of levels[-1] is left.": (
                exhibits.fast_sampler
            ),
            "There is no step to 0: the samples end at levels[-1], where denoise is not called.": (
                _without_last_step
            ),
            "denoise is called more often than there are levels. One call at each is enough: the "
            "step to 0 takes the last one.": _one_more_call,
            "The end is right, and all steps are Euler's. The guess before is not used.": _sampled(
                lambda guess, before, h, h_before: guess
            ),
            "The last step takes the guess before the last: the last call was in vain.": _sampled(
                last=lambda guess, before: before
            ),
            "The step to 0 is corrected, too. It is Euler's: the last guess, as it is.": _sampled(
                last=lambda guess, before: guess + (guess - before) / 2
            ),
            "The correction is always one half. It is h / (2 h_before): the steps differ.": (
                _sampled(lambda guess, before, h, h_before: guess + (guess - before) / 2)
            ),
            "The ratio of the two steps is upside down: h belongs above, h_before below.": _sampled(
                lambda guess, before, h, h_before: guess + h_before / (2 * h) * (guess - before)
            ),
            "The correction has the wrong sign: it goes from the guess towards the one before.": (
                _sampled(
                    lambda guess, before, h, h_before: guess - h / (2 * h_before) * (guess - before)
                )
            ),
            "The correction is twice too large: its ½ is missing.": _sampled(
                lambda guess, before, h, h_before: guess + h / h_before * (guess - before)
            ),
            "h is the difference of two levels there. It is that of their logarithms.": _sampled(
                size=lambda level, lower: level - lower
            ),
            "h_before is 1 in each step. It ought to be the h of the step before.": _sampled(
                lambda guess, before, h, h_before: guess + h / 2 * (guess - before)
            ),
            "A tiny level stands in the place of 0: h is large, and the correction runs away.": (
                _sampled(end=1e-6)
            ),
        },
        hints=(
            "Which level does the last step of `pairwise` go to?",
            "It should go to 0. What is h there, and which part of the step needs h?",
            "Euler's step has no correction. To 0, how much does it keep of x, and of the guess?",
        ),
    ),
}
