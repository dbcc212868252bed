"""What inpainting is measured with: Gaussian pairs of numbers, of which the first is known."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_core.grids import geometric_levels

from ..readings import EXACT, Reading

LINK = 0.9  # correlation of the two numbers, both N(0, 1)
COV = torch.tensor([[1.0, LINK], [LINK, 1.0]], **EXACT)
ROUNDS, PAIRS, KNOWN = 10, 1500, 2.0
STD = (1 - LINK**2) ** 0.5  # of the second number, given the first, whose mean is LINK times it


def denoise(x: Tensor, level: float) -> Tensor:
    """Return E[x_0 | x_0 + level eps = x] for the pairs, exactly."""
    return x @ torch.linalg.solve(COV + level**2 * torch.eye(2, **EXACT), COV)


def data(n: int = PAIRS) -> Tensor:
    """Return n pairs (n, 2) of the data, the same ones each time."""
    z = torch.randn(n, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return z @ torch.linalg.cholesky(COV).T


def drawn(
    fill: Callable, y: Tensor | None = None, steps: int = 40, guess: Callable = denoise
) -> Tensor:
    """Return pairs (B, 2) given their first numbers y (B,), or KNOWN: the same noise each time."""
    y = torch.full((PAIRS,), KNOWN, **EXACT) if y is None else y
    rng = torch.Generator().manual_seed(5)
    levels = geometric_levels(8.0, 0.05, steps).tolist()
    noise = torch.randn(steps, ROUNDS, 3, len(y), 2, generator=rng, dtype=torch.float64)
    start = torch.randn(len(y), 2, generator=rng, dtype=torch.float64)
    return fill(guess, levels[0] * start, y, levels, noise)


def known_part(fill: Callable) -> Reading:
    """Measure how far the known part is from what is known."""
    off = (drawn(fill)[:, 0] - KNOWN).abs().max().item()
    return Reading("Largest error of the known number", off, high=0.001)


def on_the_way(fill: Callable) -> Reading:
    """Measure the noise in the known part of the states that the network sees."""
    seen = []

    def kept(x: Tensor, level: float) -> Tensor:
        seen.append((x[:, 0] - KNOWN) / level)
        return denoise(x, level)

    drawn(fill, guess=kept)
    std = torch.stack(seen).std().item()
    return Reading("Std of the noise in the known number, in levels", std, 0.9, 1.1)


def more_steps(fill: Callable) -> Reading:
    """Compare the mean of the unknown number after 80 steps and after 20."""
    y = torch.full((PAIRS // 2,), KNOWN, **EXACT)
    few, many = (drawn(fill, y, steps)[:, 1].mean() for steps in (20, 80))
    return Reading("Mean with 80 steps minus mean with 20", (many - few).item(), -0.25, 0.25)


def over_the_data(fill: Callable) -> Reading:
    """Measure the mean of the unknown number where the known ones are those of the data."""
    y = data()[:, 0]
    mean = drawn(fill, y)[:, 1].mean().item()
    return Reading("Mean of the unknown number over all of the data", mean, -0.1, 0.1)


def conditional(fill: Callable) -> Reading:
    """Compare mean and std of the unknown number with those given the known one."""
    found = drawn(fill)[:, 1]
    off = (found.mean() - LINK * KNOWN).abs() / STD
    ratio = (found.std() / STD - 1).abs()
    what = "Error of mean or std of the unknown number, in exact stds, the larger one"
    return Reading(what, torch.stack([off, ratio]).max().item(), high=0.3)
