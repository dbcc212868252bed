"""Lesson 08: the scatter of a sum of squares, the variance a chain keeps, annealed Langevin."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .exercise import Exercise

DTYPES = (torch.float64, torch.float32)


class Pulls(NamedTuple):
    """The score of a Gaussian at a noise level: score(x, level) = (mean - x) / (var + level^2)."""

    mean: Tensor
    var: float

    def __call__(self, x: Tensor, level: Tensor) -> Tensor:
        return (self.mean - x) / (self.var + level**2)


def _scatter() -> float:
    """Each square of variance h has the variance 2 h^2; variances add."""
    spans = [0.5 / 100] * 100 + [0.5 / 400] * 400
    return sum(2 * span**2 for span in spans) ** 0.5


def _kept_variance(a: Tensor, b: Tensor, v: Tensor) -> Tensor:
    """The variance w of w = (1 - a / v)^2 w + b^2, with the squares taken apart."""
    return b * b * v * v / (a * (2 * v - a))


def _chains(generator: torch.Generator) -> list[tuple]:
    cases = []
    for dtype in DTYPES:
        for size in (4, 1):
            share, b, v = torch.rand(3, size, generator=generator, dtype=dtype)
            v = 0.5 + 3 * v
            cases.append(((0.2 + 0.6 * share) * v, 0.3 + b, v))
    return cases


def _annealed(
    *,
    size: Callable = lambda ratio, level, levels: ratio * level**2,
    pull: float = 0.5,
    noise: Callable = lambda step_size: step_size**0.5,
    last: Callable = lambda level: level**2,
    asked: Callable = lambda level, levels: level,
    most: int | None = None,
) -> Callable:
    """Annealed Langevin with another step size, pull, noise, last step, level asked for, length."""

    def chain(
        score: Callable, x: Tensor, noise_levels: Tensor, eps: Tensor, ratio: float
    ) -> Tensor:
        for level, noises in zip(noise_levels, eps, strict=True):
            step_size = size(ratio, level, noise_levels)
            at = asked(level, noise_levels)
            for z in noises[:most]:
                x = x + pull * step_size * score(x, at) + noise(step_size) * z
        return x + last(level) * score(x, asked(level, noise_levels))

    return chain


def _turned(score: Callable, x: Tensor, levels: Tensor, eps: Tensor, ratio: float) -> Tensor:
    """From the smallest level up."""
    return _annealed()(score, x, levels.flip(0), eps, ratio)


def _cleaned_often(score: Callable, x: Tensor, levels: Tensor, eps: Tensor, ratio: float) -> Tensor:
    """With the denoising step after every level."""
    for row, noises in zip(levels[:, None], eps[:, None], strict=True):
        x = _annealed()(score, x, row, noises, ratio)
    return x


def _swapped(score: Callable, x: Tensor, levels: Tensor, eps: Tensor, ratio: float) -> Tensor:
    """All levels K times, with one step at each; the denoising step once."""
    for noises in eps.transpose(0, 1)[:, :, None]:
        x = _annealed(last=lambda level: 0)(score, x, levels, noises, ratio)
    return x + levels[-1] ** 2 * score(x, levels[-1])


def _walks(generator: torch.Generator) -> list[tuple]:
    cases = []
    for dtype in DTYPES:
        for levels, steps, size, dim in ((3, 4, 5, 2), (2, 1, 1, 3)):
            mean = torch.randn(dim, generator=generator, dtype=dtype)
            x = 3 * torch.randn(size, dim, generator=generator, dtype=dtype)
            eps = torch.randn(levels, steps, size, dim, generator=generator, dtype=dtype)
            down = torch.tensor([4.0, 1.5, 0.5], dtype=dtype)[:levels]
            cases.append((Pulls(mean, 0.3), x, down, eps, 0.3))
    return cases


EXERCISES = {
    "08.1": Exercise(
        truth=_scatter,
        cases=lambda generator: [()],
        mistakes={
            "That is t √(2/n) with 500 equal steps. These are not equal: the longer ones scatter "
            "more.": lambda: (2 / 500) ** 0.5,
            "That is the variance. The standard deviation is its root.": lambda: _scatter() ** 2,
            "The standard deviations of the two halves were added. Variances add.": (
                lambda: 0.5 * (2 / 100) ** 0.5 + 0.5 * (2 / 400) ** 0.5
            ),
            "A factor 2 is missing: the square of a normal number of variance h has the variance "
            "2 h^2.": lambda: _scatter() / 2**0.5,
            "3 h^2 is the mean of the square's square. Its variance is that less the square of "
            "the mean, h^2.": lambda: _scatter() * 1.5**0.5,
            "That is the mean of the sum, not how much it scatters.": lambda: 1.0,
            "That is the first half alone. The second scatters, too.": (
                lambda: 0.5 * (2 / 100) ** 0.5
            ),
        },
        hints=(
            "Formula (30) is for equal steps. Which variance has a single square?",
            "An increment over the time h squared has mean h and variance 2 h^2. The increments "
            "are independent.",
            "There are 100 steps of 0.5 / 100 and 400 of 0.5 / 400: add the variances.",
        ),
    ),
    "08.2": Exercise(
        truth=_kept_variance,
        cases=_chains,
        mistakes={
            "This is for N(0, 1). The score of N(0, v) is -x / v.": (
                lambda a, b, v: b**2 / (1 - (1 - a) ** 2)
            ),
            "The score of N(0, v) is -x / v, not -x v.": (
                lambda a, b, v: b**2 / (1 - (1 - a * v) ** 2)
            ),
            "The noise adds b^2 to the variance, not b.": (
                lambda a, b, v: b / (1 - (1 - a / v) ** 2)
            ),
            "The factor of x is squared in the variance.": lambda a, b, v: b**2 / (a / v),
            "a multiplies the score here; there is no further half.": (
                lambda a, b, v: b**2 / (1 - (1 - a / (2 * v)) ** 2)
            ),
            "That is the variance v of the density, which the chain does not keep.": (
                lambda a, b, v: v + 0 * a
            ),
            "That is where the formula b^2 v / (2 a) would end, with steps that go to 0.": (
                lambda a, b, v: b**2 * v / (2 * a)
            ),
            "That fits only b^2 = 2 a, the step of (32). Here b is free.": (
                lambda a, b, v: v / (1 - a / (2 * v)) + 0 * b
            ),
            "That is what (32) keeps on N(0, 1), with b^2 = 2 a. Here v and b are free.": (
                lambda a, b, v: 1 / (1 - a / 2) + 0 * b
            ),
            "That is 1 / (1 - a / 4): the step size a, and variance 1. Here v and b are free.": (
                lambda a, b, v: 1 / (1 - a / 4) + 0 * b
            ),
            "That is (32) with the step size a: it pulls by a / 2, and b^2 = a. Not here.": (
                lambda a, b, v: v / (1 - a / (4 * v)) + 0 * b
            ),
            "This is the standard deviation. Asked is the variance.": (
                lambda a, b, v: _kept_variance(a, b, v).sqrt()
            ),
        },
        hints=(
            "Write down the score of N(0, v). By what is x multiplied in a step?",
            "By 1 - a / v. What does the step make of a variance w?",
            "It makes (1 - a / v)^2 w + b^2. For which w is that w again?",
        ),
    ),
    "08.3": Exercise(
        truth=_annealed(),
        cases=_walks,
        mistakes={
            "The last denoising step is missing: noise of the last level is left.": (
                _annealed(last=lambda level: 0)
            ),
            "The step size must follow the level: ratio times the level's square.": (
                _annealed(size=lambda ratio, level, levels: ratio)
            ),
            "The step size is that of the first level everywhere.": (
                _annealed(size=lambda ratio, level, levels: ratio * levels[0] ** 2)
            ),
            "The step size is that of the last level everywhere.": (
                _annealed(size=lambda ratio, level, levels: ratio * levels[-1] ** 2)
            ),
            "The step size takes the level itself. Take its square.": (
                _annealed(size=lambda ratio, level, levels: ratio * level)
            ),
            "The score is multiplied by the whole step size. Take half of it.": _annealed(pull=1.0),
            "The noise is multiplied by the step size. Take its root.": (
                _annealed(noise=lambda step_size: step_size)
            ),
            "The noise is multiplied by √(2 step size): another form of the step. Here it is the "
            "root of the step size.": _annealed(noise=lambda step_size: (2 * step_size) ** 0.5),
            "The score is multiplied by the step size, the noise by √(2 step size): another form "
            "of the step, and twice as long.": (
                _annealed(pull=1.0, noise=lambda step_size: (2 * step_size) ** 0.5)
            ),
            "The score is subtracted. The points should climb: add it.": (
                _annealed(pull=-0.5, last=lambda level: -(level**2))
            ),
            "The score is subtracted in the Langevin steps. The points should climb: add it.": (
                _annealed(pull=-0.5)
            ),
            "In the last step the score is subtracted: add it.": (
                _annealed(last=lambda level: -(level**2))
            ),
            "No noise is added: the points only climb.": _annealed(noise=lambda step_size: 0),
            "The last step should add level^2 times the score, not level times.": (
                _annealed(last=lambda level: level)
            ),
            "The score is asked at the last level all the time.": (
                _annealed(asked=lambda level, levels: levels[-1])
            ),
            "The score is asked at the first level all the time.": (
                _annealed(asked=lambda level, levels: levels[0])
            ),
            "You began at the smallest level. Walk down from the first.": _turned,
            "Only one step is taken at each level: use every eps[l, k].": _annealed(most=1),
            "The denoising step comes after every level. It should come once, at the end.": (
                _cleaned_often
            ),
            "The loops are swapped: take all steps at a level before you go to the next.": _swapped,
        },
        hints=(
            "Two loops: over the levels with their noises, and over the noises of one level.",
            "Inside is one step of (32), with step_size = ratio * noise_level**2.",
            "After both loops one thing is left: the score at the last level takes the noise away.",
        ),
    ),
}
