"""What training asks of a model, of its optimizer and average, of a batch and of the loss."""

import inspect
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from .averages import EMA
from .checks import check_data, check_kinds, kind, require


def place_of(model: nn.Module) -> torch.device:
    """Return where the weights of a model are that can be trained."""
    check_kinds(model=model)
    weights = [w for w in model.parameters() if w.requires_grad]
    if not weights:
        frozen = ", all frozen" if any(True for _ in model.parameters()) else ", without any"
        raise ValueError(f"model must have weights to train, got {kind(model)}{frozen}")
    return weights[0].device


def check_options(
    batches: object,
    lr: float | None,
    clip_norm: float,
    autocast: torch.dtype | None,
    on_progress: Callable[[float], None] | None,
) -> None:
    """Refuse what are no batches one after another, and numbers or a dtype that cannot be meant."""
    if not isinstance(batches, Iterable) or isinstance(batches, Tensor | str | dict):
        wanted = "batches one after another, as data.minibatches makes them"
        raise TypeError(f"batches must be {wanted}, got {kind(batches)}")
    check_kinds(on_progress=float if on_progress is None else on_progress)
    rate = lr is None or (isinstance(lr, int | float) and 0 <= lr < math.inf)
    require(rate, "lr", "be a number of at least 0", lr)
    above = isinstance(clip_norm, int | float) and clip_norm > 0
    require(above, "clip_norm", "be a number above 0", clip_norm)
    low = autocast is None or autocast is torch.bfloat16  # float16 would lose small gradients
    require(low, "autocast", "be torch.bfloat16 or None", autocast)


def checked_rate(rate: Callable[[float], float], fraction: float) -> float:
    """Return rate(fraction), a finite number of at least 0."""
    check_kinds(rate=rate)
    share = rate(fraction)
    ok = isinstance(share, int | float) and 0 <= share < math.inf
    require(ok, "rate(fraction)", "be a finite number of at least 0", share)
    return share


def optimizer_of(
    model: nn.Module, optimizer: torch.optim.Optimizer | None, ema: EMA | None
) -> torch.optim.Optimizer:
    """Return the optimizer, AdamW if none is given; refuse one, or an average, of another model."""
    if optimizer is None:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {kind(optimizer)}")
    if not isinstance(ema, EMA | None):
        raise TypeError(f"ema must be an EMA or None, got {kind(ema)}")
    held = {id(w) for group in optimizer.param_groups for w in group["params"]}
    if not held & {id(w) for w in model.parameters()}:
        raise ValueError(f"optimizer must hold weights of model, got {len(held)} others")
    if ema is not None:
        wanted, found = ([w.shape for w in m.parameters()] for m in (model, ema.model))
        if wanted != found:
            raise ValueError(f"ema must average weights like model's, got {kind(ema.model)}")
    return optimizer


def parts_of(batch: object, device: torch.device, name: str = "batch") -> list[Tensor]:
    """Return the tensors of a batch on a device; the first is data."""
    parts = list(batch) if isinstance(batch, tuple | list) else [batch]
    wrong = [part for part in parts if not isinstance(part, Tensor)]
    if wrong or not parts:
        given = f"{kind(wrong[0])} in it" if parts else "none"
        raise TypeError(f"{name} must be a torch.Tensor or a tuple or list of them, got {given}")
    check_data(name, parts[0])
    require(not any(part.is_meta for part in parts), name, "hold numbers", parts[0])
    return [part.to(device) for part in parts]


def checked_loss(loss: Callable[..., Tensor], model: nn.Module, batch: list[Tensor]) -> Tensor:
    """Return loss(model, *batch), one number with gradients; say so where it takes other parts."""
    try:
        value = loss(model, *batch)
    except TypeError as error:
        check_kinds(loss=loss)
        wanted = _other_parts(loss, model, batch)
        if not wanted:
            raise
        given = f"{len(batch)} tensor" + "s" * (len(batch) != 1)
        raise TypeError(f"batch must hold what {wanted} takes after model, got {given}") from error
    if not (isinstance(value, Tensor) and value.numel() == 1 and value.requires_grad):
        given = "one without gradients" if getattr(value, "numel", int)() == 1 else kind(value)
        raise TypeError(f"loss must return one number, a torch.Tensor with gradients, got {given}")
    return value


def _other_parts(loss: Callable[..., Tensor], model: nn.Module, batch: list[Tensor]) -> str:
    """Return "loss(names)" for a loss that does not take the parts of a batch, else nothing."""
    try:
        signature = inspect.signature(loss)
    except (TypeError, ValueError):  # there is none to be had
        return ""
    try:
        signature.bind(model, *batch)
        return ""
    except TypeError:
        keywords = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD)
        names = [n for n, p in signature.parameters.items() if p.kind not in keywords]
        return f"loss({', '.join(names)})"
