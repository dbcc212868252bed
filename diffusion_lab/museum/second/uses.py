"""How answers of lesson 14b are used: a right side is asked, calls are counted, one trains."""

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor, nn

from .controls import Controlled


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


def trained(
    train: Callable, seed: int, x: Tensor, c: Tensor, target: Tensor
) -> tuple[object, Tensor, Tensor] | None:
    """Return the losses of a training, and all that base and control hold after it.

    x, c and target hold a batch in each row, (n, B, 1).
    """
    model = Controlled(seed).to(x).eval()
    losses = train(model, [*zip(x, c, target, strict=True)], 0.1)
    if losses is None:
        return None
    if isinstance(losses, list | tuple):
        losses = torch.stack([torch.as_tensor(loss) for loss in losses])
    losses = losses.detach() if isinstance(losses, Tensor) else losses
    return losses, _held(model.base), _held(model.control)


def _held(network: nn.Module) -> Tensor:
    """Return all numbers of a state_dict, parameters and buffers, as one tensor."""
    found = network.state_dict().values()
    return torch.cat([part.detach().flatten().to(next(network.parameters())) for part in found])
