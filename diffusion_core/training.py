"""Follow the gradient of a loss over batches, and average the weights on the way."""

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn

from . import processes
from .averages import EMA
from .checks import check_count, require
from .progress import is_on, progress_bar
from .training_checks import (
    check_options,
    checked_loss,
    checked_rate,
    optimizer_of,
    parts_of,
    place_of,
)

SHORT_RUN = "DIFFUSION_SHORT_RUN"  # set to 1: every training loop stops after SHORT_STEPS steps
SHORT_STEPS = 8
BAR = {  # in thousandths; the time left follows from the mean speed so far
    "total": 1000,
    "bar_format": "{l_bar}{bar}| {elapsed}, {remaining} left{postfix}",
    **{"smoothing": 0, "miniters": 0, "mininterval": 0.5},
}


class History(NamedTuple):
    """What a run of `train` did: one loss per step, its seconds, whether it was interrupted."""

    losses: list[float]
    seconds: float
    interrupted: bool


def is_short_run() -> bool:
    """Say whether DIFFUSION_SHORT_RUN=1 asks for training loops of a few steps only."""
    return is_on(SHORT_RUN)


def warmup_cosine(fraction: float) -> float:
    """Return the share of the learning rate: a rise over the first 5 %, then half a cosine."""
    share = isinstance(fraction, int | float) and 0 <= fraction <= 1
    require(share, "fraction", "be in [0, 1]", fraction)
    return min(0.02 + fraction / 0.05, 0.5 + 0.5 * math.cos(math.pi * fraction))


def train(
    model: nn.Module,
    loss: Callable[..., Tensor],
    batches: Iterable[Tensor | tuple[Tensor, ...] | list[Tensor]],
    *,
    steps: int | None = None,
    seconds: float | None = None,
    lr: float | None = None,
    clip_norm: float = 1.0,
    ema: EMA | None = None,
    autocast: torch.dtype | None = None,
    accumulate: int = 1,
    optimizer: torch.optim.Optimizer | None = None,
    rate: Callable[[float], float] | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> History:
    """Minimise loss(model, x0) over batches by torch's AdamW, up to `steps` or `seconds`.

    A batch (x0, y) gives loss(model, x0, y), a mean over rows. The learning rate is lr * rate(
    fraction of the run), by default 1e-3 * `warmup_cosine`. A given optimizer keeps its moments
    and, unless lr is given, each group's own lr, times rate; after the run it has its own again.
    Each step takes the mean over the rows of `accumulate` batches on all processes
    (`processes.joined`), its gradient clipped to the norm clip_norm, under `autocast` if given.
    on_progress(fraction) is called after each step. An interrupt, or the end of `batches`, ends the
    run; model is then in evaluation mode, without gradients. Raises ValueError without a bound,
    FloatingPointError where loss or gradient is not finite (losses here refuse NaN: ValueError).
    """
    most_steps, most_seconds = _bounds(steps, seconds)
    device = place_of(model)
    check_options(batches, lr, clip_norm, autocast, on_progress)
    optimizer = optimizer_of(model, optimizer, ema)
    loss, waiting = processes.averaged(model, loss)
    own = [group["lr"] for group in optimizer.param_groups]
    losses, done, interrupted, start = [], 0.0, False, time.monotonic()
    model.train()
    try:
        with progress_bar(hidden=processes.place().rank > 0, **BAR) as bar:
            for parts in _groups(batches, accumulate, device):
                share = checked_rate(warmup_cosine if rate is None else rate, done)
                _set_rates(optimizer, [share * (r if lr is None else lr) for r in own])
                losses.append(_gradients(model, loss, parts, autocast, waiting))
                _descend(model, optimizer, losses[-1], clip_norm)
                if ema is not None:
                    ema.update(model)
                done = max(len(losses) / most_steps, (time.monotonic() - start) / most_seconds)
                bar.set_postfix_str(f"loss {losses[-1]:.3f}", refresh=False)
                bar.update(int(1000 * min(1.0, done)) - bar.n)
                if on_progress is not None:
                    on_progress(min(1.0, done))
                if done >= 1:
                    break
    except KeyboardInterrupt:
        interrupted = True
    finally:
        _set_rates(optimizer, own)
        model.eval().zero_grad(set_to_none=True)
    return History(losses, time.monotonic() - start, interrupted)


def bf16_is_faster(
    model: nn.Module, loss: Callable[[nn.Module, Tensor], Tensor], x0: Tensor
) -> bool:
    """Say, after a trial of about two seconds, whether bfloat16 autocast trains faster here.

    It does where the hardware multiplies bfloat16 by itself, and slows training elsewhere.
    Leaves weights, buffers and modes as they are and no gradients behind. The loss draws from
    its generator.
    """
    batch, rounds = parts_of(x0, place_of(model), "x0"), {}
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    modes = [(module, module.training) for module in model.modules()]
    try:
        for autocast in (None, torch.bfloat16):
            _gradient(model, loss, batch, autocast)  # the first call also prepares
            count, start = 0, time.monotonic()
            while count == 0 or (time.monotonic() - start < 0.9 and not is_short_run()):
                _gradient(model, loss, batch, autocast)
                count += 1
            rounds[autocast] = count / (time.monotonic() - start)
    finally:
        model.zero_grad(set_to_none=True)
        for buffer, before in buffers:
            buffer.copy_(before)
        for module, mode in modes:
            module.training = mode
    return rounds[torch.bfloat16] > rounds[None]


def _bounds(steps: int | None, seconds: float | None) -> tuple[float, float]:
    """Return the most steps and the most seconds of a run, infinite where there is no bound."""
    if steps is None and seconds is None:
        raise ValueError("steps or seconds must be given, got neither")
    timed = seconds is not None and processes.place().world > 1
    require(not timed, "seconds", "be None where several processes train", seconds)
    if steps is not None:
        check_count("steps", steps)
    above = seconds is None or (isinstance(seconds, int | float) and seconds > 0)
    require(above, "seconds", "be above 0", seconds)
    if is_short_run():
        return min(steps or SHORT_STEPS, SHORT_STEPS), math.inf
    return steps or math.inf, seconds or math.inf


def _set_rates(optimizer: torch.optim.Optimizer, rates: list) -> None:
    for group, lr in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = lr


def _groups(batches: Iterable, accumulate: int, device: torch.device) -> Iterator[list]:
    """Return lists of the parts of so many batches, on a device; the last may be shorter."""
    check_count("accumulate", accumulate)
    rest, most = iter(batches), min(accumulate, sys.maxsize)
    return iter(lambda: [parts_of(batch, device) for batch in islice(rest, most)], [])


def _gradients(model, loss, parts: list[list[Tensor]], autocast, waiting) -> float:
    """Put the gradients of the mean over all rows into the model, and return that mean loss."""
    model.zero_grad(set_to_none=True)
    total, left = 0.0, len(parts)
    for part, weight in zip(parts, processes.weights([len(p[0]) for p in parts]), strict=True):
        left -= 1
        with waiting() if left else nullcontext():
            total += weight * _gradient(model, loss, part, autocast, weight)
    means = processes.gathered(total)
    return sum(means) / len(means)


def _gradient(model, loss, batch: list[Tensor], autocast, weight: float = 1.0) -> float:
    """Add the gradients of weight times the loss of a batch to the model's; return the loss."""
    with torch.autocast(batch[0].device.type, dtype=autocast, enabled=autocast is not None):
        value = checked_loss(loss, model, batch)
    (weight * value).backward()
    return value.item()


def _descend(model: nn.Module, optimizer: torch.optim.Optimizer, loss: float, clip_norm: float):
    """Take one step along the gradients in the model, clipped to clip_norm."""
    weights = [w for w in model.parameters() if w.grad is not None]
    norm = nn.utils.get_total_norm([w.grad for w in weights])
    for what, value in {"loss": loss, "gradient's norm": norm.item()}.items():
        if not math.isfinite(value):
            raise FloatingPointError(f"the {what} became {value}: lower lr or look at the data")
    if norm > clip_norm:
        nn.utils.clip_grads_with_norm_(weights, clip_norm, norm)
    optimizer.step()
