"""What a fast sampler is measured with: small pictures, and a denoiser that knows them."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_core.grids import geometric_levels

from ..readings import EXACT, Reading

SIDE, DRAWN = 14, 120


def pictures() -> Tensor:
    """Return six pictures, (6, 14 * 14), black -1 and white 1: the data."""
    axis = torch.linspace(-1, 1, SIDE, **EXACT)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    far, square = (x**2 + y**2).sqrt(), torch.maximum(x.abs(), y.abs())
    white = [
        far < 0.7,
        (far - 0.65).abs() < 0.2,
        (x.abs() < 0.2) | (y.abs() < 0.2),
        ((x - y).abs() < 0.3) | ((x + y).abs() < 0.3),
        square < 0.6,
        (square - 0.65).abs() < 0.2,
    ]
    return torch.stack(white).flatten(1).to(axis.dtype) * 2 - 1


def denoise(x: Tensor, level: float) -> Tensor:
    """Return the mean of the pictures that x = x_0 + level eps can have come from."""
    data = pictures()
    chances = torch.softmax(-torch.cdist(x, data).square() / (2 * level**2), 1)
    return chances @ data


def grid(calls: int) -> list[float]:
    """Return noise levels from 20 to 0.25, the first alone where there is one call."""
    return geometric_levels(20.0, 0.25, calls).tolist() if calls > 1 else [20.0]


def drawn(sampler: Callable, calls: int = 10, guess: Callable = denoise) -> Tensor:
    """Return samples (120, 14 * 14), from the same noise each time."""
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(DRAWN, SIDE**2, generator=rng, dtype=torch.float64)
    return sampler(guess, grid(calls)[0] * z, grid(calls))


def grain(x: Tensor) -> float:
    """Return the root mean square of what lies between samples and their nearest pictures."""
    data = pictures()
    nearest = data[torch.cdist(x, data).argmin(1)]
    return (x - nearest).square().mean().sqrt().item()


def number_of_calls(sampler: Callable) -> Reading:
    """Count the calls of the network beyond the number of levels, which is 10."""
    asked = []
    drawn(sampler, 10, lambda x, level: asked.append(level) or denoise(x, level))
    return Reading("Calls of the network for 10 levels", len(asked), 10, 10)


def share(sampler: Callable) -> Reading:
    """Measure the share of samples that are nearest to the first picture: one of six."""
    nearest = torch.cdist(drawn(sampler), pictures()).argmin(1)
    part = (nearest == 0).double().mean().item()
    return Reading("Share of the samples that are discs", part, 1 / 6 - 0.13, 1 / 6 + 0.13)


def not_numbers(sampler: Callable) -> Reading:
    """Count the pixels that are NaN or infinite."""
    count = (~drawn(sampler).isfinite()).sum().item()
    return Reading("Pixels that are NaN or infinite", count, 0, 0)


def from_last_guess(sampler: Callable) -> Reading:
    """Measure how far the samples are from the network's last guess, for four counts of calls."""
    apart = torch.tensor([_apart(sampler, calls) for calls in (1, 2, 5, 10)])
    what = "Distance of the end from the last guess, the largest for 1, 2, 5 and 10 calls"
    return Reading(what, apart.max().item(), high=0.001)  # NaN, where one of them is


def _apart(sampler: Callable, calls: int) -> float:
    guesses = []

    def kept(x: Tensor, level: float) -> Tensor:
        guesses.append(denoise(x, level))
        return guesses[-1]

    end = drawn(sampler, calls, kept)
    last = guesses[-1] if guesses else torch.full_like(end, torch.inf)  # it was never asked
    return (end - last).square().mean().sqrt().item()
