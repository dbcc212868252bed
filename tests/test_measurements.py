"""The gradient of a measurement, against the exact posterior, with the covariance and without."""

import functools
import math

import pytest
import torch
from oracles import normal, seeded
from torch.testing import assert_close

import diffusion_core as dc

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

SCHEDULE = dc.vp_schedule(20)
SPOTS = torch.tensor([-1.6, -0.8, 0.0, 0.8, 1.6], dtype=torch.float64)
BENT = dc.mixture(  # five overlapping bells along a bent line
    torch.stack([SPOTS, SPOTS - 0.2 * SPOTS**2 + 0.3], 1), 0.2, torch.exp(-(SPOTS**2) / 1.6)
)
NOISE_VAR, SEEN = 0.01, 1.6


def first(x0):
    return x0[:, :1]


def correlated(rho: float) -> dc.Mixture:
    """N(0, [[1, rho], [rho, 1]]) to rounding: bells of variance 1 - rho, close, along a line."""
    spots = torch.linspace(-7, 7, 57, dtype=torch.float64)
    return dc.mixture(spots[:, None].expand(-1, 2) * rho**0.5, 1 - rho, torch.exp(-(spots**2) / 2))


def posterior_eps(schedule, post: dc.FullMixture, x: torch.Tensor, t: int) -> torch.Tensor:
    """The eps_model of x_0 ~ post: by autograd of the density of x_t."""
    scale, noise = schedule.alpha_bars[t].item(), schedule.marginal_vars[t].item()
    eye = torch.eye(post.means.shape[1]).double()
    diffused = post._replace(means=scale**0.5 * post.means, covs=scale * post.covs + noise * eye)
    x = x.clone().requires_grad_()
    (score,) = torch.autograd.grad(diffused.log_prob(x).sum(), x)
    return -(noise**0.5) * score


@pytest.mark.parametrize("t", [1, 8, 20])
def test_the_covariance_is_the_slope_of_the_denoiser(t):
    """Cov(x_0 | x_t), exactly, and (1 - alpha_bar_t) / sqrt(alpha_bar_t) dx0_hat / dx_t."""
    x_t, scale = normal(1, 2), SCHEDULE.alpha_bars[t].sqrt().item()
    noise = SCHEDULE.marginal_vars[t].item()
    _, cov = dc.condition(BENT, lambda x0: scale * x0, x_t[0], noise).moments()
    eps_model = dc.mixture_eps_model(SCHEDULE, BENT)

    def x0_hat(x):
        return dc.x0_from_eps(SCHEDULE, x[None], eps_model(x[None], t), t)[0]

    slope = torch.autograd.functional.jacobian(x0_hat, x_t[0])
    assert_close(noise / scale * slope, cov, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("noise_var", [1e-3, 0.1])
@pytest.mark.parametrize("t", [1, 8, 20])
def test_row_50_with_the_covariance_it_is_exact_for_gaussian_data(t, noise_var):
    """The eps_model of p(x_0 | y) itself, for correlated data, one number measured."""
    data, x = correlated(0.9), normal(6, 2)
    y = torch.full((6, 1), 1.3, dtype=torch.float64)
    eps_model = dc.mixture_eps_model(SCHEDULE, data)
    guided = dc.measurement_guided(SCHEDULE, eps_model, first, y, noise_var)
    expected = posterior_eps(SCHEDULE, dc.condition(data, first, y[0], noise_var), x, t)
    assert_close(guided(x, t), expected, rtol=1e-7, atol=1e-7)


def test_row_50_conjugate_gradients_solve_for_as_many_numbers_as_are_measured():
    """Three numbers of four, of a mixture, at several t: by the whole matrix S."""
    data = dc.mixture(normal(5, 4), 0.3)
    a, x, t = normal(3, 4, seed=5), normal(6, 4, seed=2), torch.tensor([1, 20, 4, 4, 9, 13])
    y, eps_model = normal(6, 3, seed=3), dc.mixture_eps_model(SCHEDULE, data)
    found = dc.measurement_guided(SCHEDULE, eps_model, lambda x0: x0 @ a.T, y, 0.05)(x, t)
    for i in range(6):
        scale, noise = SCHEDULE.alpha_bars[t[i]].sqrt(), SCHEDULE.marginal_vars[t[i]]

        def x0_hat(x, t=int(t[i])):
            return dc.x0_from_eps(SCHEDULE, x[None], eps_model(x[None], t), t)[0]

        j = torch.autograd.functional.jacobian(x0_hat, x[i])
        s = a @ (noise / scale * j) @ a.T + 0.05 * torch.eye(3).double()
        pull = j.T @ a.T @ torch.linalg.solve(s, y[i] - a @ x0_hat(x[i]))
        expected = eps_model(x[[i]], int(t[i]))[0] - noise.sqrt() * pull
        assert_close(found[i], expected, rtol=1e-8, atol=1e-8)


@functools.cache
def drawn(covariance: bool) -> torch.Tensor:
    """1 000 samples in 200 ancestral steps, given the first number with noise."""
    n, schedule, rng = 1000, dc.vp_schedule(200), seeded(1)
    y = torch.full((n, 1), SEEN, dtype=torch.float64)
    eps_model = dc.mixture_eps_model(schedule, BENT)
    options = {"covariance": covariance}
    guided = dc.measurement_guided(schedule, eps_model, first, y, NOISE_VAR, **options)
    x_T = torch.randn(n, 2, generator=rng, dtype=torch.float64)
    options = {"variances": schedule.betas, "generator": rng}
    *_, last = dc.sample_chain(dc.ddpm_step, schedule, guided, x_T, **options)
    return last.x_t


def test_with_the_covariance_mean_and_spread_are_those_of_the_posterior():
    """Measured: mean 1.58, 1.23 for 1.58, 1.21; std 0.102, 0.51 for 0.099, 0.50."""
    mean, cov = dc.condition(BENT, first, torch.tensor([SEEN]).double(), NOISE_VAR).moments()
    assert ((drawn(True).mean(0) - mean).abs() < 0.05).all()
    assert ((drawn(True).std(0) / cov.diagonal().sqrt() - 1).abs() < 0.1).all()


def test_without_the_covariance_both_miss():
    """Measured: the unknown number 1.44 for 1.21, the spread of the known one 0.069 for 0.099."""
    mean, cov = dc.condition(BENT, first, torch.tensor([SEEN]).double(), NOISE_VAR).moments()
    assert drawn(False).mean(0)[1] > mean[1] + 0.15
    assert drawn(False).std(0)[0] < 0.8 * cov[0, 0].sqrt()


def test_images_are_measured_by_any_linear_function():
    """Means over patches of 2 x 2, in float32, by a network: shapes, and a smaller misfit."""
    x, t = normal(3, 1, 4, 4, dtype=torch.float32), torch.tensor([2, 9, 20])
    images = dc.mixture(normal(6, 1, 4, 4, dtype=torch.float32, seed=2), 0.1)

    def blur(x0):
        return torch.nn.functional.avg_pool2d(x0, 2)

    y, eps_model = blur(x.tanh()), dc.mixture_eps_model(SCHEDULE, images)
    guided = dc.measurement_guided(SCHEDULE, eps_model, blur, y, 0.01)(x, t)
    assert guided.shape == x.shape and guided.dtype == x.dtype and not guided.requires_grad
    misfits = [
        (blur(dc.x0_from_eps(SCHEDULE, x, e, t)) - y).square().sum((1, 2, 3))
        for e in (guided, eps_model(x, t))
    ]
    assert (misfits[0] < misfits[1]).all()


def test_the_plain_gradient_is_that_of_the_misfit():
    """Without the covariance: grad of |y - A x0_hat|^2 / (2 noise_var), by autograd in one go."""
    x, y = normal(5, 2).requires_grad_(), normal(5, 1, seed=2)
    eps_model = dc.mixture_eps_model(SCHEDULE, BENT)
    misfit = (y - first(dc.x0_from_eps(SCHEDULE, x, eps_model(x, 9), 9))).square().sum() / 0.2
    (slope,) = torch.autograd.grad(misfit, x)
    guided = dc.measurement_guided(SCHEDULE, eps_model, first, y, 0.1, covariance=False)
    std = math.sqrt(SCHEDULE.marginal_vars[9])
    assert_close(guided(x, 9), (eps_model(x, 9) + std * slope).detach(), rtol=1e-10, atol=1e-11)


def test_an_eps_model_cut_off_from_x_t_is_refused():
    """Else its part of the slope would be missing, and nobody told."""
    y = normal(4, 1)
    cut = lambda x_t, t: 0.5 * x_t.detach()  # noqa: E731
    with pytest.raises(ValueError, match=r"eps_model\(x_t, t\) must depend on x_t"):
        dc.measurement_guided(SCHEDULE, cut, first, y, 0.1)(normal(4, 2), 3)
    constant = lambda x0: torch.zeros(4, 1).double()  # noqa: E731
    with pytest.raises(ValueError, match=r"measure\(x0\) must depend on x_t"):
        dc.measurement_guided(SCHEDULE, lambda x, t: 0.5 * x, constant, y, 0.1)(normal(4, 2), 3)
