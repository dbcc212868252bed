"""Tables of T + 1 rows that the caller hands in: variances, errors and probabilities of t."""

import math

import torch
from torch import Tensor

from .checks import require
from .schedules import NoiseSchedule


def check_table(
    schedule: NoiseSchedule, name: str, table: Tensor, t: object = slice(2, None)
) -> Tensor:
    """Return rows t of a floating-point table of T + 1 rows; refuse other numbers than >= 0."""
    ok = isinstance(table, Tensor) and table.is_floating_point()
    ok = ok and table.shape == schedule.betas.shape and not table.is_meta
    require(ok, name, f"be a floating-point tensor of {schedule.T + 1} rows", table)
    for value in map(Tensor.item, table[t].aminmax()) if table[t].numel() else ():
        require(0 <= value < math.inf, name, "hold finite numbers of at least 0", value)
    return table[t]


def reverse_vars(
    schedule: NoiseSchedule, variances: Tensor | None, t: Tensor | int | None = None
) -> Tensor:
    """Return the table of sigma_t^2, posterior_vars where none is given.

    Only rows t of it are looked at; without t rows 2..T, which must then be positive.
    """
    if variances is None:
        return schedule.posterior_vars
    check_table(schedule, "variances", variances, slice(2, None) if t is None else t)
    if t is None:
        require((variances[2:] > 0).all(), "variances", "be positive in rows 2..T", variances)
    return variances


def probabilities(schedule: NoiseSchedule, probs: Tensor) -> Tensor:
    """Return probabilities of t in 2..T as float64 on the CPU, with sum 1; refuse what is none."""
    check_table(schedule, "probs", probs)
    eps = max(torch.finfo(dtype).eps for dtype in (probs.dtype, torch.float32))
    probs = probs.detach().cpu().double()
    ok = (probs[2:] > 0).all() and not probs[:2].any() and abs(probs.sum() - 1) <= len(probs) * eps
    wanted = "be 0 in rows 0 and 1, positive in rows 2..T, and have sum 1"
    require(ok, "probs", wanted, probs.tolist())
    return probs / probs.sum()
