"""A mixture given a linear measurement: by the joint Gaussian, by Bayes' rule on a grid, at x_t."""

import math

import pytest
import torch
from oracles import assert_mean, condition, normal, seeded
from torch.testing import assert_close

import diffusion_core as dc

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

DATA = dc.mixture(
    torch.tensor([[-1.0, 0.5], [1.0, 0.0], [0.3, -1.2]], dtype=torch.float64),
    torch.tensor([0.1, 0.4, 0.2]),
    torch.tensor([0.5, 0.3, 0.2]),
)
A = torch.tensor([[0.8, -0.5]], dtype=torch.float64)
Y = torch.tensor([0.7], dtype=torch.float64)
LINE = torch.linspace(-7, 7, 401, dtype=torch.float64)
PLANE = torch.cartesian_prod(LINE, LINE)


def measure(x0):
    return x0 @ A.T


def integral(values: torch.Tensor) -> torch.Tensor:
    return values.sum() * (LINE[1] - LINE[0]) ** 2


def test_row_49_one_component_is_the_joint_gaussian_conditioned():
    """x_0 in 3-D, y in 2-D: their joint covariance, and the oracle's linear algebra."""
    a, var, noise = normal(2, 3), 0.7, 0.3
    mean, y = normal(3, seed=2), normal(2, seed=3)
    cov = torch.block_diag(var * torch.eye(3).double(), noise * torch.eye(2).double())
    root = torch.eye(5).double()
    root[3:, :3] = a
    weights, left = condition(root @ cov @ root.T, [0, 1, 2], [3, 4])
    post = dc.condition(dc.mixture(mean[None], var), lambda x0: x0 @ a.T, y, noise)
    assert_close(post.means[0], mean + weights @ (y - a @ mean), rtol=1e-11, atol=1e-12)
    assert_close(post.covs[0], left, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("noise_var", [0.02, 0.5])
def test_row_49_a_mixture_is_bayes_rule_on_a_grid(noise_var):
    post = dc.condition(DATA, measure, Y, noise_var)
    seen = torch.distributions.Normal(measure(PLANE)[:, 0], noise_var**0.5).log_prob(Y)
    joint = (DATA.log_prob(PLANE) + seen).exp()
    expected = joint / integral(joint)
    assert_close(post.log_prob(PLANE).exp(), expected, rtol=1e-8, atol=1e-9)
    mean, cov = post.moments()
    found = torch.stack([integral(expected * PLANE[:, i]) for i in range(2)])
    assert_close(mean, found, rtol=1e-8, atol=1e-9)
    apart = PLANE - mean
    second = [[integral(expected * apart[:, i] * apart[:, j]) for j in range(2)] for i in range(2)]
    assert_close(cov, torch.tensor(second), rtol=1e-8, atol=1e-9)


def test_row_49_a_measurement_without_noise_leaves_nothing_open_there():
    """The first number known: the second by quadrature along that line."""
    y = torch.tensor([0.4], dtype=torch.float64)
    post = dc.condition(DATA, lambda x0: x0[:, :1], y)
    along = DATA.log_prob(torch.stack([y.expand(401), LINE], 1)).exp()
    along /= torch.trapezoid(along, LINE)
    mean, cov = post.moments()
    assert_close(mean[0], y[0], rtol=1e-12, atol=0)
    assert_close(mean[1], torch.trapezoid(along * LINE, LINE), rtol=1e-9, atol=1e-9)
    var = torch.trapezoid(along * (LINE - mean[1]) ** 2, LINE)
    assert_close(cov, torch.tensor([[0, 0], [0, var]]).double(), rtol=1e-9, atol=1e-12)
    x = post.sample(4000, generator=seeded())
    assert_close(x[:, 0], y.expand(4000), rtol=0, atol=1e-7)
    assert_mean(x[:, 1], mean[1])
    assert_mean((x[:, 1] - mean[1]).square(), var)


@pytest.mark.parametrize("t", [1, 8, 20])
def test_row_49_x_t_is_a_measurement_too(t):
    """Given sqrt(alpha_bar_t) x_0 + noise = x_t, the mean is what the optimal eps_model says."""
    schedule, x_t = dc.vp_schedule(20), normal(1, 2)
    scale = schedule.alpha_bars[t].sqrt()
    post = dc.condition(DATA, lambda x0: scale * x0, x_t[0], schedule.marginal_vars[t].item())
    eps = dc.mixture_eps_model(schedule, DATA)(x_t, t)
    expected = dc.x0_from_eps(schedule, x_t, eps, t)[0]
    assert_close(post.moments()[0], expected, rtol=1e-10, atol=1e-11)


def test_samples_and_density_of_a_full_mixture_agree():
    post = dc.condition(DATA, measure, Y, 0.1)
    mean, cov = post.moments()
    x = post.sample(20_000, generator=seeded(2))
    assert_mean(x, mean)
    assert_mean(((x - mean)[:, :, None] * (x - mean)[:, None]).flatten(1), cov.flatten())
    parts = [
        torch.distributions.MultivariateNormal(m, c).log_prob(x[:50]) + math.log(w)
        for m, c, w in zip(*post, strict=True)
    ]
    assert_close(post.log_prob(x[:50]), torch.stack(parts).logsumexp(0), rtol=1e-10, atol=1e-10)


def test_what_is_not_linear_is_refused():
    for bad in (
        lambda x0: measure(x0) + 1,
        lambda x0: measure(x0) ** 2,
        lambda x0: measure(x0)[:1],
    ):
        with pytest.raises(ValueError, match=r"measure\(x0\) must"):
            dc.condition(DATA, bad, Y, 0.1)


def test_a_measurement_that_needs_noise_is_refused_without():
    twice = lambda x0: measure(x0).repeat(1, 2)  # noqa: E731
    points = dc.mixture(DATA.means)
    for data, of, y in ((DATA, twice, Y.repeat(2)), (points, measure, Y)):
        with pytest.raises(ValueError, match="noise_var must be positive where"):
            dc.condition(data, of, y)
        assert dc.condition(data, of, y, 0.1).means.isfinite().all()


def test_a_singular_covariance_has_no_density():
    with pytest.raises(ValueError, match="covs must be positive definite for a density"):
        dc.condition(dc.mixture(DATA.means), measure, Y, 0.1).log_prob(normal(3, 2))
