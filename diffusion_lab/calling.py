"""How a function of a learner is called: on copies, in a limited time; what it raises is kept."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

SECONDS = 5.0  # after which a call counts as endless


class Stopped(NamedTuple):
    """A call that ended without a result: the name of the cause, and a sentence."""

    cause: str
    sentence: str


class _TimeUp(BaseException):
    """Not an Exception, so that an `except Exception` of the learner's does not catch it."""


def call(function: Callable, case: tuple) -> object:
    """Return what a function returns, or a Stopped that says why it did not."""
    try:
        with _time_limit():
            return function(*case)
    except _TimeUp:
        text = f"Your function was still running after {SECONDS:g} s: does a loop never end?"
        return Stopped("endless", text)
    except (Exception, SystemExit) as error:  # the learner's own mistake is the answer
        cause, first = type(error).__name__, f"{error}".split("\n")[0].rstrip(".")
        return Stopped(cause, f"Your function stopped with {cause}: {first}.")


def mapped(change: Callable[[Tensor], Tensor], value: object) -> object:
    """Return a value with its tensors changed, also those inside lists and tuples."""
    if isinstance(value, Tensor):
        return change(value)
    if not isinstance(value, list | tuple):
        return value
    parts = [mapped(change, part) for part in value]
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)


def tensors(value: object) -> list[Tensor]:
    """Return the tensors in a value, also those inside lists and tuples."""
    found = []
    mapped(lambda x: found.append(x) or x, value)
    return found


def copied(case: tuple) -> tuple:
    """Return a copy of the arguments; what asked for a gradient asks again."""
    return mapped(lambda x: x.detach().clone().requires_grad_(x.requires_grad), case)


def on(device: torch.device, case: tuple) -> tuple | None:
    """Return the arguments moved to a device, or None where it does not know their dtype (mps)."""
    if device.type == "mps" and any(x.dtype == torch.float64 for x in tensors(case)):
        return None
    return mapped(lambda x: x.detach().to(device).requires_grad_(x.requires_grad), case)


def gradients(function: Callable, case: tuple) -> list[Tensor | None]:
    """Return the gradients of the sum of a result, one for each argument that asks for one."""
    case = copied(case)
    wanted = [x for x in tensors(case) if x.requires_grad]
    results = [x for x in tensors(function(*case)) if x.requires_grad]
    if not results:
        return [None] * len(wanted)
    total = sum(x.sum().cpu() for x in results)
    return list(torch.autograd.grad(total, wanted, allow_unused=True))


@contextmanager
def _time_limit() -> Iterator[None]:
    """Raise _TimeUp in the block after SECONDS, where the platform and the thread allow it."""
    main = threading.current_thread() is threading.main_thread()
    if not (main and hasattr(signal, "SIGALRM")):
        yield
        return

    def stop(*_: object) -> None:
        raise _TimeUp

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
