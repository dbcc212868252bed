"""The probability flow to a tolerance: where a state goes, and the log density it came from."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .checks import (
    check_count,
    check_data,
    check_kinds,
    check_like,
    require,
    without_autocast,
)
from .sde import SDE, check_sde
from .traces import checked, exact_trace, hutchinson_trace, rademacher


class Solved(NamedTuple):
    """The state at the end of an ODE, and how often its right side was called."""

    x: Tensor
    calls: int


class LogLikelihood(NamedTuple):
    """log_prob (B,) in nats, its standard error (B,) over probes (0 with the exact trace), the
    state x_T at time 1 that it was read off, and the calls of the flow's drift, all probes."""

    log_prob: Tensor
    std_error: Tensor
    x_T: Tensor
    calls: int


def solve_ode(
    drift: Callable[[Tensor, float], Tensor],
    x: Tensor,
    start: float,
    end: float,
    *,
    tolerance: float = 1e-6,
) -> Solved:
    """Solve dx / dtime = drift(x, time) from x at start to the end, with steps of its own choice.

    scipy's Runge-Kutta of order 5(4), all examples of x (B, ...) as one system in float64 on the
    CPU; `tolerance` is both its relative and its absolute one. drift must answer the same each
    time it is asked; the rounding of a float32 x makes a tolerance below 1e-6 dear.
    Raises ValueError for a tolerance outside (1e-13, 1), RuntimeError where the solver gives up.
    Source: Dormand and Prince (1980).
    """
    from scipy.integrate import RK45  # here: it takes long to import

    check_kinds(drift=drift)
    check_data("x", x)
    for name, time in (("start", start), ("end", end)):
        require(isinstance(time, int | float) and math.isfinite(time), name, "be a number", time)
    ok = isinstance(tolerance, float) and 1e-13 < tolerance < 1
    require(ok, "tolerance", "be in (1e-13, 1)", tolerance)

    def right_side(time: float, flat: np.ndarray) -> np.ndarray:
        time = min(max(float(time), min(start, end)), max(start, end))  # scipy rounds
        with torch.no_grad():
            return _flat(checked("drift(x, time)", drift(unflat(flat), time), x))

    def unflat(flat: np.ndarray) -> Tensor:
        return torch.from_numpy(flat.copy()).to(x.dtype).to(x.device).reshape(x.shape)

    with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is refused above
        solver = RK45(right_side, start, _flat(x), end, rtol=tolerance, atol=tolerance)
        while solver.status == "running":
            message = solver.step()
    if solver.status == "failed":
        raise RuntimeError(f"the ODE could not be solved from {start} to {end}: {message}")
    return Solved(unflat(solver.y), solver.nfev)


def log_likelihood(
    flow: SDE,
    x: Tensor,
    log_prior: Callable[[Tensor], Tensor],
    *,
    start: float = 0.0,
    probes: int = 0,
    tolerance: float = 1e-6,
    generator: torch.Generator | None = None,
) -> LogLikelihood:
    """Return log p(x at time `start`), carried back from log_prior, the log density at time 1.

    log p(x) = log_prior(x_T) + int_start^1 div drift dtime along the flow from x to x_T.
    The divergence is exact (a backward pass a coordinate), or with probes >= 2 Hutchinson's, each
    probe held for one whole solve: their mean, and its standard error.
    x (B, ...) -> (B,). Raises ValueError for probes = 1, and as solve_ode does.
    Source: Song et al. (2021), appendix D.2; Grathwohl et al. (2019), section 3.1.
    """
    check_sde("flow", flow)
    check_kinds(log_prior=log_prior, generator=generator)
    check_data("x", x)
    check_count("probes", probes, lowest=0)
    require(probes != 1, "probes", "be 0, for the exact trace, or at least 2", probes)
    require(isinstance(start, int | float) and 0 <= start < 1, "start", "be in [0, 1)", start)
    signs = [rademacher(x, generator) for _ in range(probes)] or [None]
    found = [_carried(flow, x, start, v, tolerance) for v in signs]
    values = torch.stack([_prior(log_prior, x_T) + gained for x_T, gained, _ in found])
    error = values.std(0) / len(values) ** 0.5 if probes else torch.zeros_like(values[0])
    return LogLikelihood(values.mean(0), error, found[0][0], sum(calls for *_, calls in found))


def _carried(
    flow: SDE, x: Tensor, start: float, v: Tensor | None, tolerance: float
) -> tuple[Tensor, Tensor, int]:
    """Return x_T, the divergence summed up on the way to it, and the calls; v is a probe."""

    def drift(state: Tensor, time: float) -> Tensor:
        def velocity(x: Tensor) -> Tensor:
            return checked("drift(x, time)", flow.drift(x, time), x)

        x_t = state[:, :-1].reshape(x.shape)
        with without_autocast(x):  # backward passes would multiply in its lower dtype
            traced = exact_trace(velocity, x_t) if v is None else hutchinson_trace(velocity, x_t, v)
        return torch.cat([traced.score.reshape(len(x), -1), traced.trace[:, None]], 1)

    rows = x.reshape(len(x), -1)
    end, calls = solve_ode(
        drift, torch.cat([rows, torch.zeros_like(rows[:, :1])], 1), start, 1.0, tolerance=tolerance
    )
    return end[:, :-1].reshape(x.shape), end[:, -1], calls


def _prior(log_prior: Callable[[Tensor], Tensor], x_T: Tensor) -> Tensor:
    """Return the log density of each example; refuse another shape than (B,)."""
    value = log_prior(x_T)
    check_like("log_prior(x_T)", value, "one number an example", x_T.reshape(len(x_T), -1)[:, 0])
    return value


def _flat(x: Tensor) -> np.ndarray:
    return x.detach().cpu().double().numpy().ravel()
