"""What every function asks of its arguments, said once and in whole sentences."""

import math
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

INTEGERS = (int, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
PLAIN = (int, float, str, list, tuple, Tensor, type(None))  # what a message shows as it is


def _is_floating(x: object) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point()


def _is_network(x: object) -> bool:
    return isinstance(x, torch.nn.Module) and not any(w.is_meta for w in x.parameters())


KINDS = {  # of arguments by their names; others are functions
    "schedule": (lambda x: hasattr(x, "posterior_factors"), "a NoiseSchedule"),
    "generator": (lambda x: isinstance(x, torch.Generator | None), "a torch.Generator or None"),
    **dict.fromkeys(("like", "table", "x"), (_is_floating, "a floating-point torch.Tensor")),
    **dict.fromkeys(("model", "judge"), (_is_network, "a torch.nn.Module with numbers in it")),
}


def require(ok: bool, name: str, wanted: str, given: object) -> None:
    """Raise ValueError("NAME must WANTED, got GIVEN") unless ok."""
    if not ok:
        raise ValueError(f"{name} must {wanted}, got {kind(given)}")


def kind(x: object) -> str:
    """Return a value as a message shows it: plain ones as they are, others by what they are."""
    if isinstance(x, Tensor) and x.ndim:
        return f"{x.dtype} {tuple(x.shape)} on {x.device}"
    name = type(x).__name__
    return f"{x!r:.60}" if isinstance(x, PLAIN) else "numpy." * isinstance(x, np.generic) + name


def check_alike(*, schedule: object = ..., **tensors: Tensor) -> None:
    """Refuse what is no floating-point tensor (B, ...), or unlike the first; what no schedule."""
    if schedule is not ...:
        check_kinds(schedule=schedule)
    (first, y), *_ = tensors.items()
    for name, x in tensors.items():
        check_floating(name, x)
        if x is not y and (x.shape != y.shape or x.dtype != y.dtype or x.device != y.device):
            error = ValueError if x.shape != y.shape else TypeError
            raise error(f"{name} must be like {first}, {kind(y)}, got {kind(x)}")
    require(y.ndim and y.numel(), first, "hold at least one example (B, ...)", y)


def check_floating(name: str, x: Tensor) -> None:
    """Refuse what is no floating-point tensor."""
    if not _is_floating(x):
        raise TypeError(f"{name} must be a floating-point torch.Tensor, got {kind(x)}")


def check_finite(result: Tensor, **inputs: Tensor) -> Tensor:
    """Return a result that is finite; else say which input is not. One sum, if all is well."""
    if not math.isfinite(number(result.sum())) and not number(result.isfinite().all()):
        bad = [name for name, x in inputs.items() if not x.isfinite().all()]
        names = " and ".join(bad or [f"{name} (too large for {result.dtype})" for name in inputs])
        raise ValueError(f"{names} must hold finite numbers, got NaN or infinity")
    return result


def check_squares(**inputs: Tensor) -> None:
    """Refuse inputs that hold NaN, infinity or what is too large for a sum of its squares."""
    for name, x in inputs.items():
        wide = torch.promote_types(x.dtype, torch.float32)
        check_finite(torch.linalg.vector_norm(x.detach(), dtype=wide), **{name: x})


def number(x: Tensor) -> float:
    """Return x.item(), or True where none can be seen (in torch.func.vmap, on meta)."""
    try:
        return x.item()
    except RuntimeError as error:
        if not (x.is_meta or "vmap" in str(error)):
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


def row(name: str, values: object, within: tuple[float, float] | None = None) -> Tensor:
    """Return a row of numbers, all inside an interval, as float64 on the CPU, without gradients."""
    if getattr(values, "is_complex", bool)() or getattr(values, "is_meta", False):
        raise TypeError(f"{name} must be real numbers, got {kind(values)}")
    values = numbers(name, values).detach().to("cpu", torch.float64)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"{name} must be one row for 1..T, got shape {tuple(values.shape)}")
    if within and not ((values > within[0]) & (values < within[1])).all():
        span = f"{values.min():.4g} to {values.max():.4g}"
        raise ValueError(f"{name} must lie in {within}, got {span}")
    return values


def check_numbers(low: float, high: float, ends: str = "()", **values: float) -> None:
    """Refuse what is no number between the two; with "[" as the first end it may be the lower."""
    for name, value in values.items():
        ok = isinstance(value, int | float) and low <= value < high
        ok = ok and (value != low or ends[0] == "[")
        require(ok, name, f"be a number in {ends[0]}{low}, {high}{ends[1]}", value)


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Return a context in which torch.autocast leaves the products of x's device exact."""
    device = x.device.type
    active = torch.is_autocast_enabled(device) if device != "meta" else False
    return torch.autocast(device, enabled=False) if active else nullcontext()


def like_input(answer: Tensor, x_t: Tensor) -> Tensor:
    """Return what a model answered, in the dtype of x_t if it is only torch.autocast's."""
    dtype = getattr(answer, "dtype", None)
    if dtype is x_t.dtype or not torch.is_autocast_enabled(x_t.device.type):
        return answer
    return answer.to(x_t.dtype) if dtype is torch.get_autocast_dtype(x_t.device.type) else answer


def check_data(name: str, x: Tensor) -> None:
    """Refuse what is not a floating-point batch (B, ...) of finite numbers."""
    check_alike(**{name: x})
    require(not x.is_meta, name, "hold numbers", x)
    check_finite(x, **{name: x})


def check_like(name: str, x: Tensor, like_name: str, like: Tensor) -> None:
    """Refuse an x whose shape, dtype or device differs from that of `like`; check x as data."""
    check_alike(**{like_name: like, name: x})
    check_finite(x, **{name: x})


def check_t(t: Tensor | int, x: Tensor, T: int, *, lowest: int = 0) -> Tensor | int:
    """Return t as an int, or as int64 on the CPU with one number for each example of x."""
    shape, dtype = getattr(t, "shape", ()), getattr(t, "dtype", type(t))
    whole = isinstance(t, int | Tensor) and dtype in INTEGERS
    if not whole or (shape and shape != x.shape[:1]):
        error = ValueError if whole else TypeError
        raise error(f"t must be one integer or integers {tuple(x.shape[:1])}, got {kind(t)}")
    if getattr(t, "is_meta", False):
        raise TypeError(f"t must hold numbers, got {kind(t)}")
    t = t if isinstance(t, int) else t.cpu()  # a GPU is waited for once
    low, high = (t, t) if isinstance(t, int) else map(Tensor.item, t.aminmax())
    worst = low if low < lowest else high
    if not lowest <= worst <= T:
        raise ValueError(f"t must lie in {lowest}..{T}, where 0 is clean data, got {worst}")
    return t.long() if shape else low


def rows_at(table: Tensor, t: Tensor | int, x: Tensor, lowest: int) -> Tensor:
    """Return rows t of a table (T+1,), finite, for each example of x; refuse what is none."""
    check_kinds(table=table, x=x)
    check_count("lowest", lowest, lowest=0)
    ok = table.ndim == 1 and len(table) and not table.is_meta
    require(ok, "table", "hold numbers (T+1,)", table)
    rows = table[check_t(t, x, len(table) - 1, lowest=lowest)]
    return check_finite(rows, table=rows)


def check_follows(name: str, follows: bool, x: str = "x_t") -> None:
    """Refuse a result through which no gradient reaches x."""
    wanted = f"depend on {x} by operations that autograd follows"
    where = ", as torch.inference_mode is on" if torch.is_inference_mode_enabled() else ""
    require(follows, name, wanted, f"a result cut off from {x}{where}")


def check_count(name: str, n: int, *, lowest: int = 1) -> None:
    """Refuse what is not an integer of at least `lowest`."""
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"{name} must be an int, got {type(n).__name__}")
    require(n >= lowest, name, f"be at least {lowest}", n)


def check_labels(y: Tensor, name: str = "y") -> None:
    """Refuse what are no integers (B,)."""
    if not (isinstance(y, Tensor) and y.dtype in INTEGERS and y.ndim == 1):
        raise TypeError(f"{name} must be a torch.Tensor (B,) of integers, got {kind(y)}")


def check_kinds(**given: object) -> None:
    """Refuse a schedule, a generator, a network, or else a function, that is none, by its name."""
    for name, x in given.items():
        fits, wanted = KINDS.get(name, (callable, "a function"))
        if not fits(x):
            raise TypeError(f"{name} must be {wanted}, got {kind(x)}")
