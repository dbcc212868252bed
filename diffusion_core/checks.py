"""What every function asks of its arguments, said once and in whole sentences."""

import math

import torch
from torch import Tensor

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def check_alike(**tensors: Tensor) -> None:
    """Refuse what is no floating-point tensor (B, ...), or is not like the first of them."""
    (first, like), *_ = tensors.items()
    for name, x in tensors.items():
        if not (isinstance(x, Tensor) and x.is_floating_point()):
            raise TypeError(f"{name} must be a floating-point torch.Tensor, got {kind(x)}")
        if x.ndim == 0 or x.numel() == 0:
            raise ValueError(f"{name} must hold at least one example (B, ...), got {kind(x)}")
        if x.shape != like.shape or x.dtype != like.dtype or x.device != like.device:
            error = ValueError if x.shape != like.shape else TypeError
            raise error(f"{name} must be like {first}, {kind(like)}, got {kind(x)}")


def check_finite(result: Tensor, **inputs: Tensor) -> Tensor:
    """Return a result that is finite; else say which input is not. One sum, if all is well."""
    if not math.isfinite(result.sum().item()) and not result.isfinite().all():
        bad = [name for name, x in inputs.items() if not x.isfinite().all()]
        names = " and ".join(bad or [f"{name} (too large for {result.dtype})" for name in inputs])
        raise ValueError(f"{names} must hold finite numbers, got NaN or infinity")
    return result


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
    if isinstance(t, Tensor) and t.dtype in INTEGERS:
        if t.ndim and t.shape != x.shape[:1]:
            raise ValueError(f"t must be one integer or have shape ({len(x)},), got {kind(t)}")
        low, high = (bound.item() for bound in t.aminmax())
        t = t.to("cpu", torch.int64) if t.ndim else low
    elif type(t) is int:
        low = high = t
    else:
        raise TypeError(f"t must be an integer or an integer tensor, got {kind(t)}")
    if low < lowest or high > T:
        given = low if low == high else f"{low}..{high}"
        raise ValueError(f"t must lie in {lowest}..{T}, where 0 is clean data, got {given}")
    return t


def check_count(name: str, n: int, *, lowest: int = 1) -> None:
    """Refuse what is not an integer of at least `lowest`."""
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"{name} must be an int, got {type(n).__name__}")
    if n < lowest:
        raise ValueError(f"{name} must be at least {lowest}, got {n}")


def kind(x: object) -> str:
    """Return what x is, for a message: a tensor's dtype, shape and device, or the type."""
    is_tensor = isinstance(x, Tensor)
    return f"{x.dtype} {tuple(x.shape)} on {x.device}" if is_tensor else type(x).__name__
