"""The forward process: every closed form against the one-step chain it was derived from."""

import pytest
import torch
from oracles import affine, assert_mean, condition, joint_covariance, normal, seeded
from torch.testing import assert_close

import diffusion_core as dc

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

SCHEDULE = dc.vp_schedule(12)
T = SCHEDULE.T
X0, EPS = normal(4, 2, 3), normal(4, 2, 3, seed=2)
STEPS = pytest.mark.parametrize("t", range(1, T + 1))


# q


def test_q_step_is_equation_2():
    """beta_t is a variance, and the step keeps a unit variance: slope^2 + var = 1."""
    for t in range(1, T + 1):
        slope, offset, var = affine(lambda x, t=t: dc.q_step(SCHEDULE, x, t))
        assert_close(var, SCHEDULE.betas[t].item(), rtol=1e-15, atol=0)
        assert_close(slope**2 + var, 1.0, rtol=1e-14, atol=0)
        assert slope > 0 and offset == 0


def test_trap_3_q_step_composed_t_times_is_q_marginal():
    slope, var = 1.0, 0.0  # x_0 given
    for t in range(T + 1):
        if t > 0:
            step_slope, _, step_var = affine(lambda x, t=t: dc.q_step(SCHEDULE, x, t))
            slope, var = step_slope * slope, step_slope**2 * var + step_var
        expected = affine(lambda x, t=t: dc.q_marginal(SCHEDULE, x, t))
        assert_close((slope, 0.0, var), expected, rtol=1e-12, atol=0)


def test_traps_2_and_3_q_sample_has_the_moments_of_a_simulated_chain(generator):
    x = x0 = torch.full((40_000, 1), 1.5, dtype=torch.float64)
    for t in range(1, 5):
        x = dc.q_step(SCHEDULE, x, t).sample(generator=generator)
    at_once = dc.q_sample(SCHEDULE, x0, 4, generator=generator)
    for power in (1, 2, 4):
        assert_mean(at_once**power - x**power, 0.0)


@STEPS
def test_q_posterior_is_the_joint_gaussian_conditioned(t):
    """By linear algebra on (x_0, x_{t-1}, x_t), whatever the variance of x_0."""
    cov = joint_covariance(SCHEDULE.betas[1:], data_var=0.7)
    weights, var = condition(cov, [t - 1], [0, t])
    x_t = dc.q_sample(SCHEDULE, X0, t, EPS)
    posterior = dc.q_posterior(SCHEDULE, x_t, X0, t)
    assert_close(posterior.mean, weights[0, 0] * X0 + weights[0, 1] * x_t, rtol=1e-9, atol=1e-9)
    assert_close(posterior.var.flatten()[0], var[0, 0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("t", range(2, T + 1))
def test_q_posterior_is_bayes_rule(t):
    x_prev, x_t = normal(4, 2, 3, seed=3), normal(4, 2, 3, seed=4)
    expected = (
        dc.q_step(SCHEDULE, x_prev, t).log_prob(x_t)
        + dc.q_marginal(SCHEDULE, X0, t - 1).log_prob(x_prev)
        - dc.q_marginal(SCHEDULE, X0, t).log_prob(x_t)
    )
    got = dc.q_posterior(SCHEDULE, x_t, X0, t).log_prob(x_prev)
    assert_close(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_traps_7_and_8_the_posterior_at_t_1_is_a_point_mass_at_x0(dtype):
    for schedule in (SCHEDULE, dc.linear_schedule(1000)):
        x0, x_t = X0.to(dtype), 100 * EPS.to(dtype)
        mean, var = dc.q_posterior(schedule, x_t, x0, 1)
        assert_close(mean, x0, rtol=0, atol=0)
        assert (var == 0).all()


@pytest.mark.parametrize("table", ["posterior_vars", "betas"])
def test_p_step_is_the_posterior_at_the_estimate(table):
    variances = getattr(SCHEDULE, table)
    for t in range(2, T + 1):
        p = dc.p_step(SCHEDULE, EPS, X0, t, variances=variances)
        q = dc.q_posterior(SCHEDULE, EPS, X0, t)
        assert_close(p.mean, q.mean, rtol=0, atol=0)
        assert_close(p.var.flatten()[0], variances[t], rtol=1e-15, atol=0)


def test_p_step_takes_the_posterior_variance_by_default():
    for t in range(1, T + 1):
        p, q = dc.p_step(SCHEDULE, EPS, X0, t), dc.q_posterior(SCHEDULE, EPS, X0, t)
        assert_close((p.mean, p.var), (q.mean, q.var), rtol=0, atol=0)


# eps <-> x0 <-> v <-> score


@STEPS
def test_conversions_invert_q_sample(t):
    x_t = dc.q_sample(SCHEDULE, X0, t, EPS)
    v = dc.v_target(SCHEDULE, X0, EPS, t)
    for got, expected in (
        (dc.x0_from_eps(SCHEDULE, x_t, EPS, t), X0),
        (dc.eps_from_x0(SCHEDULE, x_t, X0, t), EPS),
        (dc.x0_from_v(SCHEDULE, x_t, v, t), X0),
        (dc.eps_from_v(SCHEDULE, x_t, v, t), EPS),
        (dc.eps_from_score(SCHEDULE, dc.score_from_eps(SCHEDULE, EPS, t), t), EPS),
    ):
        assert_close(got, expected, rtol=1e-10, atol=1e-10)


@STEPS
def test_v_is_the_velocity_along_the_circle(t):
    """x = cos(angle) x_0 + sin(angle) eps moves at v = dx/d angle; by autograd."""
    angle = torch.atan2(SCHEDULE.marginal_vars[t].sqrt(), SCHEDULE.alpha_bars[t].sqrt())
    _, velocity = torch.autograd.functional.jvp(
        lambda a: torch.cos(a) * X0 + torch.sin(a) * EPS, angle, torch.ones_like(angle)
    )
    assert_close(dc.v_target(SCHEDULE, X0, EPS, t), velocity, rtol=1e-12, atol=1e-12)


@STEPS
def test_score_is_the_gradient_of_the_log_density(t):
    x_t = dc.q_sample(SCHEDULE, X0, t, EPS).requires_grad_()
    dc.q_marginal(SCHEDULE, X0, t).log_prob(x_t).sum().backward()
    assert_close(dc.score_from_eps(SCHEDULE, EPS, t), x_t.grad, rtol=1e-10, atol=1e-10)


def test_at_t_0_nothing_is_noisy():
    assert_close(dc.q_sample(SCHEDULE, X0, 0, EPS), X0, rtol=0, atol=0)
    assert_close(dc.x0_from_eps(SCHEDULE, X0, EPS, 0), X0, rtol=0, atol=0)
    assert_close(dc.v_target(SCHEDULE, X0, EPS, 0), EPS, rtol=0, atol=0)
    assert_close(dc.x0_from_v(SCHEDULE, X0, EPS, 0), X0, rtol=0, atol=0)
    assert_close(dc.eps_from_v(SCHEDULE, X0, EPS, 0), EPS, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["v", "x0"])
def test_a_wrapped_network_is_an_eps_model(kind):
    t = torch.tensor([1, 4, 7, T])
    x_t = dc.q_sample(SCHEDULE, X0, t, EPS)
    answer = {"v": dc.v_target(SCHEDULE, X0, EPS, t), "x0": X0}[kind]
    wrap = {"v": dc.eps_model_from_v, "x0": dc.eps_model_from_x0}[kind]
    assert_close(wrap(SCHEDULE, lambda x, t: answer)(x_t, t), EPS, rtol=1e-10, atol=1e-10)


# What holds for all of them.

FUNCTIONS = {
    "q_step": lambda s, x, y, t: dc.q_step(s, x, t).mean,
    "q_marginal": lambda s, x, y, t: dc.q_marginal(s, x, t).mean,
    "q_sample": lambda s, x, y, t: dc.q_sample(s, x, t, y),
    "q_posterior": lambda s, x, y, t: dc.q_posterior(s, x, y, t).mean,
    "p_step": lambda s, x, y, t: dc.p_step(s, x, y, t, variances=s.betas).mean,
    "x0_from_eps": dc.x0_from_eps,
    "eps_from_x0": dc.eps_from_x0,
    "v_target": dc.v_target,
    "x0_from_v": dc.x0_from_v,
    "eps_from_v": dc.eps_from_v,
    "score_from_eps": lambda s, x, y, t: dc.score_from_eps(s, x, t),
    "eps_from_score": lambda s, x, y, t: dc.eps_from_score(s, x, t),
}
EVERY = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)


@EVERY
def test_a_batch_of_t_is_each_t_in_turn(function):
    t = torch.tensor([1, 3, 3, T])
    together = function(SCHEDULE, X0, EPS, t)
    one_by_one = [function(SCHEDULE, X0[[i]], EPS[[i]], t[i].item()) for i in range(4)]
    assert_close(together, torch.cat(one_by_one), rtol=1e-14, atol=1e-14)


@EVERY
def test_trap_23_dtype_and_device_are_those_of_the_data(function, device):
    for dtype in (torch.float32, torch.bfloat16):
        x, y = X0.to(device, dtype), EPS.to(device, dtype)
        for t in (2, torch.tensor([1, 2, 3, T], device=device)):
            got = function(SCHEDULE, x, y, t)
            assert (got.dtype, got.device.type, got.shape) == (dtype, device.type, X0.shape)


@EVERY
def test_gradients_flow(function):
    x = X0.clone().requires_grad_()
    function(SCHEDULE, x, EPS, 3).sum().backward()
    assert (x.grad != 0).all()


def test_q_sample_is_reproducible():
    a, b = (dc.q_sample(SCHEDULE, X0, 5, generator=seeded(3)) for _ in range(2))
    assert_close(a, b, rtol=0, atol=0)
    assert not torch.equal(a, dc.q_sample(SCHEDULE, X0, 5, generator=seeded(4)))
