"""Exercise 04.4: a variance between the two usual ones."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_core.elbo_weights import best_variances
from diffusion_core.schedules import NoiseSchedule

from ..exercise import Exercise
from .paper import DTYPES


def _best(schedule: NoiseSchedule, errors: Tensor, t: int) -> Tensor:
    tables = [torch.full_like(schedule.betas, error) for error in errors.tolist()]
    return torch.stack([best_variances(schedule, table)[t] for table in tables]).to(errors)


def _nu_of(variance: Tensor, schedule: NoiseSchedule, t: int) -> Tensor:
    """Return where a variance lies between the two usual ones, on a logarithmic scale."""
    low, high = schedule.posterior_vars[t], schedule.betas[t]
    return (variance / low).log() / (high / low).log()


def _nu(schedule: NoiseSchedule, errors: Tensor, t: int) -> Tensor:
    return _nu_of(_best(schedule, errors.double(), t), schedule, t).to(errors)


def _linear_nu(schedule: NoiseSchedule, errors: Tensor, t: int) -> Tensor:
    low, high = schedule.posterior_vars[t], schedule.betas[t]
    return (_best(schedule, errors, t) - low) / (high - low)


def _nu_with(error_factor: Callable[[NoiseSchedule, int], Tensor]) -> Callable:
    """Return nu with another factor of the error in the best variance."""
    return lambda s, errors, t: _nu_of(s.posterior_vars[t] + error_factor(s, t) * errors, s, t)


def _measured(generator: torch.Generator) -> list[tuple]:
    cases = []
    for dtype in DTYPES:
        T = int(torch.randint(5, 12, (1,), generator=generator))
        betas = 0.05 + 0.2 * torch.rand(T, generator=generator, dtype=torch.float64)
        inner = int(torch.randint(3, T, (1,), generator=generator))
        for t, size in ((2, 4), (inner, 1), (T, 3)):
            errors = 0.2 + 0.7 * torch.rand(size, generator=generator, dtype=dtype)
            if t == T:
                errors[0] = 0.95  # above alpha_bar_T, and so nu is above 1
            cases.append((NoiseSchedule(betas), errors, t))
    return cases


EXERCISES = {
    "04.4": Exercise(
        truth=_nu,
        cases=_measured,
        mistakes={
            "This is nu on the scale of the variances, not of their logarithms.": _linear_nu,
            "This is 1 - nu: nu = 1 belongs to beta_t.": lambda *case: 1 - _nu(*case),
            "nu may lie above 1, where the guess is bad. Do not clamp it.": (
                lambda *case: _nu(*case).clamp(0, 1)
            ),
            "The error needs its factor beta_t^2 / (alpha_t (1 - alpha_bar_t)).": (
                _nu_with(lambda s, t: torch.ones(()).double())
            ),
            "In the factor of the error, alpha_t and not alpha_bar_t stands below the line.": (
                _nu_with(lambda s, t: s.betas[t] ** 2 / (s.alpha_bars[t] * s.marginal_vars[t]))
            ),
            "In the factor of the error, beta_t is squared.": (
                _nu_with(lambda s, t: s.betas[t] / (s.alphas[t] * s.marginal_vars[t]))
            ),
            "This is the best variance itself; nu was asked for.": _best,
        },
        hints=(
            "First the best variance, from the error, by (23).",
            "Then solve log best = nu log beta + (1 - nu) log posterior for nu.",
            "Bring log posterior to the left side. What multiplies nu on the right?",
        ),
    ),
}
