"""How much each step of the ELBO weighs the error of eps, and which variances suit it best."""

import math

import torch
from torch import Tensor

from .checks import (
    check_alike,
    check_data,
    check_finite,
    check_kinds,
    check_like,
    like_input,
    require,
)
from .elbo import ElboTerms
from .gaussian import standard_normal
from .predictions import Model
from .process import q_sample
from .schedules import NoiseSchedule
from .tables import check_table, reverse_vars


def eps_weights(schedule: NoiseSchedule, variances: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the tables (T+1,) w and C of L_{t-1} = w_t E|eps - eps_hat|^2 + C_t d, t in 2..T.

    w_t = beta_t^2 / (2 sigma_t^2 alpha_t (1 - alpha_bar_t)),
    C_t = [r - 1 - ln r] / 2 with r = posterior_vars_t / sigma_t^2. Rows 0 and 1 are 0.
    Source: Ho et al. (2020), equation 12.
    """
    check_kinds(schedule=schedule)
    s, sigma = schedule, reverse_vars(schedule, variances)
    weights, constants = torch.zeros_like(s.betas), torch.zeros_like(s.betas)
    weights[2:] = (s.betas**2 / (2 * sigma * s.alphas * s.marginal_vars))[2:]
    ratio = (s.posterior_vars / sigma)[2:]
    constants[2:] = (ratio - 1 - ratio.log()) / 2
    return weights, constants


def eps_errors(
    schedule: NoiseSchedule,
    eps_model: Model,
    x0: Tensor,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the table (T+1,) of E|eps - eps_hat(x_t, t)|^2 / d over x0 (B, ...); row 0 is 0."""
    check_kinds(schedule=schedule, eps_model=eps_model, generator=generator)
    check_data("x0", x0)
    errors = torch.zeros_like(schedule.betas)
    for t in range(1, schedule.T + 1):
        eps = standard_normal(x0, generator)
        times = torch.full((len(x0),), t, device=x0.device)
        x_t = q_sample(schedule, x0, t, eps)
        with torch.no_grad():
            eps_hat = like_input(eps_model(x_t, times), x_t)
        check_like("eps_model(x_t, t)", eps_hat, "x_t", x_t)
        errors[t] = (eps - eps_hat).square().mean().item()
    return check_finite(errors, x0=x0)


def best_variances(schedule: NoiseSchedule, errors: Tensor) -> Tensor:
    """Return the table (T+1,) of the sigma_t^2 that make each L_{t-1} least, t in 2..T.

    sigma_t^2 = posterior_vars_t + beta_t^2 / (alpha_t (1 - alpha_bar_t)) errors_t, errors_t =
    E|eps - eps_hat|^2 / d, see `eps_errors`. For the optimal eps_hat, errors_t =
    alpha_bar_t / (1 - alpha_bar_t) E Var(x_0 | x_t) / d. Rows 0 and 1 are 0.
    Source: Bao et al. (2022), theorem 1.
    """
    check_kinds(schedule=schedule)
    check_table(schedule, "errors", errors)
    s = schedule
    best = torch.zeros_like(s.betas)
    best[2:] = (s.posterior_vars + s.betas**2 / (s.alphas * s.marginal_vars) * errors)[2:]
    return check_finite(best, errors=errors)


def importance(terms: ElboTerms) -> Tensor:
    """Return probabilities (T+1,) for drawing t, proportional to the root mean square of L_{t-1}.

    They make `elbo_estimate` least noisy. A twentieth is spread evenly, so none in 2..T is 0.
    Raises ValueError where all are 0, as at T = 1. Source: Nichol and Dhariwal (2021), equation 18.
    """
    steps = getattr(terms, "steps", None)
    check_alike(**{"terms.steps": steps})
    require(steps.ndim == 2 and not steps.is_meta, "terms.steps", "be a table (B, T+1)", steps)
    size = steps.detach().cpu().double().square().mean(0).sqrt()
    ok = len(size) > 2 and 0 < size.sum() < math.inf
    require(ok, "terms.steps", "be finite, and not all 0, in columns 2..T", steps)
    even = (torch.arange(len(size), device="cpu") >= 2).double()
    return 0.95 * size / size.sum() + 0.05 * even / even.sum()
