"""Where the numbers live: a GPU when there is one."""

import torch


def default_device() -> torch.device:
    """Return cuda where there is one, then mps (Apple), then cpu."""
    return available_devices()[0]


def available_devices() -> list[torch.device]:
    """Return every device of this machine, the fastest first, the cpu last."""
    names = []
    if torch.cuda.is_available():
        names.append("cuda")
    if torch.backends.mps.is_available():
        names.append("mps")
    return [torch.device(name) for name in [*names, "cpu"]]


def claim(local_rank: int) -> str:
    """Take a GPU for this process, the one of its number; return who carries tensors to others.

    For torch.distributed: nccl between NVIDIA GPUs, gloo for all that lies on the CPU.
    """
    if not torch.cuda.is_available():
        return "gloo"
    torch.cuda.set_device(local_rank)
    return "cpu:gloo,cuda:nccl"
