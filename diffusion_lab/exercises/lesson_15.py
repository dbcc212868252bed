"""Lesson 15: a mean over parts, the rows of a rank, where halves stop, a round of a ring."""

from collections.abc import Callable

import torch
from torch import Tensor

from .exercise import Exercise

DTYPES = (torch.float64, torch.float32)
DECAY = 0.998
PLACES = 8  # of bfloat16's precision, in bits


def _weighed(share: Callable = lambda n, counts: n / sum(counts)) -> Callable:
    """The gradients of parts, each times a share that depends on its rows and on all."""

    def mean(gradients: list[Tensor], counts: list[int]) -> Tensor:
        return sum(share(n, counts) * g for g, n in zip(gradients, counts, strict=True))

    return mean


def _stacked(gradients: list[Tensor], counts: list[int]) -> Tensor:
    """Each gradient as often as its part has rows, and the plain mean: another way to the same."""
    return torch.stack([g for g, n in zip(gradients, counts, strict=True) for _ in range(n)]).mean(
        0
    )


def _parts(generator: torch.Generator) -> list[tuple]:
    cases = []
    for dtype in DTYPES:
        for counts in ([3, 1], [2, 7, 4], [1, 5, 2, 9]):
            draw = {"generator": generator, "dtype": dtype}
            cases.append(([torch.randn(3, 2, **draw) for _ in counts], counts))
    return cases


def _rows(
    *,
    start: Callable = lambda batch, step: step * batch,
    mine: Callable = lambda rows, rank, world: rows[rank::world],
) -> Callable:
    """The rows of a rank, from another place of the order, or cut in another way."""

    def rows(order: Tensor, batch: int, step: int, rank: int, world: int) -> Tensor:
        begin = start(batch, step)
        return mine(order[begin : begin + batch], rank, world)

    return rows


def _own_batches(order: Tensor, batch: int, step: int, rank: int, world: int) -> Tensor:
    begin = (step * world + rank) * batch
    return order[begin : begin + batch]


def _block(rows: Tensor, rank: int, world: int) -> Tensor:
    size = len(rows) // world
    return rows[rank * size : (rank + 1) * size]


def _orders(generator: torch.Generator) -> list[tuple]:
    sizes = ((2, 1, 1), (3, 1, 1), (3, 2, 2), (4, 3, 1), (4, 2, 3))
    draw = {"generator": generator}
    return [(torch.randperm(192, **draw), 12, step, rank, world) for world, rank, step in sizes]


def _stop() -> float:
    """Where the average stops, by running it."""
    average, one = (
        make(1, dtype=torch.bfloat16, device="cpu") for make in (torch.zeros, torch.ones)
    )
    for _ in range(5000):
        average = average.lerp(one, 1 - DECAY)
    return average.item()


def _ring(
    *,
    part: Callable = lambda rank, k: rank - k,
    to: Callable = lambda rank: rank + 1,
    adds: Callable = lambda k, world: k < world - 1,
    stays: bool = True,
) -> Callable:
    """A round of the ring, with another part, neighbour or rounds that add; or a part is gone."""

    def turn(parts: Tensor, k: int) -> Tensor:
        new, world = parts.clone(), len(parts)
        for rank in range(world):
            c, other = part(rank, k) % world, to(rank) % world
            new[rank, c] *= stays
            new[other, c] = parts[rank, c] + (parts[other, c] if adds(k, world) else 0)
        return new

    return turn


def _rings(generator: torch.Generator) -> list[tuple]:
    return [
        (torch.randn(world, world, 2, generator=generator, dtype=dtype), k)
        for dtype in DTYPES
        for world in (3, 4)
        for k in range(2 * world - 2)
    ]


EXERCISES = {
    "15.1": Exercise(
        truth=_stacked,
        cases=_parts,
        mistakes={
            "That is the mean of the means: a part of one row counts as much as one of nine.": (
                _weighed(lambda n, counts: 1 / len(counts))
            ),
            "That is their sum. A mean over more rows does not grow with the number of parts.": (
                _weighed(lambda n, counts: 1.0)
            ),
            "The weights are right but for the total: divide by the number of all rows.": (
                _weighed(lambda n, counts: float(n))
            ),
            "You divided by the number of parts. Divide by the number of all rows.": (
                _weighed(lambda n, counts: n / len(counts))
            ),
            "Small parts got the large weights: a part counts in proportion to its rows.": (
                _weighed(lambda n, counts: 1 / n / sum(1 / m for m in counts))
            ),
            "That divides by the rows once more: the gradients are of means already.": (
                _weighed(lambda n, counts: 1 / sum(counts))
            ),
            "That is the gradient of the largest part alone.": (
                _weighed(lambda n, counts: float(n == max(counts)))
            ),
        },
        hints=(
            "How much of the whole mean is a part of n rows among N?",
            "Each gradient times n / N, with N = sum(counts); then add them.",
        ),
    ),
    "15.2": Exercise(
        truth=lambda order, batch, step, rank, world: order[
            torch.arange(step * batch + rank, (step + 1) * batch, world)
        ],
        cases=_orders,
        mistakes={
            "That is the whole global batch. Which of its rows are this rank's?": _rows(
                mine=lambda rows, rank, world: rows
            ),
            "A block of the batch was taken. Take every W-th row, and begin at the rank.": _rows(
                mine=_block
            ),
            "Every rank got a batch of its own of that size: the global batch has grown.": (
                _own_batches
            ),
            "Every step has the rows of the first.": _rows(start=lambda batch, step: 0),
            "Steps begin at 0: yours is one step behind.": _rows(
                start=lambda batch, step: (step - 1) * batch
            ),
            "Yours is one step ahead.": _rows(start=lambda batch, step: (step + 1) * batch),
            "All ranks have the rows of rank 0.": _rows(
                mine=lambda rows, rank, world: rows[::world]
            ),
            "Those are places in the order. The rows are what stands there.": (
                lambda order, batch, step, rank, world: torch.arange(
                    step * batch + rank, (step + 1) * batch, world
                )
            ),
            "One row is skipped at each place: the stride is W, not W + 1.": _rows(
                mine=lambda rows, rank, world: rows[rank :: world + 1]
            ),
            "The ranks are counted from the end of the batch.": _rows(
                mine=lambda rows, rank, world: rows[world - 1 - rank :: world]
            ),
            "There is no end: these are the rows of this step and of all that follow.": (
                lambda order, batch, step, rank, world: order[step * batch + rank :: world]
            ),
            "The whole order is dealt out first, and a rank takes `batch` of its own rows in each "
            "step. All ranks together take `batch`.": lambda order, batch, step, rank, world: order[
                rank::world
            ][step * batch : (step + 1) * batch],
        },
        hints=(
            "First the global batch of this step: batch entries, from step * batch on.",
            "A slice may have a stride: rows[start::stride].",
            "batch_rows[rank::world].",
        ),
    ),
    "15.3": Exercise(
        truth=_stop,
        cases=lambda generator: [()],
        mistakes={
            "That is where it should end. In bfloat16 it does not get there.": lambda: 1.0,
            "A step of half the distance is enough: it is rounded to the next number.": (
                lambda: 0.25
            ),
            "Below one half the numbers are closer: there it still moves.": (
                lambda: 1 - 2.0 ** -(PLACES + 1) / (1 - DECAY)
            ),
            "That solves for the distance below one half. Your number lies above it.": (
                lambda: 1 - 2.0 ** -(PLACES + 2) / (1 - DECAY)
            ),
            "That is the first step.": lambda: 1 - DECAY,
        },
        hints=(
            "At the average a the step is (1 - a) * 0.002.",
            "It is lost below half the distance to the next number: 2^-9 from one half on.",
            "At a = 0.5 the step is 0.001, below half the distance, 0.00195. Just below 0.5 that "
            "half is 0.00098, and the step is enough.",
        ),
    ),
    "15.4": Exercise(
        truth=_ring(),
        cases=_rings,
        mistakes={
            "That replaces in every round. In the first W - 1 rounds the receiver adds.": _ring(
                adds=lambda k, world: False
            ),
            "That adds in every round. From round W - 1 on the receiver replaces.": _ring(
                adds=lambda k, world: True
            ),
            "Adding and replacing are exchanged.": _ring(adds=lambda k, world: k >= world - 1),
            "You add for one round too many: the rounds below W - 1 add.": _ring(
                adds=lambda k, world: k <= world - 1
            ),
            "You add for one round too few: the rounds below W - 1 add.": _ring(
                adds=lambda k, world: k < world - 2
            ),
            "The parts went to the rank before. The receiver is rank r + 1.": _ring(
                to=lambda rank: rank - 1
            ),
            "The part goes back with k: rank r sends r - k, not r + k.": _ring(
                part=lambda rank, k: rank + k
            ),
            "Every round sends the same part. It is r - k, and changes with k.": _ring(
                part=lambda rank, k: rank
            ),
            "Every rank sends the same part. It is r - k, and depends on the rank.": _ring(
                part=lambda rank, k: -k
            ),
            "That sends the part of the next round.": _ring(part=lambda rank, k: rank - k - 1),
            "That counts from the receiver's rank. The part is named by the sender's.": _ring(
                part=lambda rank, k: rank + 1 - k
            ),
            "What was sent is gone. A rank sends a copy, and keeps its own.": _ring(stays=False),
            "Nothing has moved.": lambda parts, k: parts.clone(),
        },
        hints=(
            "Copy parts, then go through the ranks; read from the old, write to the copy.",
            "part, to = (rank - k) % world, (rank + 1) % world.",
            "new[to, part] is parts[rank, part], plus parts[to, part] while k < world - 1.",
        ),
    ),
}
