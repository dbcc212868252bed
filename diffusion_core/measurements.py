"""Linear measurements y = A x_0 + noise: guidance by their gradient. `measure` is x_0 -> A x_0."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import grad

from .checks import (
    check_count,
    check_data,
    check_finite,
    check_follows,
    check_kinds,
    check_like,
    check_numbers,
    like_input,
    without_autocast,
)
from .predictions import Model
from .schedules import NoiseSchedule, factors
from .traces import checked

Measure = Callable[[Tensor], Tensor]  # measure(x0) = A x0, (B, ...) -> (B, ...) of any size


def measurement_guided(
    schedule: NoiseSchedule,
    eps_model: Model,
    measure: Measure,
    y: Tensor,
    noise_var: float,
    *,
    covariance: bool = True,
    iterations: int = 5,
) -> Model:
    """Return (x_t, t) -> eps_hat - sqrt(1 - alpha_bar_t) J^T A^T S^-1 (y - A x0_hat).

    J = dx0_hat/dx_t by autograd, S = A C A^T + noise_var I with C = Cov(x_0 | x_t), which is
    (1 - alpha_bar_t) / sqrt(alpha_bar_t) J for the optimal eps_model; C = 0 without `covariance`.
    Exact where x_0 given x_t is Gaussian. S^-1 by so many conjugate gradients at most, each a
    backward pass; y's count of numbers an example is enough. y, measure(x0) (B, ...) alike.
    No gradients are kept. Raises ValueError for a noise_var of 0 or an eps_model cut off from x_t.
    Source: Rozet et al. (2024), section 4; without C: Chung et al. (2023), equation 16.
    """
    check_kinds(schedule=schedule, eps_model=eps_model, measure=measure)
    check_data("y", y)
    check_numbers(0, float("inf"), noise_var=noise_var)
    check_count("iterations", iterations)

    def guided(x_t: Tensor, t: Tensor | int) -> Tensor:
        check_data("x_t", x_t)
        scale, std = factors(schedule.marginal_factors, t, x_t, lowest=1)
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            eps_hat = checked("eps_model(x_t, t)", eps_model(x, t), x)
            check_follows("eps_model(x_t, t)", eps_hat.requires_grad)
            found = _measured(measure, (x - std * eps_hat) / scale, y)
            check_follows("measure(x0)", found.requires_grad)

        def pull(u: Tensor) -> Tensor:  # J^T A^T u
            with without_autocast(x):
                return grad(found, x, u, retain_graph=True)[0]

        def spread(u: Tensor) -> Tensor:  # S u, as J is symmetric
            return _measured(measure, std**2 / scale * pull(u), y) + noise_var * u

        with torch.no_grad():
            rest = y - found
            u = _solved(spread, rest, iterations) if covariance else rest / noise_var
            return check_finite(eps_hat - std * pull(u), **{"measure(x0)": found, "y": y})

    return guided


def _measured(measure: Measure, x0: Tensor, y: Tensor) -> Tensor:
    """Return A x0; refuse what is not like y."""
    found = like_input(measure(x0), y)
    check_like("measure(x0)", found, "y", y)
    return found


def _solved(spread: Callable[[Tensor], Tensor], rest: Tensor, iterations: int) -> Tensor:
    """Return u with S u = rest for each example, by conjugate gradients from u = 0.

    An example stops where S is not positive along the direction, as for a network it may be.
    """
    u, left, direction = torch.zeros_like(rest), rest, rest
    squares = _dot(left, left)
    for _ in range(min(iterations, rest[0].numel())):
        moved = spread(direction)
        along = _dot(direction, moved)
        length = torch.where(along > 0, squares / along, 0.0)
        u = u + length * direction
        left = left - length * moved
        before, squares = squares, _dot(left, left)
        direction = left + torch.where(before > 0, squares / before, 0.0) * direction
    return u


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the product of each two examples, ready to multiply them."""
    return (a * b).reshape(len(a), -1).sum(1).view(-1, *[1] * (a.ndim - 1))
