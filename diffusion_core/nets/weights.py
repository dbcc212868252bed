"""Where new weights come from: a seed, and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Make layers in this block on the CPU, in float32, their weights drawn from seed alone.

    The default device and dtype are not asked; they and the global random state stay as they were.
    """
    if type(seed) is not int or not -(2**63) <= seed < 2**64:
        raise ValueError(f"seed must be an int of 64 bits, got {seed!r:.60}")
    default = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)  # the CPU's only: weights are drawn there
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(default)
