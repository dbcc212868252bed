"""What scaled latents are measured with: three channels, one large, one middling, one small."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..readings import EXACT, Reading

STDS = torch.tensor([2.0, 0.8, 0.25], **EXACT)  # of the channels
PICTURES, CLEAR = 800, 0.9


def latents(seed: int = 0, n: int = PICTURES) -> Tensor:
    """Return latents (n, 3, 4, 4) of pictures, the same ones each time for one seed."""
    rng = torch.Generator().manual_seed(seed)
    z = torch.randn(n, 3, 4, 4, generator=rng, dtype=torch.float64)
    return STDS[:, None, None] * z


def noise() -> Tensor:
    """Return noise for `PICTURES` latents, the same each time."""
    return latents(2) / STDS[:, None, None]


def noised(scaled: Callable, alpha_bar: float = CLEAR, z: Tensor | None = None) -> Tensor:
    """Return z_t of fresh pictures at this alpha_bar."""
    return scaled(latents(1) if z is None else z, latents(), alpha_bar, noise())


def kept(scaled: Callable, alpha_bar: float) -> Tensor:
    """Return for each channel (3,) the squared correlation of z_t and z: the share of z in z_t."""
    z_t, z = (x.transpose(0, 1).flatten(1) for x in (noised(scaled, alpha_bar), latents(1)))
    pairs = zip(z_t, z, strict=True)
    return torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] ** 2 for pair in pairs])


def in_all(scaled: Callable) -> Reading:
    """Measure the second moment of all numbers of z_t."""
    what = "Second moment of z_t over all numbers"
    return Reading(what, noised(scaled).square().mean().item(), 0.92, 1.08)


def only_noise(scaled: Callable) -> Reading:
    """Measure the variance of the noise in z_t, in multiples of 1 - alpha_bar_t."""
    ratio = noised(scaled, z=0 * latents(1)).square().mean().item() / (1 - CLEAR)
    return Reading("Variance of the noise in z_t, in multiples of 1 - alpha_bar_t", ratio, 0.9, 1.1)


def at_the_end(scaled: Callable) -> Reading:
    """Measure what is left of z where alpha_bar is 0."""
    off = (noised(scaled, 0.0) - noise()).abs().max().item()
    return Reading("Largest number of z left at alpha_bar_t = 0", off, high=0.001)


def fresh_pictures(scaled: Callable) -> Reading:
    """Compare the size of fresh latents with that of the training ones, at alpha_bar 1."""
    both = [noised(scaled, 1.0, z).square().mean() for z in (latents(1), latents())]
    return Reading(
        "Second moment, new pictures over training ones", (both[0] / both[1]).item(), 0.8, 1.2
    )


def by_channel(scaled: Callable) -> Reading:
    """Measure the second moment of the channel in which it is farthest from 1."""
    moments = noised(scaled).square().mean((0, 2, 3))
    worst = moments[(moments - 1).abs().argmax()].item()
    return Reading("Second moment of z_t, in the worst channel", worst, 0.9, 1.1)
