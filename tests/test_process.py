"""The forward process: every closed form against the one-step chain it was derived from."""

import math

import numpy as np
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


@pytest.mark.parametrize("schedule", [SCHEDULE, dc.linear_schedule(1000)], ids=str)
def test_row_04_and_trap_3_q_step_composed_t_times_is_q_marginal(schedule):
    slope, var = 1.0, 0.0  # x_0 given
    for t in range(schedule.T + 1):
        if t > 0:
            step_slope, _, step_var = affine(lambda x, t=t: dc.q_step(schedule, x, t))
            slope, var = step_slope * slope, step_slope**2 * var + step_var
        expected = affine(lambda x, t=t: dc.q_marginal(schedule, x, t))
        assert_close((slope, 0.0, var), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("t", [1, 6, 12])
def test_row_05_a_step_keeps_the_standard_normal_and_no_other(t):
    """The integral of q(x_t | x_{t-1}) p(x_{t-1}) on a grid, p of torch."""
    grid = torch.linspace(-20, 20, 4001, dtype=torch.float64)
    places = torch.linspace(-3, 3, 13, dtype=torch.float64)
    kernel = dc.q_step(SCHEDULE, grid[:, None], t).log_prob(places.expand(len(grid), -1)).exp()
    for std in (1.0, 0.5, 2.0):
        p = torch.distributions.Normal(0.0, std)
        after = torch.trapezoid(kernel * p.log_prob(grid).exp()[:, None], grid, dim=0)
        change = (after - p.log_prob(places).exp()).abs().max()
        assert change < 1e-12 if std == 1 else change > 1e-3


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


# Whole trajectories.


def test_row_03_a_trajectory_has_the_joint_distribution_of_the_chain(generator):
    """Mean and covariance of (x_0, .., x_T) given x_0, whatever the order in which it was drawn."""
    x0 = torch.tensor([1.5, -0.5], dtype=torch.float64)
    states = dc.q_trajectory(SCHEDULE, x0.repeat(10_000)[:, None], generator=generator)
    cov = joint_covariance(SCHEDULE.betas[1:], data_var=0.0)
    from_0 = joint_covariance(SCHEDULE.betas[1:], data_var=1.0)[0]  # slope of x_t on x_0
    noise = states[..., 0].T.reshape(10_000, 2, T + 1) - x0[:, None] * from_0
    assert_mean(noise, 0.0, bias=1e-12)
    for i in range(2):
        assert_mean(noise[:, i, :, None] * noise[:, i, None, :], cov, bias=1e-12)
    assert_mean(noise[:, 0, :, None] * noise[:, 1, None, :], 0.0, bias=1e-12)  # two examples


def test_row_03_the_coordinates_of_a_trajectory_are_independent(generator):
    x0 = torch.zeros(10_000, 2, dtype=torch.float64)
    a, b = dc.q_trajectory(SCHEDULE, x0, generator=generator).unbind(2)
    assert_mean(a.T[:, :, None] * b.T[:, None, :], 0.0)


def test_row_03_the_steps_of_a_trajectory_are_independent_normals(generator):
    """The residual of q_step at each t, in standard deviations: uncorrelated, kurtosis 3."""
    states = dc.q_trajectory(SCHEDULE, normal(10_000, 1, seed=9), generator=generator)
    z = []
    for t in range(1, T + 1):
        mean, var = dc.q_step(SCHEDULE, states[t - 1], t)
        z.append((states[t] - mean)[:, 0] / var.flatten().sqrt())
    z = torch.stack(z, 1)
    assert_mean(z, 0.0)
    assert_mean(z[:, :, None] * z[:, None, :], torch.eye(T))
    assert_mean(z**4, 3.0)


def test_a_trajectory_begins_with_x0_and_has_T_plus_1_rows():
    for x0 in (X0, X0[:1], normal(3)):
        states = dc.q_trajectory(SCHEDULE, x0, generator=seeded())
        assert states.shape == (T + 1, *x0.shape)
        assert_close(states[0], x0, rtol=0, atol=0)


def test_a_trajectory_is_reproducible():
    a, b, c = (dc.q_trajectory(SCHEDULE, X0, generator=seeded(i)) for i in (3, 3, 4))
    assert_close(a, b, rtol=0, atol=0)
    assert not torch.equal(a, c)


def test_trap_23_a_trajectory_keeps_dtype_and_device(device):
    for dtype in (torch.float32, torch.bfloat16):
        x0 = X0.to(device, dtype)
        states = dc.q_trajectory(SCHEDULE, x0, generator=seeded())
        assert (states.dtype, states.device.type) == (dtype, device.type)


@pytest.mark.parametrize("bad", [X0 * torch.nan, X0[:0], X0.long()], ids=["NaN", "empty", "int"])
def test_a_trajectory_of_no_batch_of_finite_numbers(bad):
    with pytest.raises((TypeError, ValueError), match="x"):
        dc.q_trajectory(SCHEDULE, bad, generator=seeded())


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
def test_row_22_x_t_and_v_are_x0_and_eps_turned_by_one_angle(t):
    """A rotation, by the matrix exponential: its transpose turns back and lengths stay."""
    keep = math.prod(1 - beta for beta in SCHEDULE.betas[1 : t + 1].tolist())
    generator = math.acos(math.sqrt(keep)) * torch.tensor([[0.0, 1.0], [-1.0, 0.0]]).double()
    turn = torch.linalg.matrix_exp(generator)
    turned = torch.tensordot(turn, torch.stack([X0, EPS]), 1)
    x_t, v = dc.q_sample(SCHEDULE, X0, t, EPS), dc.v_target(SCHEDULE, X0, EPS, t)
    assert_close(torch.stack([x_t, v]), turned, rtol=1e-12, atol=1e-12)
    back = torch.stack([dc.x0_from_v(SCHEDULE, x_t, v, t), dc.eps_from_v(SCHEDULE, x_t, v, t)])
    assert_close(back, torch.tensordot(turn.T, turned, 1), rtol=1e-12, atol=1e-12)


@STEPS
def test_row_22_an_error_of_v_is_the_error_of_eps_magnified(t):
    """|v - v_hat|^2 = |eps - eps_hat|^2 / alpha_bar_t, for any guess of either."""
    keep = math.prod(1 - beta for beta in SCHEDULE.betas[1 : t + 1].tolist())
    x_t, eps_hat, v_hat = dc.q_sample(SCHEDULE, X0, t, EPS), normal(4, 2, 3, seed=3), EPS.sin()
    v = dc.v_target(SCHEDULE, X0, EPS, t)
    v_by_eps = dc.v_target(SCHEDULE, dc.x0_from_eps(SCHEDULE, x_t, eps_hat, t), eps_hat, t)
    assert_close((v - v_by_eps) ** 2, (EPS - eps_hat) ** 2 / keep, rtol=1e-10, atol=1e-12)
    eps_by_v = dc.eps_from_v(SCHEDULE, x_t, v_hat, t)
    assert_close((v - v_hat) ** 2, (EPS - eps_by_v) ** 2 / keep, rtol=1e-10, atol=1e-12)


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


def test_a_network_that_answers_x0_is_a_v_model():
    """x_0 of its answer is the guess again, here a wrong one."""
    t = torch.tensor([1, 4, 7, T])
    x_t = dc.q_sample(SCHEDULE, X0, t, EPS)
    v = dc.v_model_from_x0(SCHEDULE, lambda x, t: x / 3)(x_t, t)
    assert_close(dc.x0_from_v(SCHEDULE, x_t, v, t), x_t / 3, rtol=1e-10, atol=1e-10)


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
@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.int8, torch.uint8], ids=str)
def test_t_may_be_of_any_integers(function, dtype):
    t = torch.tensor([1, 3, 3, T])
    assert_close(function(SCHEDULE, X0, EPS, t.to(dtype)), function(SCHEDULE, X0, EPS, t))


@EVERY
def test_a_number_of_numpy_is_no_t(function):
    with pytest.raises(TypeError, match=r"t must be one integer .* got numpy\.int64"):
        function(SCHEDULE, X0, EPS, np.int64(3))


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
