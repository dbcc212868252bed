"""How a function of a learner is called: on copies, in a limited time; what it raises is kept."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from typing import NamedTuple

import torch
from IPython import get_ipython
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._device import DeviceContext

# When a call counts as endless. Computing is measured, not waiting, so that a busy machine makes no
# difference; all threads count, so two of torch's that compute use up 5 s in 2.5.
CPU_SECONDS = 5.0
WALL_SECONDS = 60.0  # for one that sleeps


class Stopped(NamedTuple):
    """A call that ended without a result: the name of the cause, and a sentence."""

    cause: str
    sentence: str


class _TimeUp(BaseException):
    """Holds a sentence. No Exception, so an `except Exception` of the learner's lets it pass."""


def call(function: Callable, case: tuple) -> object:
    """Return what a function returns, or a Stopped that says why it did not."""
    try:
        with no_default_device(), _settings_kept(), _exit_refused(), _time_limit():
            return function(*case)
    except _TimeUp as limit:
        return Stopped("endless", f"Your function was still running after {limit}")
    except (Exception, SystemExit) as error:  # the learner's own mistake is the answer
        text = f"Your function stopped with {told(error).rstrip('.')}."
        return Stopped(type(error).__name__, text)


def told(error: BaseException) -> str:
    """Return the kind of an error and the first line of its text, if it has one."""
    text = "" if error.args == (None,) else str(error).strip()  # exit() in plain Python
    return ": ".join([type(error).__name__, *text.splitlines()[:1]])


class _OnTheCpu(TorchFunctionMode):
    """As torch.device("cpu"), which breaks where a default is set before it and again inside."""

    device = torch.device("cpu")
    __torch_function__ = DeviceContext.__torch_function__


@contextmanager
def no_default_device() -> Iterator[None]:
    """Let a tensor that names no device lie on the CPU; put the learner's default back after it."""
    before = torch.get_default_device()
    try:
        with nullcontext() if before.type == "cpu" else _OnTheCpu():
            yield
    finally:
        if torch.get_default_device() != before:
            torch.set_default_device(before)


@contextmanager
def _settings_kept() -> Iterator[None]:
    """Put torch's settings back that a function may leave changed: the next cell needs them."""
    grad, threads = torch.is_grad_enabled(), torch.get_num_threads()
    dtype = torch.get_default_dtype()
    try:
        yield
    finally:
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


@contextmanager
def _exit_refused() -> Iterator[None]:
    """Make exit() and quit() raise: those of IPython only ask it to end, and it does so later."""
    shell = get_ipython()
    if shell is None:
        yield
        return

    def refuse() -> None:
        raise SystemExit("leave out exit(), which ends the kernel")

    before, shell.ask_exit = shell.ask_exit, refuse
    try:
        yield
    finally:
        shell.ask_exit = before


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
    """Return the arguments moved to a device, or None where it does not know their dtype (mps).

    A network among them is copied: so it stays where it was for the next device.
    """
    if device.type == "mps" and any(x.dtype == torch.float64 for x in tensors(case)):
        return None
    moved = mapped(lambda x: x.detach().to(device).requires_grad_(x.requires_grad), case)
    return tuple(deepcopy(x).to(device) if isinstance(x, nn.Module) else x for x in moved)


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
    """Raise _TimeUp in the block after either limit, where the platform and the thread allow it."""
    main = threading.current_thread() is threading.main_thread()
    if not (main and hasattr(signal, "setitimer")):
        yield
        return

    def stop(number: int, _: object) -> None:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)  # or the other might still go off when all is over
        raise _TimeUp(
            f"{CPU_SECONDS:g} s of computing: does a loop never end?"
            if number == signal.SIGPROF
            else f"{WALL_SECONDS:g} s: does it wait for something?"
        )

    handlers = {number: signal.signal(number, stop) for number in (signal.SIGPROF, signal.SIGALRM)}
    computing = signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    waiting = signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.setitimer(signal.ITIMER_PROF, *computing)
        signal.setitimer(signal.ITIMER_REAL, *waiting)
