"""What the training of a control is measured with: a base that knows a wave, and what it leaves."""

import copy
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..readings import EXACT, Reading

BATCHES, SIZE, RATE = 100, 64, 0.1
RIDGE = 0.1  # of the least squares by which the base has learned


class Controlled(nn.Module):
    """base(x) + control(x, c): two small networks with BatchNorm; the control starts at 0."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.base, self.control = _network(1), _network(2)
        nn.init.zeros_(self.control[-1].weight)
        nn.init.zeros_(self.control[-1].bias)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Return the guess (B, 1) for numbers x (B, 1) and conditions c (B, 1)."""
        return self.base(x) + self.control(torch.cat([x, c], 1))


def _network(inputs: int) -> nn.Sequential:
    layers = nn.Linear(inputs, 24), nn.Tanh(), nn.BatchNorm1d(24), nn.Linear(24, 1)
    layers[0].weight.data *= 3
    return nn.Sequential(*layers).to(**EXACT)


class After(NamedTuple):
    """A model after the training of its control, what its base held before, and the losses."""

    model: Controlled
    before: dict[str, Tensor]
    losses: Tensor


def wave(x: Tensor) -> Tensor:
    """Return what the base has learned, at x."""
    return torch.sin(2 * x)


@cache
def untrained() -> Controlled:
    """Return a model whose base knows the wave on (-2, 2). Copy it before you train."""
    model = Controlled(0)
    *first, last = model.base
    x = torch.linspace(-2, 2, 257, **EXACT)[:, None]
    first[2].momentum = 1.0  # the averages of this x, at once
    nn.Sequential(*first).train()(x)
    first[2].momentum = 0.1
    seen = torch.cat([nn.Sequential(*first).eval()(x), torch.ones_like(x)], 1).detach()
    small = RIDGE * torch.eye(seen.shape[1], **EXACT)
    found = torch.linalg.solve(seen.T @ seen + small, seen.T @ wave(x))
    last.weight.data, last.bias.data = found[:-1].T, found[-1]
    return model.eval()


def batches() -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return what the control learns from: (x, c, wave(x) + c x / 2), x in (-1, 2), c = -1 or 1."""
    rng = torch.Generator().manual_seed(8)
    found = []
    for _ in range(BATCHES):
        x = 3 * torch.rand(SIZE, 1, generator=rng, dtype=torch.float64) - 1
        c = 2.0 * torch.randint(0, 2, (SIZE, 1), generator=rng) - 1
        found.append((x, c.double(), wave(x) + c * x / 2))
    return found


def after(train: Callable, steps: int = BATCHES) -> After:
    """Train a copy of the model on the first `steps` batches; it is in eval() afterwards."""
    model = copy.deepcopy(untrained())
    before = copy.deepcopy(model.base.state_dict())
    with torch.enable_grad():
        losses = train(model, batches()[:steps], RATE)
    return After(model.eval(), before, torch.as_tensor(losses).detach())


def parameters(train: Callable) -> Reading:
    """Measure the largest change of a parameter of the base."""
    model, before, _ = after(train)
    off = max((p - before[name]).abs().max().item() for name, p in model.base.named_parameters())
    return Reading("Largest change of a parameter of the base", off, high=0.001)


def learned(train: Callable) -> Reading:
    """Measure what is left of the loss at the end of the training."""
    losses = after(train).losses
    left = (losses[-10:].mean() / losses[0]).item()
    return Reading("Loss at the end, in multiples of the first", left, high=0.8)


def reached(train: Callable) -> Reading:
    """Count the parameters of the control that the training did not reach."""
    model = after(train).model
    pairs = zip(model.control.parameters(), untrained().control.parameters(), strict=True)
    count = sum(torch.equal(p, start) for p, start in pairs)
    return Reading("Parameters of the control that did not move", count, 0, 0)


def state(train: Callable) -> Reading:
    """Count what has changed in the base's state_dict, which holds parameters and buffers."""
    model, before, _ = after(train)
    found = model.base.state_dict()
    count = sum(not torch.equal(found[name], before[name]) for name in found)
    return Reading("Entries of the base's state_dict that changed", count, 0, 0)
