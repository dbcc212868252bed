"""What training asks of a model, of its optimizer and average, of a batch and of the loss."""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .checks import check_data, kind


def place_of(model: nn.Module) -> torch.device:
    """Return where the weights of a model are that can be trained."""
    weights = [w for w in model.parameters() if w.requires_grad]
    if not weights:
        frozen = ", all frozen" if any(True for _ in model.parameters()) else ", without any"
        raise ValueError(f"model must have weights to train, got {kind(model)}{frozen}")
    return weights[0].device


def check_belong(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None
) -> None:
    """Refuse an optimizer or an average of another model: it would train or follow nothing."""
    held = {id(w) for group in optimizer.param_groups for w in group["params"]}
    if not held & {id(w) for w in model.parameters()}:
        raise ValueError(f"optimizer must hold weights of model, got {len(held)} others")
    if average is not None:
        wanted, found = ([w.shape for w in m.parameters()] for m in (model, average))
        if wanted != found:
            raise ValueError(f"ema must average weights like model's, got {kind(average)}")


def parts_of(batch: object, device: torch.device) -> list[Tensor]:
    """Return the tensors of a batch on a device; the first is data."""
    parts = list(batch) if isinstance(batch, tuple | list) else [batch]
    wrong = [part for part in parts if not isinstance(part, Tensor)]
    if wrong or not parts:
        given = f"{kind(wrong[0])} in it" if parts else "none"
        raise TypeError(f"batch must be a torch.Tensor or a tuple or list of them, got {given}")
    check_data("batch", parts[0])
    return [part.to(device) for part in parts]


def checked_loss(loss: Callable[..., Tensor], model: nn.Module, batch: list[Tensor]) -> Tensor:
    """Return loss(model, *batch), one number with gradients; say so where it takes other parts."""
    try:
        value = loss(model, *batch)
    except TypeError as error:
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
