"""How a result differs from the one that is wanted, in one sentence."""

from numbers import Real
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .calling import Stopped, tensors

RTOL = {torch.float64: 1e-5, torch.float32: 1e-4}
TYPED_RTOL = 1e-3  # a number that a learner types needs four digits


class Tolerance(NamedTuple):
    """How far two numbers may lie apart: by `rtol` of their size.

    Unless `relative`, the size is at least that of the largest number beside them, and 0.01.
    """

    rtol: float
    relative: bool = False


def rtol_of(case: tuple) -> float:
    """Return the relative tolerance for results of these arguments: that of the coarsest tensor."""
    return max((RTOL.get(x.dtype, 0.0) for x in tensors(case)), default=0.0) or 1e-4


def difference(given: object, wanted: object, tolerance: Tolerance) -> str:
    """Say how a result differs from the wanted one; empty if it does not."""
    if isinstance(given, Stopped) or isinstance(wanted, Stopped):
        same = isinstance(given, Stopped) and isinstance(wanted, Stopped)
        stopped = given if isinstance(given, Stopped) else wanted
        return "" if same and given.cause == wanted.cause else stopped.sentence
    if isinstance(wanted, list | tuple):
        if not isinstance(given, list | tuple) or len(given) != len(wanted):
            return f"The result should be {len(wanted)} things, yours is {_kind(given)}."
        parts = enumerate(zip(given, wanted, strict=True), 1)
        found = ((i, difference(a, b, tolerance)) for i, (a, b) in parts)
        return next((f"In part {i} of the result: {text}" for i, text in found if text), "")
    given_numbers, wanted_numbers = _numbers(given), _numbers(wanted)
    if given_numbers is None or wanted_numbers is None:
        return f"The result should be {_kind(wanted)}, yours is {_kind(given)}."
    return _difference_of_numbers(given_numbers, wanted_numbers, tolerance, is_whole(wanted))


def misplaced(given: object, wanted: object) -> str:
    """Say where a tensor, right in its numbers, has a coarser dtype or lies on another device."""
    for a, b in zip(tensors(given), tensors(wanted), strict=False):
        if b.is_floating_point() and a.is_floating_point() and _coarser(a.dtype, b.dtype):
            return f"The result is {a.dtype}, and should be {b.dtype}, as the arguments are."
        if a.device != b.device:
            return f"The result lies on {a.device}, and its arguments lie on {b.device}."
    return ""


def excess(given: Tensor, wanted: Tensor, tolerance: Tolerance, whole: bool = False) -> float:
    """Return by how many tolerances the worst number is off; 0 where all are equal."""
    rtol, relative = tolerance
    size = wanted.abs()
    if not relative:
        finite = size[size.isfinite()]
        size = size.clamp(min=max(0.01, finite.max().item() if len(finite) else 0))
    off = (given - wanted).abs() / (0.001 if whole else rtol * size)
    off = off.nan_to_num(torch.inf, torch.inf).masked_fill(_same(given, wanted), 0)
    return off.max().item() if off.numel() else 0.0


def is_whole(value: object) -> bool:
    """Say whether a result counts something: it must then be met exactly."""
    if isinstance(value, Tensor):
        return not value.is_floating_point()
    return isinstance(value, int)


def _same(a: Tensor, b: Tensor) -> Tensor:
    return (a == b) | (a.isnan() & b.isnan())


def _difference_of_numbers(a: Tensor, b: Tensor, tolerance: Tolerance, whole: bool) -> str:
    sizes = {a.numel(), b.numel()}
    fits = a.shape == b.shape or (1 in sizes and 0 not in sizes)
    if fits and excess(a, b, tolerance, whole) <= 1:
        return ""
    if a.shape != b.shape:
        return f"The result should have shape {tuple(b.shape)}, yours {tuple(a.shape)}."
    if (b.isfinite() & ~a.isfinite()).any():
        return "The result holds NaN or infinity."
    worst = (a - b).abs().masked_fill(_same(a, b), 0).argmax()
    mine, right = _apart(a.flatten()[worst].item(), b.flatten()[worst].item())
    place = ", ".join(str(i.item()) for i in torch.unravel_index(worst, b.shape))
    text = (
        f"A number should be {right}, yours is {mine}{f', at [{place}]' if b.numel() > 1 else ''}."
    )
    factor = ((a * b).sum() / (b * b).sum()).item()
    if b.numel() > 1 and factor not in (0, 1) and excess(a, factor * b, tolerance, whole) <= 1:
        text += f" Yours are all {_apart(factor, 1)[0]} times what they should be."
    return text


def _apart(a: float, b: float) -> tuple[str, str]:
    """Return two numbers that differ with four digits, or with as many as tell them apart."""
    texts = ((f"{a:.{digits}g}", f"{b:.{digits}g}") for digits in range(4, 18))
    return next(pair for pair in texts if pair[0] != pair[1])


def _numbers(value: object) -> Tensor | None:
    """Return a number or a tensor of numbers as float64 on the CPU; None for anything else."""
    if isinstance(value, Tensor) and not _obstacle(value):
        return value.detach().cpu().double()
    if isinstance(value, np.ndarray | np.generic) and value.size == 1:
        value = value.item()
    if not isinstance(value, Real):
        return None
    number = float(value) if abs(value) < 1e300 else torch.inf  # NaN, too, is no number
    return torch.tensor(number, dtype=torch.float64, device="cpu")


def _obstacle(x: Tensor) -> str:
    """Say what keeps the numbers of a tensor from being compared; nothing if they can be."""
    if x.is_complex():
        return f" of {x.dtype}"
    if x.layout != torch.strided or x.is_nested:
        return f" of layout {'nested' if x.is_nested else x.layout}"
    return " on meta, without numbers" if x.is_meta else ""


def _coarser(a: torch.dtype, b: torch.dtype) -> bool:
    return torch.finfo(a).eps > torch.finfo(b).eps


def _kind(value: object) -> str:
    if value is None:
        return "None (is a `return` missing?)"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, Tensor):
        return f"a {type(value).__name__}{_obstacle(value)}"
    if isinstance(value, np.ndarray):
        return f"a NumPy array of {value.dtype}"
    return "a number" if isinstance(value, Real) else f"a {type(value).__name__}"
