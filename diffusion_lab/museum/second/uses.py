"""How answers of lesson 14b are used: a right side is asked, calls of the network are counted."""

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor


def asked(
    make: Callable, velocity: Callable, states: list[Tensor], times: list[float], directions: Tensor
) -> tuple[Tensor, Tensor] | None:
    """Ask a right side at each state and time: all velocities, all divergences, without a graph.

    Its directions come one after another. Raises _NoFunction or _NoPair.
    """
    left = iter(directions)
    f = make(velocity, lambda: next(left))
    if f is None:
        return None
    if not callable(f):
        raise _NoFunction("right_side should return a function f(x, time)")
    answers = [f(x, time) for x, time in zip(states, times, strict=True)]
    if not all(_is_pair(answer, x) for answer, x in zip(answers, states, strict=True)):
        raise _NoPair("f should return two tensors, (B, D) and (B,)")
    velocities, divergences = zip(*answers, strict=True)
    return torch.stack(velocities).detach(), torch.stack(divergences).detach()


def _is_pair(answer: object, x: Tensor) -> bool:
    pair = isinstance(answer, tuple | list) and all(isinstance(part, Tensor) for part in answer)
    return pair and [part.shape for part in answer] == [x.shape, x.shape[:1]]


class _NoFunction(Exception):
    """A maker that made no function."""


class _NoPair(Exception):
    """A right side that did not return a velocity and a divergence."""


class _MoreCalls(Exception):
    """A sampler that called the network more often than there are levels."""


class _FewerCalls(Exception):
    """A sampler that called the network less often than there are levels."""


def counted(sampler: Callable, denoise: Callable, x: Tensor, levels: list[float]) -> object:
    """Return what a sampler makes. Raises where it does not call the network once a level."""
    levels_asked = []

    @wraps(denoise)
    def counting(x: Tensor, level: float) -> Tensor:
        levels_asked.append(level)
        if len(levels_asked) > len(levels):
            raise _MoreCalls("one call of denoise at each level is enough")
        return denoise(x, level)

    end = sampler(counting, x, levels)
    if end is not None and len(levels_asked) < len(levels):
        raise _FewerCalls("denoise should be called at each level, the last one, too")
    return end
