"""Exhibits 4 to 6, on training: which steps are drawn, how they are told, how it ends."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from diffusion_core.nets import timestep_embedding

from ...museum import exhibits, mended
from ..exercise import Exercise


def _draws(generator: torch.Generator) -> list[tuple]:
    lengths, seeds = torch.randint(5, 40, (2, 3), generator=generator).tolist()
    return [(T, 600, seed) for T, seed in zip(lengths, seeds, strict=True)]


def _between(first: int, beyond: int) -> Callable:
    """Return draws from `first` to T + `beyond`, both included."""
    return lambda T, n, seed: torch.randint(
        first, T + beyond + 1, (n,), generator=torch.Generator().manual_seed(seed)
    )


def _one_for_all(T: int, n: int, seed: int) -> Tensor:
    return mended.pick_steps(T, 1, seed).expand(n)


def _steps(generator: torch.Generator) -> list[tuple]:
    """Steps (B,) up to 200 in random order, with several dims: also B = dim."""
    order = torch.randperm(200, generator=generator) + 1
    return [(order[:B], dim) for B, dim in ((6, 8), (8, 8), (3, 4), (50, 32))]


def _vector(
    arrange: Callable[[Tensor, Tensor], Tensor], rate: Callable[[Tensor, int], Tensor]
) -> Callable:
    """Return vectors from angles (B, dim/2), with other arrangements and frequencies."""

    def embed(t: Tensor, dim: int) -> Tensor:
        k = torch.arange(dim // 2, device=t.device)
        angles = t[:, None] * torch.exp(-math.log(10_000) * rate(k, dim))
        return arrange(angles.cos(), angles.sin())

    return embed


def _side_by_side(cos: Tensor, sin: Tensor) -> Tensor:
    return torch.cat([cos, sin], 1)


def _usual_rate(k: Tensor, dim: int) -> Tensor:
    return k / (dim // 2)


def _layers(generator: torch.Generator) -> list[tuple]:
    cases = []
    for dtype in (torch.float64, torch.float32):
        for B, H, D in ((5, 4, 2), (3, 3, 3), (1, 6, 1)):
            sizes = ((B, H), (D, H), (D,))
            cases.append(tuple(torch.randn(s, generator=generator, dtype=dtype) for s in sizes))
    return cases


def _ending(activation: Callable[[Tensor], Tensor]) -> Callable:
    return lambda h, weight, bias: activation(h @ weight.T + bias)


EXERCISES = {
    "14.4": Exercise(
        truth=mended.pick_steps,
        cases=_draws,
        draws="Your draws do not come from a generator made from `seed`: make it in the function, "
        "and pass it as generator=rng.",
        mistakes={
            "This is the exhibit itself: randint leaves out its upper end, so T is never drawn.": (
                exhibits.pick_steps
            ),
            "This draws 0 to T - 1. But t = 0 is clean data, and T is still missing.": (
                _between(0, -1)
            ),
            "T is drawn now, but 0 is, too: there is no noise at t = 0, so nothing to guess.": (
                _between(0, 0)
            ),
            "One too far: T + 1 is drawn.": _between(1, 1),
            "t = 1 is never drawn.": _between(2, 0),
            "All examples get the same step. Each should have its own.": _one_for_all,
        },
        hints=(
            "Which of 1, .., 50 is missing among the drawn steps? Look at the figure's right end.",
            "torch.randint(low, high, ..) draws from low to high - 1.",
            "For which `high` is high - 1 the step T?",
        ),
    ),
    "14.5": Exercise(
        truth=mended.step_vector,
        cases=_steps,
        mistakes={
            "This is the exhibit itself: reshape reads the numbers row by row, and the rows belong "
            "to frequencies, not to steps.": exhibits.step_vector,
            "The vector of a step is a column here. It should be a row.": lambda t, dim: (
                timestep_embedding(t, dim).T
            ),
            "The sines come first. The order asked for is cosines, then sines.": _vector(
                lambda cos, sin: torch.cat([sin, cos], 1), _usual_rate
            ),
            "Cosines and sines take turns. All the cosines should come first.": _vector(
                lambda cos, sin: torch.stack([cos, sin], 2).flatten(1), _usual_rate
            ),
            "The cosines stand there twice, and no sines.": _vector(
                lambda cos, sin: _side_by_side(cos, cos), _usual_rate
            ),
            "The frequencies fall half as fast as they should: k is divided by dim, not by "
            "dim / 2.": _vector(_side_by_side, lambda k, dim: k / dim),
            "The frequencies fall a little too fast: they end at 1/10 000. That is another usual "
            "choice; here k is divided by dim / 2.": _vector(
                _side_by_side, lambda k, dim: k / (dim // 2 - 1)
            ),
            "The frequencies rise from 1 on. They ought to fall: a sign is missing.": _vector(
                _side_by_side, lambda k, dim: -k / (dim // 2)
            ),
        },
        hints=(
            "Which axis of `angles` belongs to the steps, and which axis should it be at the end?",
            "Before the reshape, the tensor is (dim, B). A reshape does not swap axes.",
            "Either `angles` is made with a row for each step, or its axes are swapped at the end.",
        ),
    ),
    "14.6": Exercise(
        truth=mended.last_layer,
        cases=_layers,
        mistakes={
            "This is the exhibit itself: SiLU never goes below -0.28, and noise does.": (
                exhibits.last_layer
            ),
            "tanh stays between -1 and 1. Nothing at all should follow the last layer.": (
                _ending(torch.tanh)
            ),
            "ReLU has no negative answer at all.": _ending(torch.relu),
            "The bias is missing.": lambda h, weight, bias: h @ weight.T,
            "SiLU has moved in front of the layer. The features are what they are: h comes out of "
            "an activation already.": lambda h, weight, bias: functional.silu(h) @ weight.T + bias,
            "The sigmoid has only positive answers.": _ending(torch.sigmoid),
            "The bias has moved behind SiLU, and SiLU is still there: a lowest value is left.": (
                lambda h, weight, bias: functional.silu(h @ weight.T) + bias
            ),
        },
        hints=(
            "Which values can noise take, and which can this function answer?",
            "SiLU(x) = x sigmoid(x) has a lowest value. What follows the last layer in `MLP`?",
            "Take away what follows the linear layer: noise needs no further function.",
        ),
    ),
}
