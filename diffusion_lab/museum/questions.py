"""Questions to the exhibits 1 to 6 of lesson 14 that do not find their mistakes.

Each takes a function in the place of an exhibit, as the instruments that find them do.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_core.nets import timestep_embedding
from diffusion_core.schedules import (
    LARGEST_PRIOR_GAP,
    NoiseSchedule,
    prior_gap,
    vp_schedule,
)

from .readings import ONE, Reading, quiet


def gap_of_1000(betas_of: Callable) -> Reading:
    """Measure the prior gap of a schedule of 1000 steps."""
    gap = prior_gap(quiet(lambda: NoiseSchedule(betas_of(1000))))
    return Reading("Prior gap of 1000 steps, in bits per dimension", gap, high=LARGEST_PRIOR_GAP)


def falls(betas_of: Callable) -> Reading:
    """Count the betas of 200 that are not above the one before."""
    count = (betas_of(200).diff() <= 0).sum().item()
    return Reading("Betas of 200 that do not rise", count, 0, 0)


def outside(betas_of: Callable) -> Reading:
    """Count the betas of 200 that are not between 0 and 1."""
    betas = betas_of(200)
    return Reading("Betas of 200 outside (0, 1)", ((betas <= 0) | (betas >= 1)).sum().item(), 0, 0)


def even(betas_of: Callable) -> Reading:
    """Measure how uneven the gaps of 200 betas are."""
    gaps = betas_of(200).diff()
    return Reading("Largest gap between 200 betas, over the smallest", _ratio(gaps), 0.9, 1.1)


def even_roots(betas_of: Callable) -> Reading:
    """Measure how uneven the gaps of the roots of 200 betas are."""
    gaps = betas_of(200).sqrt().diff()
    return Reading("Largest gap between 200 roots, over the smallest", _ratio(gaps), 0.9, 1.1)


def _ratio(gaps: Tensor) -> float:
    return (gaps.max() / gaps.min()).item()


def left_over(step: Callable) -> Reading:
    """Compare what 200 steps leave of x_0 with what the jump leaves."""
    schedule, x = vp_schedule(200), ONE
    for t in range(1, schedule.T + 1):
        x = step(schedule, x, t, 0 * ONE)
    ratio = x.item() / schedule.alpha_bars[-1].sqrt().item()
    return Reading("What 200 steps leave of x_0, in multiples of the jump's", ratio, 0.99, 1.01)


def both_signs(step: Callable) -> Reading:
    """Add what a draw and its mirror image do in one step: noise has mean 0."""
    both = sum(step(vp_schedule(200), 0 * ONE, 100, sign * ONE).item() for sign in (-1, 1))
    return Reading("Effect of z = 1 plus that of z = -1", both, -0.001, 0.001)


def first_step(step: Callable) -> Reading:
    """Measure the share of x_0 in x_1."""
    kept = step(vp_schedule(200), ONE, 1, 0 * ONE).item() ** 2
    return Reading("Share of the variance of x_0 in x_1", kept, 0.98, 1.02)


def mean_step(pick: Callable) -> Reading:
    """Measure the mean of the drawn steps of 50."""
    mean = pick(50, 20_000, 0).double().mean().item()
    return Reading("Mean of 20 000 steps drawn from 1..50", mean, 24.0, 27.0)


def one_for_all(pick: Callable) -> Reading:
    """Measure how often two examples beside each other get the same step: one in 50."""
    drawn = pick(50, 20_000, 0)
    same = (drawn[1:] == drawn[:-1]).double().mean().item()
    return Reading("Share of neighbours in a batch with the same step", same, 0.0, 0.05)


def lowest(pick: Callable) -> Reading:
    """Measure the lowest step drawn."""
    return Reading("The lowest of 20 000 drawn steps", pick(50, 20_000, 0).min().item(), 1, 1)


def alone(embed: Callable) -> Reading:
    """Compare the vector of a single step with the package's."""
    seven = torch.tensor([7])
    off = (embed(seven, 32) - timestep_embedding(seven, 32)).abs().max().item()
    return Reading("Error of the vector of t = 7, alone in its batch", off, high=0.001)


def mean_square(embed: Callable) -> Reading:
    """Measure the mean square of all numbers: cos^2 + sin^2 = 1 for each pair."""
    mean = embed(torch.arange(1, 201), 32).double().square().mean().item()
    return Reading("Mean square of all numbers of 200 vectors", mean, 0.49, 0.51)


def largest(embed: Callable) -> Reading:
    """Measure the largest number, in size: a cosine or sine reaches 1."""
    found = embed(torch.arange(1, 201), 32).abs().max().item()
    return Reading("The largest number of 200 vectors, in size", found, 0.9, 1.1)


def highest_answer(layer: Callable) -> Reading:
    """Measure the highest of 10 000 answers to random features."""
    found = _answers(layer).max().item()
    return Reading("The highest of 10 000 answers", found, 3.0, 30.0)


def varies(layer: Callable) -> Reading:
    """Measure the standard deviation of the answers to random features."""
    return Reading("Standard deviation of 10 000 answers", _answers(layer).std().item(), 0.5, 6.0)


def learns(layer: Callable) -> Reading:
    """Measure the gradient that reaches the weights."""
    with torch.enable_grad():
        weight = torch.ones(1, 16, dtype=torch.float64, requires_grad=True)
        h = torch.linspace(-1, 1, 160, dtype=torch.float64).view(10, 16)
        layer(h, weight, torch.zeros(1, dtype=torch.float64)).square().mean().backward()
    return Reading("Size of the gradient at the weights", weight.grad.norm().item(), 0.01, 60)


def _answers(layer: Callable) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    h = torch.randn(10_000, 16, generator=rng, dtype=torch.float64)
    weight = torch.randn(1, 16, generator=rng, dtype=torch.float64)
    return layer(h, weight, torch.zeros(1, dtype=torch.float64))
