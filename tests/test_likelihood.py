"""The change of variables along the flow, against exact log densities; probes and tolerances."""

import math

import pytest
import torch
from oracles import assert_mean, normal, seeded
from torch.testing import assert_close

import diffusion_core as dc

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

SDES = {"vp": dc.vp_sde(), "ve": dc.ve_sde(0.02, 10.0)}
EVERY = pytest.mark.parametrize("sde", SDES.values(), ids=SDES)
DATA = dc.mixture(
    torch.tensor([[-1.5, 0.0], [1.0, 1.0], [0.5, -1.0]], dtype=torch.float64),
    torch.tensor([0.05, 0.1, 0.2]),
    torch.tensor([0.5, 0.3, 0.2]),
)
X = DATA.sample(60, generator=seeded())


def flow_of(sde, data=DATA) -> dc.SDE:
    return dc.probability_flow(sde, dc.mixture_score(sde, data))


def standard_log_prob(x):
    """The log density of N(0, I)."""
    return -0.5 * (x.square() + math.log(2 * math.pi)).flatten(1).sum(1)


# The adaptive solver.


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7, 1e-10])
def test_the_flow_of_gaussian_data_in_closed_form(tolerance):
    data = dc.mixture(torch.tensor([[0.5]], dtype=torch.float64), 0.25)
    sde = dc.vp_sde()
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    q = dc.mixture_at(sde, data, 1.0)
    wanted = 0.5 + 0.5 * (x - q.means) / q.vars.sqrt()
    solved = dc.solve_ode(flow_of(sde, data).drift, x, 1.0, 0.0, tolerance=tolerance)
    assert_close(solved.x, wanted, rtol=0, atol=20 * tolerance)


def test_it_counts_calls_keeps_dtype_and_device_and_no_gradients(device):
    asked = []

    def drift(x, time):
        asked.append(time)
        return -x

    x = normal(3, 1, 2, 2, dtype=torch.float32).to(device).requires_grad_()
    solved = dc.solve_ode(drift, x, 0.0, 2.0)
    assert solved.calls == len(asked)
    assert min(asked) == 0.0 and max(asked) == 2.0 and {type(time) for time in asked} == {float}
    assert (solved.x.dtype, solved.x.device, solved.x.shape) == (x.dtype, x.device, x.shape)
    assert not solved.x.requires_grad
    assert_close(solved.x, x.detach() * math.exp(-2), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_a_state_that_runs_away_is_said_to():
    with pytest.raises((RuntimeError, ValueError), match=r"could not be solved|finite numbers"):
        dc.solve_ode(lambda x, time: x**2, torch.ones(1, dtype=torch.float64), 0.0, 2.0)


# The log density.


@EVERY
def test_row_38_the_exact_trace_and_the_diffused_mixture_give_the_exact_log_density(sde):
    """Within 1e-6 nats; traps B25 (its sign) and B26 (no prior) are off by about 3."""
    prior = dc.mixture_at(sde, DATA, 1.0)
    errors = []
    for tolerance in (1e-5, 1e-8):
        found = dc.log_likelihood(flow_of(sde), X, prior.log_prob, tolerance=tolerance)
        errors.append((found.log_prob - DATA.log_prob(X)).abs().max().item())
        assert torch.equal(found.std_error, torch.zeros(60, dtype=torch.float64))
    assert errors[1] <= 1e-6 and errors[1] < errors[0] / 100, errors
    moved = dc.solve_ode(flow_of(sde).drift, X, 0.0, 1.0, tolerance=1e-9).x
    assert_close(found.x_T, moved, rtol=0, atol=1e-5)
    trace = DATA.log_prob(X) - prior.log_prob(found.x_T)
    assert (2 * trace).abs().mean() > 1 and prior.log_prob(found.x_T).abs().mean() > 1


def test_row_38_trap_B27_the_normal_prior_has_a_floor_that_no_tolerance_lowers():
    """log N(x_T) - log q_T(x_T) at each point's own x_T; its mean over q_T is -KL(q_T || N)."""
    sde, schedule = dc.vp_sde(), dc.vp_schedule(50)
    prior = dc.mixture_at(sde, DATA, 1.0)
    for tolerance in (1e-8, 1e-9):
        found = dc.log_likelihood(flow_of(sde), X, standard_log_prob, tolerance=tolerance)
        floor = standard_log_prob(found.x_T) - prior.log_prob(found.x_T)
        assert_close(found.log_prob - DATA.log_prob(X), floor, rtol=0, atol=1e-6)
        assert floor.abs().max() > 1e-3
    x_T = prior.sample(50_000, generator=seeded())
    kl = 2 * math.log(2) * dc.prior_kl(schedule, DATA)
    assert_mean(standard_log_prob(x_T) - prior.log_prob(x_T), -kl)
    moment = (DATA.weights @ (DATA.means.square().sum(1) / 2 + DATA.vars)).item()
    assert 0 < kl <= 2 * math.log(2) * dc.prior_gap(schedule, moment)


@pytest.mark.parametrize("start", [1e-3, 1e-2, 0.3])
def test_trap_B33_from_a_later_time_it_is_the_density_of_noisy_data(start):
    sde = dc.vp_sde()
    prior, then = (dc.mixture_at(sde, DATA, time) for time in (1.0, start))
    found = dc.log_likelihood(flow_of(sde), X, prior.log_prob, start=start, tolerance=1e-9)
    assert_close(found.log_prob, then.log_prob(X), rtol=0, atol=1e-6)
    assert (found.log_prob - DATA.log_prob(X)).abs().max() > start


def test_row_38_trap_B29_probes_give_the_density_with_an_honest_standard_error():
    sde = dc.vp_sde()
    prior = dc.mixture_at(sde, DATA, 1.0)
    options = {"tolerance": 1e-6, "generator": seeded()}
    found = dc.log_likelihood(flow_of(sde), X, prior.log_prob, probes=12, **options)
    scaled = (found.log_prob - DATA.log_prob(X)) / found.std_error
    assert found.std_error.min() > 0 and 0.03 < found.std_error.mean() < 0.3
    assert_mean(scaled, 0.0)
    assert 0.6 < scaled.std() < 1.6


def test_trap_B28_a_probe_is_held_for_a_whole_solve():
    """A fresh one in each call is a random right side: ten or a hundred times as many calls."""
    sde = dc.vp_sde()
    prior = dc.mixture_at(sde, DATA, 1.0)
    exact = dc.log_likelihood(flow_of(sde), X, prior.log_prob, tolerance=1e-5)
    options = {"tolerance": 1e-5, "generator": seeded()}
    found = dc.log_likelihood(flow_of(sde), X, prior.log_prob, probes=3, **options)
    assert found.calls < 2 * 3 * exact.calls


@pytest.mark.parametrize("probes", [0, 8])
def test_trap_B30_images_have_the_density_of_the_same_numbers_in_a_row(probes):
    means = normal(3, 1, 4, 4)
    data, sde = dc.mixture(means, 0.3), dc.vp_sde()
    prior = dc.mixture_at(sde, data, 1.0)
    x = data.sample(4, generator=seeded())
    rows, images = (
        dc.log_likelihood(
            flow_of(sde, data), shaped, prior.log_prob, probes=probes, generator=seeded()
        )
        for shaped in (x, x.reshape(4, 1, 4, 4))
    )
    assert_close(rows.log_prob, images.log_prob, rtol=1e-9, atol=1e-9)
    assert images.x_T.shape == (4, 1, 4, 4)
    errors = rows.log_prob - data.log_prob(x)
    if probes:
        assert errors.abs().max() < 5 * rows.std_error.max()
    else:
        assert_close(errors, torch.zeros_like(errors), rtol=0, atol=1e-3)
