"""Several processes that train one network: which am I, what is my part, what is the mean."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch
import torch.distributed.nn  # now: its defaults are the group there is, and hold it for ever
from torch import Tensor, distributed, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from . import devices
from .checks import check_count, kind

STRIDE = 1_000_003  # between the seeds of two ranks; torch's CPU generator reads 32 bits of a seed


class Place(NamedTuple):
    """The place of a process among `world` of them that train one network: 0 <= rank < world."""

    rank: int
    world: int


def place() -> Place:
    """Return the place of this process: Place(0, 1) where it is alone."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return Place(0, 1)
    return Place(distributed.get_rank(), distributed.get_world_size())


@contextmanager
def joined() -> Iterator[Place]:
    """Join the processes that torchrun started, for a with block; alone where it started none.

    Each takes a GPU of its own, if there are any: nccl carries what lies there, gloo the rest.
    """
    if "LOCAL_RANK" not in os.environ:  # torchrun sets it
        yield place()
        return
    carrier = devices.claim(int(os.environ["LOCAL_RANK"]))
    store, rank, world = next(iter(rendezvous("env://")))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # it knows addresses of the dead
        store = distributed.PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    distributed.init_process_group(carrier, store=store, rank=rank, world_size=world)
    try:
        yield place()
    finally:
        distributed.destroy_process_group()


def share(batch: Tensor | tuple | list, at: Place | None = None) -> Tensor | list[Tensor]:
    """Return the part of a global batch that is this process's: rows rank, rank + world, ...

    The parts of all ranks make up the batch, and no row is in two. Every rank must give the same
    batch. A tuple or list of tensors is cut in each. `at` is place() if not given.
    Raises ValueError where there are fewer rows than processes.
    """
    rank, world = _checked(at)
    if isinstance(batch, tuple | list):
        return [share(part, Place(rank, world)) for part in batch]
    if not isinstance(batch, Tensor):
        raise TypeError(f"batch must be a torch.Tensor or a tuple or list, got {kind(batch)}")
    if batch.ndim == 0 or len(batch) < world:
        raise ValueError(f"batch must have {world} rows, one a process, got {kind(batch)}")
    return batch[rank::world]


def own_generator(seed: int, at: Place | None = None) -> torch.Generator:
    """Return a generator for the noise of this process: no two ranks have the same.

    On rank 0 it is what manual_seed(seed) makes. `at` is place() if not given.
    Raises ValueError unless 0 <= seed < STRIDE, or a rank would meet the seed of the next.
    """
    rank, _ = _checked(at)
    check_count("seed", seed, lowest=0)
    if seed >= STRIDE:
        raise ValueError(f"seed must be below {STRIDE}, got {seed}")
    return torch.Generator().manual_seed(seed + STRIDE * rank)


def _checked(at: Place | None) -> Place:
    if at is None:
        return place()
    whole = isinstance(at, tuple) and len(at) == 2 and all(type(n) is int for n in at)
    if not (whole and 0 <= at[0] < at[1]):
        raise ValueError(f"at must be a Place, 0 <= rank < world, got {at!r:.60}")
    return Place(*at)


def gathered(number: float) -> list[float]:
    """Return the numbers that all processes gave, by rank; all wait until the last has come."""
    numbers = [torch.zeros(1, dtype=torch.float64, device="cpu") for _ in range(place().world)]
    numbers[place().rank].fill_(number)
    if len(numbers) > 1:
        distributed.all_gather(numbers, numbers[place().rank].clone())
    return [one.item() for one in numbers]


class _Loss(nn.Module):
    """A network and its loss as one: DistributedDataParallel looks at what goes through forward."""

    def __init__(self, model: nn.Module, loss: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model = model
        self._ask = (loss,)  # in a tuple: a loss that is a module is not to be trained

    def forward(self, *batch: Tensor) -> Tensor:
        return self._ask[0](self.model, *batch)


def averaged(
    model: nn.Module, loss: Callable[..., Tensor]
) -> tuple[Callable[..., Tensor], Callable[[], AbstractContextManager]]:
    """Return a loss whose gradients become means over all processes, and how to put that off.

    All ranks start from the weights of rank 0. Inside the context that the second makes,
    gradients are added up here, and wait for the first that is taken outside it.
    """
    if place().world == 1:
        return loss, nullcontext
    whole = DistributedDataParallel(_Loss(model, loss))
    return (lambda model, *batch: whole(*batch)), whole.no_sync


def weights(rows: list[int]) -> list[float]:
    """Return what the means over parts of so many rows count in the mean over all rows.

    n_k world / N, with N the rows of all parts on all ranks: the mean of the ranks' sums of
    weighted means is the mean over all N. All are 1 where every part is as large.
    """
    world = place().world
    total = round(sum(gathered(sum(rows))))
    return [n * world / total for n in rows]


def all_reduce_numbers(numbers: int, world: int) -> float:
    """Return how many numbers each process sends, so that all have the sum: 2 (1 - 1/W) n.

    For n numbers on a ring of W = world processes, the least that is possible.
    Source: Patarasuk and Yuan (2009), section 3.
    """
    check_count("numbers", numbers)
    check_count("world", world)
    return 2 * (1 - 1 / world) * numbers
