"""What every function asks of its arguments, said once and in whole sentences."""

import torch
from torch import Tensor


def check_data(name: str, x: Tensor) -> None:
    """Refuse what is not a floating-point batch (B, ...) of finite numbers."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor, got {x.dtype}")
    if x.ndim == 0 or x.numel() == 0:
        raise ValueError(f"{name} must hold at least one example (B, ...), got {tuple(x.shape)}")
    # A sum shows NaN and infinity in a tenth of the time; but a sum of finite numbers can overflow.
    if not x.sum().isfinite() and not x.isfinite().all():
        raise ValueError(f"{name} must hold finite numbers, got NaN or infinity")


def check_like(name: str, x: Tensor, like_name: str, like: Tensor) -> None:
    """Refuse an x whose shape, dtype or device differs from that of `like`; check x as data."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(x).__name__}")
    for what in ("shape", "dtype", "device"):
        given, wanted = getattr(x, what), getattr(like, what)
        if given != wanted:
            error = ValueError if what == "shape" else TypeError
            raise error(f"{name} must have the {what} of {like_name}, {wanted}, got {given}")
    check_data(name, x)


def check_t(t: Tensor | int, x: Tensor, T: int, *, lowest: int = 0) -> Tensor:
    """Return t as int64 on the CPU, one number for each example of x or one for all."""
    if isinstance(t, bool) or not isinstance(t, int | Tensor):
        raise TypeError(f"t must be an int or an integer tensor, got {type(t).__name__}")
    t = torch.as_tensor(t)
    if t.is_floating_point() or t.is_complex() or t.dtype == torch.bool:
        raise TypeError(f"t must hold integers, got {t.dtype}")
    if t.ndim > 1 or (t.ndim == 1 and len(t) != len(x)):
        raise ValueError(f"t must be one integer or have shape ({len(x)},), got {tuple(t.shape)}")
    t = t.detach().to("cpu", torch.int64)
    if t.min() < lowest or t.max() > T:
        given = f"{int(t.min())}..{int(t.max())}" if t.ndim else f"{int(t)}"
        why = " (t = 0 is clean data, a noisy state is needed here)" if lowest == 1 else ""
        raise ValueError(f"t must lie in {lowest}..{T}{why}, got {given}")
    return t


def check_count(name: str, n: int, *, lowest: int = 1) -> None:
    """Refuse what is not an integer of at least `lowest`."""
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"{name} must be an int, got {type(n).__name__}")
    if n < lowest:
        raise ValueError(f"{name} must be at least {lowest}, got {n}")
