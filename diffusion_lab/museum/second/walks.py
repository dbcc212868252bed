"""What a noisy walk is measured with. Every instrument takes a function in its place."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..readings import Reading

SIGMA, DT, STEPS, PATHS = 1.5, 0.01, 100, 2000


def paths(walk: Callable) -> Tensor:
    """Return the states (STEPS + 1, PATHS) of walks from 1, the same noise each time."""
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(STEPS, 2, PATHS, generator=rng, dtype=torch.float64)
    start = torch.ones(PATHS, dtype=torch.float64)
    return torch.cat([start[None], walk(start, SIGMA, DT, noise)])


def pushes(walk: Callable) -> Tensor:
    """Return what the noise did in each step, in units of sigma sqrt(dt): (STEPS, PATHS)."""
    states = paths(walk)
    return (states[1:] - (1 - DT / 2) * states[:-1]) / (SIGMA * DT**0.5)


def estimates(walk: Callable) -> Tensor:
    """Return for each path the variance that its pushes tell, (PATHS,): the mean of squares."""
    return pushes(walk).square().mean(0)


def mean(walk: Callable) -> Reading:
    """Measure the mean push."""
    return Reading("Mean of a push", pushes(walk).mean().item(), -0.02, 0.02)


def variance(walk: Callable) -> Reading:
    """Measure the variance of a push."""
    return Reading("Variance of a push", pushes(walk).var().item(), 0.95, 1.05)


def neighbours(walk: Callable) -> Reading:
    """Measure whether a push depends on the one before it."""
    found = pushes(walk)
    link = (found[1:] * found[:-1]).mean().item()
    return Reading("Mean product of a push and the next", link, -0.02, 0.02)


def fourth_power(walk: Callable) -> Reading:
    """Measure the tails: the mean fourth power of a push, 3 for N(0, 1)."""
    found = pushes(walk)
    ratio = (found**4).mean() / found.square().mean() ** 2
    return Reading("Mean fourth power over squared variance", ratio.item(), 2.8, 3.2)


def end(walk: Callable) -> Reading:
    """Measure the variance at the end, in multiples of what the steps add up to."""
    keep = (1 - DT / 2) ** 2
    exact = SIGMA**2 * DT * (1 - keep**STEPS) / (1 - keep)
    what = "Variance at the end, in multiples of the exact one"
    return Reading(what, paths(walk)[-1].var().item() / exact, 0.85, 1.15)
