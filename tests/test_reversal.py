"""The reverse SDE and the probability flow, against exactly diffused mixtures and moments."""

import itertools

import pytest
import torch
from oracles import assert_mean, normal, seeded
from torch.testing import assert_close

import diffusion_core as dc

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

VP, VE = dc.vp_sde(), dc.ve_sde(0.02, 10.0)
SDES = {"vp": VP, "ve": VE}
EVERY = pytest.mark.parametrize("sde", SDES.values(), ids=SDES)
DATA = dc.mixture(
    torch.tensor([[-1.5, 0.0], [1.0, 1.0]], dtype=torch.float64), 0.1, torch.tensor([0.3, 0.7])
)
FIVE = (0.8, 0.6, 0.4, 0.2, 0.05)


def last(states):
    *_, end = states
    return end


def even(steps: int, start: float = 0.0, end: float = 1.0) -> torch.Tensor:
    return torch.linspace(start, end, steps + 1, dtype=torch.float64)


@EVERY
def test_simulated_data_has_the_marginals(sde):
    """Forward from data to five times: moments of the exactly diffused mixture."""
    n, times = 5000, [0.0, *FIVE[::-1]]
    x = DATA.sample(n, generator=seeded())
    fine = torch.cat([even(80, a, b)[:-1] for a, b in itertools.pairwise(times)])
    fine = torch.cat([fine, torch.tensor(times[-1:], dtype=torch.float64)])
    states = [x, *dc.euler_maruyama(sde, x, fine, generator=seeded(2))]
    for k, time in enumerate(times):
        assert_moments(states[80 * k], dc.mixture_at(sde, DATA, time), bias=0.02)


def assert_moments(x: torch.Tensor, q: dc.Mixture, bias: float) -> None:
    """Check means, variances and the share of the right mode against the mixture's; biases are
    relative to its standard deviation, its variance, and 1."""
    mean = q.weights @ q.means
    spread = q.weights @ ((q.means - mean) ** 2 + q.vars[:, None])
    scaled = (x - mean) / spread.sqrt()
    assert_mean(scaled, 0.0, bias=bias)
    assert_mean(scaled**2, 1.0, bias=2 * bias)
    normal = torch.distributions.Normal(q.means[:, 0], q.vars.sqrt())
    share = q.weights @ (1 - normal.cdf(torch.zeros_like(q.vars)))
    assert_mean((x[:, 0] > 0).double(), share, bias=bias)


def followed_back(equation, sde, steps: int, n: int):
    """Yield time and state at five times, from exact states at time 1, with shorter steps late."""
    x, rng = dc.mixture_at(sde, DATA, 1.0).sample(n, generator=seeded()), seeded(3)
    for start, end in itertools.pairwise((1.0, *FIVE)):
        x = last(dc.euler_maruyama(equation, x, even(steps, start, end), generator=rng))
        yield end, x


@EVERY
def test_row_36_trap_B23_the_reverse_sde_has_the_marginals_at_five_times(sde):
    back = dc.reverse_sde(sde, dc.mixture_score(sde, DATA))
    for time, x in followed_back(back, sde, 100, 5000):
        assert_moments(x, dc.mixture_at(sde, DATA, time), bias=0.02)


@EVERY
def test_row_37_trap_B24_the_flow_has_the_marginals_at_five_times(sde):
    flow = dc.probability_flow(sde, dc.mixture_score(sde, DATA))
    for time, x in followed_back(flow, sde, 100, 5000):
        assert_moments(x, dc.mixture_at(sde, DATA, time), bias=0.02)


def variance_after(equation: dc.SDE, var: float, steps: int = 2000) -> float:
    """Return Var x at time 0 of an SDE that is linear in x, from its moments: no draw is made."""
    zero, one = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    for start, end in itertools.pairwise(even(steps, 1.0, 0.0).tolist()):
        slope = (equation.drift(one, start) - equation.drift(zero, start)).item()
        noise = equation.diffusion(zero, start) ** 2
        var = (1 + slope * (end - start)) ** 2 * var + noise * (start - end)
    return var


def gaussian_score(x, time):
    return -x  # of N(0, 1), which VP keeps


def test_row_36_traps_B23_and_B24_signs_and_halves_show_in_the_variance_of_gaussian_data():
    """Of N(0, 1) under VP. The mistakes of others, by their known variances at time 0."""
    back, flow = dc.reverse_sde(VP, gaussian_score), dc.probability_flow(VP, gaussian_score)
    assert_close(variance_after(back, 1.0), 1.0, rtol=0.02, atol=0)
    assert_close(variance_after(flow, 1.0), 1.0, rtol=1e-9, atol=0)
    half = dc.SDE(flow.drift, VP.diffusion)
    no_half = dc.SDE(back.drift, lambda x, time: 0.0)
    flipped = dc.SDE(
        lambda x, time: -VP.drift(x, time) - VP.diffusion(x, time) ** 2 * gaussian_score(x, time),
        VP.diffusion,
    )
    assert variance_after(half, 1.0) > 10
    assert variance_after(no_half, 1.0) < 1e-3
    assert abs(variance_after(flipped, 1.0) - 1 / 3) < 0.01


def test_row_37_the_flow_of_gaussian_data_in_closed_form():
    """x_time = mean + std x_1's standardised coordinate, at any time; Euler's error only."""
    data = dc.mixture(torch.tensor([[0.5]], dtype=torch.float64), 0.25)
    flow = dc.probability_flow(VP, dc.mixture_score(VP, data))
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    end = last(dc.euler_maruyama(flow, x, even(2000, 1.0, 0.0)))
    q = dc.mixture_at(VP, data, 1.0)
    wanted = 0.5 + 0.5 * (x - q.means) / q.vars.sqrt()
    assert_close(end, wanted, rtol=0, atol=5e-3)


@EVERY
def test_trap_B36_every_equation_may_be_followed_forward_back_and_by_its_flow(sde):
    score = dc.mixture_score(sde, DATA)
    x = normal(5, 2)
    for equation in (sde, dc.reverse_sde(sde, score), dc.probability_flow(sde, score)):
        for times in (even(4), even(4, 1.0, 0.0)):
            assert last(dc.euler_maruyama(equation, x, times, generator=seeded())).isfinite().all()
        assert equation.marginal(0.5) == sde.marginal(0.5)


@EVERY
def test_the_exact_mixture_at_any_time_agrees_with_its_samples_and_its_score_with_autograd(sde):
    q = dc.mixture_at(sde, DATA, 0.3)
    scale, std = sde.marginal(0.3)
    x0 = DATA.sample(20_000, generator=seeded())
    assert_moments(scale * x0 + std * normal(20_000, 2, seed=4), q, bias=0.0)
    x = normal(6, 2).requires_grad_()
    wanted = torch.autograd.grad(q.log_prob(x).sum(), x)[0]
    assert_close(dc.mixture_score(sde, DATA)(x.detach(), 0.3), wanted)
