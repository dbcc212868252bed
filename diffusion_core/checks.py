"""What every function asks of its arguments, said once and in whole sentences."""

import math
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

INTEGERS = (int, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def require(ok: bool, name: str, wanted: str, given: object) -> None:
    """Raise ValueError("NAME must WANTED, got GIVEN") unless ok."""
    if not ok:
        raise ValueError(f"{name} must {wanted}, got {kind(given)}")


def kind(x: object) -> str:
    """Return a value as a message shows it: plain ones as they are, others by what they are."""
    if isinstance(x, Tensor) and x.ndim:
        return f"{x.dtype} {tuple(x.shape)} on {x.device}"
    plain = isinstance(x, int | float | str | list | tuple | Tensor | None)
    return f"{x!r:.60}" if plain else type(x).__name__


def check_alike(**tensors: Tensor) -> None:
    """Refuse what is no floating-point tensor (B, ...), or is not like the first of them."""
    (first, like), *_ = tensors.items()
    for name, x in tensors.items():
        if not (isinstance(x, Tensor) and x.is_floating_point()):
            raise TypeError(f"{name} must be a floating-point torch.Tensor, got {kind(x)}")
        if x is like:
            require(x.ndim and x.numel(), name, "hold at least one example (B, ...)", x)
        elif x.shape != like.shape or x.dtype != like.dtype or x.device != like.device:
            error = ValueError if x.shape != like.shape else TypeError
            raise error(f"{name} must be like {first}, {kind(like)}, got {kind(x)}")


def check_finite(result: Tensor, **inputs: Tensor) -> Tensor:
    """Return a result that is finite; else say which input is not. One sum, if all is well."""
    if not math.isfinite(number(result.sum())) and not number(result.isfinite().all()):
        bad = [name for name, x in inputs.items() if not x.isfinite().all()]
        names = " and ".join(bad or [f"{name} (too large for {result.dtype})" for name in inputs])
        raise ValueError(f"{names} must hold finite numbers, got NaN or infinity")
    return result


def number(x: Tensor) -> float:
    """Return x.item(), or True under torch.func.vmap, which hides the number: checks pass."""
    try:
        return x.item()
    except RuntimeError as error:
        if "vmap" not in str(error):
            raise
        return True


def numbers(name: str, values: object) -> Tensor:
    """Return a tensor as it is; a number, a list or an array as float64 on the CPU, a copy."""
    if isinstance(values, Tensor):
        return values
    try:
        return torch.from_numpy(np.array(values, dtype=np.float64))  # of any strides, read-only too
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be numbers, got {kind(values)}") from error


def row(name: str, values: object) -> Tensor:
    """Return a row of numbers as float64 on the CPU, without gradients."""
    values = numbers(name, values).detach().to("cpu", torch.float64)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"{name} must be one row for 1..T, got shape {tuple(values.shape)}")
    return values


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Return a context in which torch.autocast leaves the products of x's device exact."""
    device = x.device.type
    active = torch.is_autocast_enabled(device) if device != "meta" else False
    return torch.autocast(device, enabled=False) if active else nullcontext()


def like_input(answer: Tensor, x_t: Tensor) -> Tensor:
    """Return what a model answered, in the dtype of x_t if it is only torch.autocast's."""
    dtype = getattr(answer, "dtype", None)
    if dtype is x_t.dtype:
        return answer
    device = x_t.device.type
    if device == "meta" or not torch.is_autocast_enabled(device):
        return answer
    return answer.to(x_t.dtype) if dtype is torch.get_autocast_dtype(device) else answer


def check_data(name: str, x: Tensor) -> None:
    """Refuse what is not a floating-point batch (B, ...) of finite numbers."""
    check_alike(**{name: x})
    check_finite(x, **{name: x})


def check_like(name: str, x: Tensor, like_name: str, like: Tensor) -> None:
    """Refuse an x whose shape, dtype or device differs from that of `like`; check x as data."""
    check_alike(**{like_name: like, name: x})
    check_finite(x, **{name: x})


def check_t(t: Tensor | int, x: Tensor, T: int, *, lowest: int = 0) -> Tensor | int:
    """Return t as an int, or as int64 on the CPU with one number for each example of x."""
    if getattr(t, "dtype", type(t)) not in INTEGERS:
        raise TypeError(f"t must be an integer or an integer tensor, got {kind(t)}")
    shape = getattr(t, "shape", ())
    if shape and shape != x.shape[:1]:
        raise ValueError(f"t must be one integer or have shape ({len(x)},), got {kind(t)}")
    low, high = (t, t) if isinstance(t, int) else map(Tensor.item, t.aminmax())
    if low < lowest or high > T:
        worst = low if low < lowest else high
        raise ValueError(f"t must lie in {lowest}..{T}, where 0 is clean data, got {worst}")
    return t.cpu().long() if shape else low


def check_count(name: str, n: int, *, lowest: int = 1) -> None:
    """Refuse what is not an integer of at least `lowest`."""
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"{name} must be an int, got {type(n).__name__}")
    require(n >= lowest, name, f"be at least {lowest}", n)
