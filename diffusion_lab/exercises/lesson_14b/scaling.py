"""Lesson 14b: scaled latents, a race of two samplers, and an average over processes, mended."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from diffusion_core.processes import Place, own_generator

from ...museum.second import exhibits, mended
from ..exercise import Exercise

DTYPES = (torch.float64, torch.float32)


def _latents(generator: torch.Generator) -> list[tuple]:
    """Return (z, train, alpha_bar, eps): channels of other sizes, whose means are not 0."""
    cases = []
    for dtype in DTYPES:
        for B, C, side in ((3, 2, 2), (4, 3, 3), (1, 4, 2)):
            size = 0.2 + 2 * torch.rand(C, 1, 1, generator=generator, dtype=dtype)
            shape = (B, C, side, side)
            z, eps = torch.randn(2, *shape, generator=generator, dtype=dtype)
            train = torch.randn(5, *shape[1:], generator=generator, dtype=dtype)
            alpha_bar = 0.1 + 0.8 * torch.rand(1, generator=generator).item()
            cases.append((size * (z + 0.5), size * (train + 0.5), alpha_bar, eps))
    return cases


def _scaled(
    scale: Callable, dims: tuple[int, ...] = (0, 2, 3), of: str = "train", noise: bool = False
) -> Callable:
    """Return noised latents with another scale(m, var), measured over other dims."""

    def noisy(z: Tensor, train: Tensor, alpha_bar: float, eps: Tensor) -> Tensor:
        measured = train if of == "train" else z
        moments = measured.square().mean(dims, keepdim=True)
        factor = scale(moments, measured.var(dims, keepdim=True, correction=0))
        return alpha_bar**0.5 * factor * z + (1 - alpha_bar) ** 0.5 * eps * factor**noise

    return noisy


def _centred(z: Tensor, train: Tensor, alpha_bar: float, eps: Tensor) -> Tensor:
    mean = train.mean((0, 2, 3), keepdim=True)
    return mended.noisy_latents(z - mean, train - mean, alpha_bar, eps)


def _by_std(z: Tensor, train: Tensor, alpha_bar: float, eps: Tensor) -> Tensor:
    scaled = z / train.std((0, 2, 3), keepdim=True)  # over N - 1
    return alpha_bar**0.5 * scaled + (1 - alpha_bar) ** 0.5 * eps


def _by_width(z: Tensor, train: Tensor, alpha_bar: float, eps: Tensor) -> Tensor:
    scale = train.square().mean((0, 2, 3)).rsqrt()
    return alpha_bar**0.5 * scale * z + (1 - alpha_bar) ** 0.5 * eps


def _races(generator: torch.Generator) -> list[tuple]:
    """Return (denoise, eps, times): a grid that is not even, an even one, and a single step."""
    cases = []
    for dtype in DTYPES:
        for B, inner in ((3, 3), (2, 2), (4, 0)):
            between = 0.15 + 0.7 * torch.rand(inner, generator=generator, dtype=torch.float64)
            times = [1.0, *between.sort(descending=True).values.tolist(), 0.0]
            eps = torch.randn(B, 2, generator=generator, dtype=dtype)
            cases.append((denoise, eps, times))
    return cases


def denoise(x: Tensor, a: float, b: float) -> Tensor:
    """Return E[x_0 | a x_0 + b eps = x] for data of two narrow modes in each coordinate."""
    return torch.tanh(a * x / (0.1 * a**2 + b**2)) + 0.1 * a * x


def _raced(
    stops: Callable[[float], tuple[float, float]],
    flow_at: Callable[[float], float] = lambda time: time,
    order: int = 1,
) -> Callable:
    """Return a race with another (a, b) for DDIM, other times for the flow, or another order."""

    def race(denoise: Callable, eps: Tensor, times: list[float]) -> Tensor:
        flow, ddim = eps, eps
        for time, later in pairwise(map(flow_at, times)):
            flow = flow + (later - time) * (flow - denoise(flow, 1 - time, time)) / time
        for (a, b), (a_s, b_s) in pairwise(map(stops, times)):
            guess = denoise(ddim, a, b)
            ddim = a_s * guess + b_s * (ddim - a * guess) / b
        return torch.stack([flow, ddim][::order])

    return race


def _of_bar(bar: float) -> tuple[float, float]:
    return bar**0.5, (1 - bar) ** 0.5


def vp_bar(time: float) -> float:
    """Return alpha_bar of the VP schedule at a time."""
    return math.exp(-0.1 * time - 9.95 * time**2)


def _size(time: float) -> float:
    return (1 - time) ** 2 + time**2


def _of_vp(time: float) -> float:
    """Return the flow's time at the SNR that the VP schedule has at this time."""
    a, b = _of_bar(vp_bar(time))
    return b / (a + b)


def _averages(generator: torch.Generator) -> list[tuple]:
    """Return (gradient, x, ranks, seed): several processes, and one alone."""
    cases = []
    for dtype in DTYPES:
        for B, D, ranks in ((6, 2, 3), (4, 4, 2), (3, 2, 1)):
            x = torch.randn(B, D, generator=generator, dtype=dtype)
            seed = torch.randint(1, 1000, (1,), generator=generator).item()
            cases.append((gradient, x, ranks, seed))
    return cases


def gradient(x: Tensor, eps: Tensor) -> Tensor:
    """Return something that depends on both, as a mean over the batch."""
    return (torch.sin(x + 2 * eps) * (1 + x)).mean(0)


def _averaged(
    rng_of: Callable = lambda seed, rank, ranks: own_generator(seed, Place(rank, ranks)),
    reduce: Callable = lambda found: found.mean(0),
    part_of: Callable = lambda parts, rank: parts[rank],
) -> Callable:
    """Return an average with other generators, another reduction, or other parts of the data."""

    def average(gradient: Callable, x: Tensor, ranks: int, seed: int) -> Tensor:
        parts, found = x.chunk(ranks), []
        for rank in range(ranks):
            part = part_of(parts, rank)
            eps = torch.randn(part.shape, generator=rng_of(seed, rank, ranks), dtype=x.dtype)
            found.append(gradient(part, eps.to(x)))
        return reduce(torch.stack(found))

    return average


def _in_turn(gradient: Callable, x: Tensor, ranks: int, seed: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return _averaged(lambda seed, rank, ranks: rng)(gradient, x, ranks, seed)


def _cut(gradient: Callable, x: Tensor, ranks: int, seed: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    eps = torch.randn(x.shape, generator=rng, dtype=x.dtype).to(x)
    pairs = zip(x.chunk(ranks), eps.chunk(ranks), strict=True)
    return torch.stack([gradient(part, noise) for part, noise in pairs]).mean(0)


EXERCISES = {
    "14b.7": Exercise(
        truth=mended.noisy_latents,
        cases=_latents,
        mistakes={
            "This is the exhibit itself: one scale for all channels.": exhibits.noisy_latents,
            "The scale is measured on z. It belongs to the training latents, whatever z is.": (
                _scaled(lambda m, var: m.rsqrt(), of="z")
            ),
            "Each place has a scale of its own. The mean runs over places, too.": _scaled(
                lambda m, var: m.rsqrt(), dims=(0,)
            ),
            "Each picture is scaled by itself. The mean runs over the training pictures.": _scaled(
                lambda m, var: m.rsqrt(), dims=(1, 2, 3), of="z"
            ),
            "That divides by the standard deviation. Asked for is E z^2 = 1, mean and all.": (
                _scaled(lambda m, var: var.rsqrt())
            ),
            "That divides by std(). Asked for is E z^2 = 1, mean and all.": _by_std,
            "The mean of each channel is taken away. Asked for is a scale alone.": _centred,
            "It is divided by the second moment. Its root is missing.": _scaled(
                lambda m, var: 1 / m
            ),
            "It is multiplied by the root of the second moment, and should be divided.": _scaled(
                lambda m, var: m.sqrt()
            ),
            "The noise is scaled, too. It has variance 1 already.": _scaled(
                lambda m, var: m.rsqrt(), noise=True
            ),
            "The C scales stand along the last dimension, the width. A channel is dimension 1.": (
                _by_width
            ),
            "The latents are not scaled at all.": _scaled(lambda m, var: torch.ones_like(m)),
        },
        hints=(
            "Over which of the four dimensions does the mean run, and over which should it not?",
            "A channel is dimension 1. All the others belong into the mean.",
            "The result has C numbers. To multiply z (B, C, H, W) it needs the shape (C, 1, 1).",
        ),
    ),
    "14b.8": Exercise(
        truth=mended.race,
        cases=_races,
        mistakes={
            "This is the exhibit itself: each sampler has a grid of its own.": exhibits.race,
            "Both are at the same noise levels, but not at those of `times`.": _raced(
                lambda time: _of_bar(vp_bar(time)), _of_vp
            ),
            "DDIM's a is the flow's there, and its b is not: so it has another SNR.": _raced(
                lambda time: _of_bar((1 - time) ** 2)
            ),
            "alpha_bar is 1 - time there. That is not the SNR of the flow at this time.": _raced(
                lambda time: _of_bar(1 - time)
            ),
            "alpha_bar has its root there twice: it is a^2 / (a^2 + b^2).": _raced(
                lambda time: _of_bar(math.sqrt((1 - time) ** 2 / _size(time)))
            ),
            "DDIM's b is the flow's there, and its a is made to fit: so a / b is not the flow's.": (
                _raced(lambda time: ((1 - time**2) ** 0.5, time))
            ),
            "That is the flow twice. DDIM has a race of its own to run.": (
                lambda denoise, eps, times: mended.race(denoise, eps, times)[[0, 0]]
            ),
            "The two are in the other order: the flow is first.": _raced(
                lambda time: ((1 - time) / _size(time) ** 0.5, time / _size(time) ** 0.5), order=-1
            ),
        },
        hints=(
            "What is the ratio of data to noise, a / b, for the flow at a time?",
            "DDIM's a and b should have the same ratio, and squares that add up to 1.",
            "Divide both 1 - time and time by the root of the sum of their squares.",
        ),
    ),
    "14b.9": Exercise(
        truth=mended.mean_gradient,
        cases=_averages,
        mistakes={
            "This is the exhibit itself: every process makes the same generator.": (
                exhibits.mean_gradient
            ),
            "The law is right for one run. But the seeds are one apart: the next run, with the "
            "next seed, draws the same again.": _averaged(
                lambda seed, rank, ranks: torch.Generator().manual_seed(seed + rank)
            ),
            "One generator serves all, one after another. A process cannot know how far the others "
            "have drawn: each makes its own.": _in_turn,
            "The seed of the run is lost: every run draws the same.": _averaged(
                lambda seed, rank, ranks: torch.Generator().manual_seed(rank)
            ),
            "These seeds meet those of runs with more or fewer processes. Take own_generator.": (
                _averaged(
                    lambda seed, rank, ranks: torch.Generator().manual_seed(seed * ranks + rank)
                )
            ),
            "One draw is cut in parts. A process cannot see the draws of the others: it needs a "
            "generator of its own.": _cut,
            "All processes have the generator of the last one.": _averaged(
                lambda seed, rank, ranks: own_generator(seed, Place(ranks - 1, ranks))
            ),
            "The gradients are added up. They should be averaged.": _averaged(
                reduce=lambda found: found.sum(0)
            ),
            "Every process has the first part of the data.": _averaged(
                part_of=lambda parts, rank: parts[0]
            ),
            "That is the gradient of the first process alone.": _averaged(
                reduce=lambda found: found[0]
            ),
        },
        hints=(
            "Which line do all processes run alike, although it should differ?",
            "A process knows its rank: here the place of its part in the list.",
            "own_generator(seed, Place(rank, ranks)) differs by rank, and by seed, too.",
        ),
    ),
}
