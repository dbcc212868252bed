"""What an average over processes is measured with: a network of two weights, at its start."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..readings import Reading

ROWS, TRIALS, MANY = 4, 400, 8


def gradient(x: Tensor, eps: Tensor) -> Tensor:
    """Return the mean gradient (2,) of |eps - w_1 x_t - w_2|^2 / D at w = 0, x_t = (x + eps)/√2.

    This is the simple loss of a network of two weights, at alpha_bar = 1/2.
    """
    x_t = (x + eps) / 2**0.5
    return torch.stack([-2 * (eps * x_t).mean(), -2 * eps.mean()])


def rows(ranks: int, seed: int) -> Tensor:
    """Return a fresh batch (4 ranks, 2) of data, the same each time for one seed."""
    rng = torch.Generator().manual_seed(10_000 + seed)
    return torch.randn(ROWS * ranks, 2, generator=rng, dtype=torch.float64)


def gradients(mean: Callable, ranks: int, slope: Callable = gradient) -> Tensor:
    """Return the mean gradients (400, 2) of as many training steps, each with a seed."""
    steps = range(TRIALS)
    return torch.stack([mean(slope, rows(ranks, step), ranks, step) for step in steps])


def spread(mean: Callable, ranks: int) -> float:
    """Return the variance of the mean gradient over training steps."""
    return gradients(mean, ranks).var(0).mean().item()


def centre(mean: Callable) -> Reading:
    """Compare the average gradient with the exact one, which is (-√2, 0)."""
    exact = torch.tensor([-(2**0.5), 0.0], dtype=torch.float64)
    off = (gradients(mean, MANY).mean(0) - exact).abs().max().item()
    return Reading("Error of the average gradient of many steps", off, high=0.15)


def seen(mean: Callable) -> tuple[list[Tensor], list[Tensor]]:
    """Return the parts and the noise that the processes used in one training step."""
    parts, noise = [], []

    def kept(x: Tensor, eps: Tensor) -> Tensor:
        parts.append(x)
        noise.append(eps)
        return gradient(x, eps)

    for step in range(TRIALS):
        mean(kept, rows(MANY, step), MANY, step)
    return parts, noise


def each_row_once(mean: Callable) -> Reading:
    """Count the rows of a batch that no process used, or that more than one did."""
    parts, _ = seen(mean)
    used = torch.cat(parts[:MANY])
    wanted = rows(MANY, 0)
    count = sum((used == row).all(1).sum().item() != 1 for row in wanted)
    return Reading("Rows that were not used exactly once", count, 0, 0)


def noise_of_one(mean: Callable) -> Reading:
    """Measure the variance of all noise that was drawn."""
    _, noise = seen(mean)
    return Reading("Variance of the noise", torch.cat(noise).var().item(), 0.9, 1.1)


def from_step_to_step(mean: Callable) -> Reading:
    """Measure whether a process draws anew in the next step."""
    _, noise = seen(mean)
    firsts = torch.stack(noise[::MANY]).flatten(1)
    link = (firsts[1:] * firsts[:-1]).mean().item()
    return Reading("Mean product of the noise of a step and of the next", link, -0.1, 0.1)


def one_rank(mean: Callable) -> Reading:
    """Compare the variance of the gradient on one process with the exact one."""
    ratio = spread(mean, 1) * ROWS / exact_variance()
    return Reading("Variance of the gradient on one process, over the exact one", ratio, 0.75, 1.25)


def exact_variance() -> float:
    """Return the variance of one row's gradient, averaged over the two weights.

    eps x_t with x ~ N(0, 1) has the variance 1/2 + 2/2, eps 1; each is a mean over two numbers.
    """
    return 4 * (1.5 + 1.0) / 2 / 2


def many_ranks(mean: Callable) -> Reading:
    """Compare the variance with eight processes with an eighth of that with one."""
    ratio = MANY * spread(mean, MANY) / spread(mean, 1)
    return Reading("Variance with 8 processes, over an eighth of that with 1", ratio, 0.7, 1.3)
