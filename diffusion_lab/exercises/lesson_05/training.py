"""Exercise 05.4: the loop of Algorithm 1."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from ..exercise import Exercise
from .guess import DTYPES


class Counting(torch.optim.SGD):
    """Counts its steps."""

    steps = 0

    def step(self, closure: Callable | None = None) -> None:
        """Take a step, and count it."""
        self.steps += 1
        super().step(closure)


def _trained(answer: Callable, weight: Tensor, batches: Tensor) -> object:
    """Let an answer train a linear map.

    Returns losses, weights, and the numbers of gradients, steps, and losses that are tensors.
    """
    place = {"bias": False, "device": weight.device, "dtype": weight.dtype}
    model = nn.utils.skip_init(nn.Linear, *weight.shape, **place)  # draws no random numbers
    model.weight.data.copy_(weight.detach())
    optimizer, gradients = Counting(model.parameters(), lr=0.05, momentum=0.5), []
    model.weight.register_hook(gradients.append)

    def loss(model: nn.Module, x0: Tensor) -> Tensor:
        return (model(x0) - x0.flip(1)).square().mean()

    losses = answer(model, loss, optimizer, iter(batches.detach().unbind()))
    if losses is None:
        return None
    listed = losses if isinstance(losses, (list, tuple)) else []
    tensors = sum(isinstance(value, Tensor) for value in listed)
    return losses, model.weight.detach().clone(), len(gradients), optimizer.steps, tensors


def _training(*lines: str, given: Callable = list, few: Callable = lambda x: x) -> Callable:
    """A loop that takes these lines in this order: zero, loss, backward, step, note."""

    def training(
        model: nn.Module, loss: Callable, optimizer: torch.optim.Optimizer, batches: Iterable
    ) -> Sequence[float]:
        losses = []
        for x0 in few(batches):
            for line in lines:
                if line == "zero":
                    optimizer.zero_grad()
                elif line == "loss":
                    value = loss(model, x0)
                elif line == "note":
                    losses.append(loss(model, x0).item())
                else:
                    value.backward() if line == "backward" else optimizer.step()
            losses += [] if "note" in lines else [value.item()]
        return given(losses)

    return training


LINES = ("zero", "loss", "backward", "step")


def _weights(generator: torch.Generator) -> list[tuple]:
    cases = []
    for dtype in DTYPES:
        for dim, count, size in ((2, 4, 5), (3, 3, 3)):
            weight = torch.randn(dim, dim, generator=generator, dtype=dtype)
            batches = 1 + torch.randn(count, size, dim, generator=generator, dtype=dtype)
            cases.append((weight, batches))
    return cases


EXERCISES = {
    "05.4": Exercise(
        truth=_training(*LINES),
        cases=_weights,
        use=_trained,
        mistakes={
            "Gradients add up from batch to batch. They have to begin at 0 each time.": (
                _training("loss", "backward", "step")
            ),
            "Nothing is learned: the gradients are set to 0 before the step can use them.": (
                _training("loss", "backward", "zero", "step")
            ),
            "The weights never move: no step is taken.": _training("zero", "loss", "backward"),
            "The gradient is never computed, so there is nothing to step along.": (
                _training("zero", "loss", "step")
            ),
            "Each step takes the gradient of the batch before: step after backward.": (
                _training("loss", "step", "zero", "backward")
            ),
            "Only the first batch was used: is the return inside the loop?": _training(
                *LINES, few=lambda batches: [next(batches)]
            ),
            "That is the last loss alone. Return the list of all.": _training(
                *LINES, given=lambda losses: losses[-1]
            ),
            "That is the mean of the losses. Return the list of all.": _training(
                *LINES, given=lambda losses: sum(losses) / len(losses)
            ),
            "The losses are tensors, each with its graph behind it: use .item().": _training(
                *LINES, given=lambda losses: [torch.tensor(value) for value in losses]
            ),
            "Each batch was used twice. One update for each.": _training(
                *LINES, few=lambda batches: [x for x in batches for _ in range(2)]
            ),
            "The losses are those after the update. Note the one whose gradient you took.": (
                _training(*LINES, "note")
            ),
        },
        hints=(
            "Four calls for each batch, in the right order, and the loss goes into a list.",
            "PyTorch adds each gradient to what is already in .grad: when must that be empty?",
            "value.backward() fills the gradients, optimizer.step() uses them, and value.item() "
            "is the float. Which call is missing, and where does it belong?",
        ),
    ),
}
