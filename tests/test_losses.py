"""The simple loss at its minimum, on data where that minimum is known."""

import math

import pytest
import torch
from oracles import condition, normal
from torch.testing import assert_close

import diffusion_core as dc

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

SCHEDULE = dc.vp_schedule(10)
DATA_VAR = 0.5


def least_error(t: int) -> float:
    """Return Var(eps | x_t) for x_0 ~ N(0, DATA_VAR), by conditioning the pair (eps, x_t)."""
    keep = math.prod(1 - beta for beta in SCHEDULE.betas[1 : t + 1].tolist())
    factor = torch.tensor([[0, 1], [math.sqrt(keep * DATA_VAR), math.sqrt(1 - keep)]]).double()
    return condition(factor @ factor.T, [0], [1])[1].item()


def test_row_20_algorithm_1_is_at_its_least_the_mean_of_var_eps_given_x_t_over_1_to_T(generator):
    """One t of 1..T for each example, and a residual that is N(0, least_error(t))."""
    best = dc.mixture_eps_model(SCHEDULE, dc.mixture(torch.zeros(1, 1).double(), DATA_VAR))
    asked = []

    def eps_model(x_t, t):
        asked.append(t)
        return best(x_t, t)

    n = 100_000
    x0 = math.sqrt(DATA_VAR) * normal(n, 1)
    loss = dc.eps_loss(SCHEDULE, eps_model, x0, generator=generator)
    shares = torch.bincount(asked[0]).double() / n
    even = torch.tensor([0.0] + [1 / SCHEDULE.T] * SCHEDULE.T, dtype=torch.float64)
    assert_close(shares, even, rtol=0, atol=0.005)
    errors = torch.tensor([least_error(t) for t in range(1, SCHEDULE.T + 1)])
    spread = (3 * errors**2).mean() - errors.mean() ** 2  # E r^4 = 3 var^2 of each residual r
    assert_close(loss.item(), errors.mean().item(), rtol=0, atol=5 * math.sqrt(spread / n))
