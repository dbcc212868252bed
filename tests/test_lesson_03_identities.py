"""Lesson 03, rows 7 to 11: the step back, against Bayes' rule on a grid, algebra and conditioning.

The densities here are torch's Normal with numbers taken from the betas alone.
"""

import math

import pytest
import sympy
import torch
from oracles import condition, joint_covariance, normal
from torch import Tensor
from torch.distributions import Normal
from torch.testing import assert_close

import diffusion_core as dc

SCHEDULE = dc.vp_schedule(12)
T = SCHEDULE.T
GRID = torch.linspace(-9, 9, 9001, dtype=torch.float64)
POINTS = torch.tensor([-1.2, -0.2, 0.4, 1.0], dtype=torch.float64)
OTHER = torch.tensor([-1.0, 1.0], dtype=torch.float64)
SEEN = torch.tensor([-1.3, 0.1, 2.0], dtype=torch.float64)
ALL = pytest.mark.parametrize("t", range(1, T + 1))
FROM_2 = pytest.mark.parametrize("t", range(2, T + 1))


def kept(betas: Tensor, t: int) -> float:
    """Return alpha_bar_t from the betas, row 0 of which is clean data."""
    return math.prod(1 - beta for beta in betas[1 : t + 1].tolist())


def q_t(betas: Tensor, x0: Tensor, t: int) -> Normal:
    keep = kept(betas, t)
    return Normal(math.sqrt(keep) * x0, math.sqrt(1 - keep))


def likelihood(betas: Tensor, x_t: Tensor, x_prev: Tensor, t: int) -> Tensor:
    beta = betas[t].item()
    return Normal(math.sqrt(1 - beta) * x_prev, math.sqrt(beta)).log_prob(x_t).exp()


def bayes(betas: Tensor, points: Tensor, x_t: Tensor, t: int, places: Tensor) -> Tensor:
    """Return q(x_{t-1} | x_t) at places that cover it, for equally likely points; t from 2 on."""
    prior = q_t(betas, points, t - 1).log_prob(places[:, None]).exp().mean(1)
    product = likelihood(betas, x_t, places, t) * prior
    return product / torch.trapezoid(product, places)


def moments(reverse: dc.Mixture) -> tuple[Tensor, Tensor]:
    mean = reverse.weights @ reverse.means
    return mean, reverse.weights @ (reverse.vars[:, None] + (reverse.means - mean) ** 2)


# Row 7: with x_0 given, three known densities are enough.


@FROM_2
@pytest.mark.parametrize(("x_t", "x0"), [(0.1, 1.0), (-1.0, 1.0), (1.5, -1.2)])
def test_row_07_q_posterior_is_the_ratio_of_three_known_densities(t, x_t, x0):
    """Not rescaled: the ratio has area 1 by itself."""
    betas, x_t, x0 = SCHEDULE.betas, torch.full_like(GRID, x_t), torch.full_like(GRID, x0)
    got = dc.q_posterior(SCHEDULE, x_t, x0, t).log_prob(GRID).exp()
    prior = q_t(betas, x0, t - 1).log_prob(GRID).exp()
    ratio = likelihood(betas, x_t, GRID, t) * prior / q_t(betas, x0, t).log_prob(x_t).exp()
    assert_close(got, ratio, rtol=1e-9, atol=1e-12)
    assert_close(torch.trapezoid(got, GRID).item(), 1.0, rtol=1e-10, atol=0)


def test_row_07_at_t_1_the_posterior_is_a_point_mass():
    mean, var = dc.q_posterior(SCHEDULE, SEEN, torch.full_like(SEEN, 0.4), 1)
    assert_close(mean, torch.full_like(SEEN, 0.4), rtol=0, atol=0)
    assert (var == 0).all()


# Row 8: its mean and its variance.


def by_algebra(alpha: float, bar_before: float) -> tuple[float, float, float]:
    """Return the factors of x_0 and x_t and the variance, read off the exponent of row 7."""
    x, x_t, x0 = sympy.symbols("x x_t x_0")
    a, b = sympy.Float(alpha, 40), sympy.Float(bar_before, 40)
    exponent = (x_t - sympy.sqrt(a) * x) ** 2 / (1 - a) + (x - sympy.sqrt(b) * x0) ** 2 / (1 - b)
    peak = sympy.solve(sympy.diff(exponent, x), x)[0]
    variance = 2 / sympy.diff(exponent, x, 2)
    return float(sympy.diff(peak, x0)), float(sympy.diff(peak, x_t)), float(variance)


@FROM_2
def test_row_08_by_computer_algebra(t):
    zero, one = torch.zeros(1).double(), torch.ones(1).double()
    of_x0, var = dc.q_posterior(SCHEDULE, zero, one, t)
    of_x_t = dc.q_posterior(SCHEDULE, one, zero, t).mean
    expected = by_algebra(1 - SCHEDULE.betas[t].item(), kept(SCHEDULE.betas, t - 1))
    assert_close((of_x0.item(), of_x_t.item(), var.item()), expected, rtol=1e-10, atol=0)


@ALL
def test_row_08_by_conditioning_the_joint_gaussian(t):
    cov = joint_covariance(SCHEDULE.betas[1:], data_var=1.3)
    weights, var = condition(cov, [t - 1], [0, t])
    x0, x_t = normal(5, 2), normal(5, 2, seed=2)
    posterior = dc.q_posterior(SCHEDULE, x_t, x0, t)
    mean = weights[0, 0] * x0 + weights[0, 1] * x_t
    assert_close(posterior.mean, mean, rtol=1e-10, atol=1e-10)
    assert_close(posterior.var.flatten()[0], var[0, 0], rtol=1e-10, atol=1e-12)
    assert_close(SCHEDULE.posterior_vars[t], var[0, 0], rtol=1e-10, atol=1e-12)


@FROM_2
def test_row_08_by_the_moments_of_bayes_rule_on_a_grid(t):
    """With one data point, q(x_{t-1} | x_t) is q(x_{t-1} | x_t, x_0)."""
    point = POINTS[2:3]
    for x_t in SEEN:
        density = bayes(SCHEDULE.betas, point, x_t, t, GRID)
        mean = torch.trapezoid(GRID * density, GRID)
        var = torch.trapezoid((GRID - mean) ** 2 * density, GRID)
        posterior = dc.q_posterior(SCHEDULE, x_t[None], point, t)
        assert_close(posterior.mean[0], mean, rtol=1e-9, atol=1e-10)
        assert_close(posterior.var[0], var, rtol=1e-9, atol=1e-10)


# Row 9: the step back is the posterior, averaged over the whole data set.


@FROM_2
def test_row_09_mixture_reverse_is_bayes_rule_on_a_grid(t):
    for points in (POINTS, OTHER):
        for x_t in SEEN:
            reverse = dc.mixture_reverse(SCHEDULE, dc.mixture(points[:, None]), x_t[None], t)
            got = reverse.log_prob(GRID[:, None]).exp()
            expected = bayes(SCHEDULE.betas, points, x_t, t, GRID)
            assert_close(got, expected, rtol=1e-9, atol=1e-12)


@FROM_2
def test_row_09_posteriors_weighted_by_the_data_are_bayes_rule_on_a_grid(t):
    for x_t in SEEN:
        seen = x_t.expand_as(POINTS)
        weights = dc.q_marginal(SCHEDULE, POINTS, t).log_prob(seen).softmax(0)
        mean, var = dc.q_posterior(SCHEDULE, seen, POINTS, t)
        got = (weights * Normal(mean, var.sqrt()).log_prob(GRID[:, None]).exp()).sum(1)
        assert_close(got, bayes(SCHEDULE.betas, POINTS, x_t, t, GRID), rtol=1e-9, atol=1e-12)


@ALL
def test_row_09_mixture_reverse_of_wide_components_in_2d_is_bayes_rule(t):
    """Components of variance > 0 have a density at t - 1 = 0, too."""
    data = dc.mixture(normal(3, 2), torch.tensor([0.3, 0.1, 0.6]), torch.tensor([1.0, 2.0, 4.0]))
    x_prev, x_t = normal(20, 2, seed=2), normal(1, 2, seed=3)
    reverse = dc.mixture_reverse(SCHEDULE, data, x_t[0], t)
    step = Normal((1 - SCHEDULE.betas[t]).sqrt() * x_prev, SCHEDULE.betas[t].sqrt())
    expected = (
        step.log_prob(x_t).sum(1)
        + dc.diffuse(SCHEDULE, data, t - 1).log_prob(x_prev)
        - dc.diffuse(SCHEDULE, data, t).log_prob(x_t)
    )
    assert_close(reverse.log_prob(x_prev), expected, rtol=1e-9, atol=1e-9)


def test_another_data_set_gives_another_step_back():
    curves = []
    for points in (POINTS, OTHER):
        reverse = dc.mixture_reverse(SCHEDULE, dc.mixture(points[:, None]), SEEN[1:2], 2)
        curves.append(reverse.log_prob(GRID[:, None]).exp())
    assert torch.trapezoid((curves[0] - curves[1]).abs(), GRID) / 2 > 0.3


# Row 10: small steps back are nearly Gaussian.


def last_step(t: int, beta: float) -> dc.NoiseSchedule:
    """t - 1 steps as they are, one with this beta, and one that reaches pure noise."""
    return dc.NoiseSchedule(torch.cat([SCHEDULE.betas[1:t], torch.tensor([beta, 0.9999])]))


def average_kl(t: int, beta: float) -> float:
    """KL of Bayes' q(x_{t-1} | x_t) to the Gaussian with mixture_reverse's moments, over x_t."""
    schedule, total, step = last_step(t, beta), 0.0, 0.1
    for x_t in torch.arange(-3, 3, step, dtype=torch.float64):
        mean, var = moments(dc.mixture_reverse(schedule, dc.mixture(POINTS[:, None]), x_t[None], t))
        places = mean + var.sqrt() * torch.linspace(-12, 12, 1201, dtype=torch.float64)
        log_q = bayes(schedule.betas, POINTS, x_t, t, places).clamp(min=1e-300).log()
        log_gauss = Normal(mean, var.sqrt()).log_prob(places)
        kl = torch.trapezoid(log_q.exp() * (log_q - log_gauss), places)
        total += step * (q_t(schedule.betas, POINTS, t).log_prob(x_t).exp().mean() * kl).item()
    return total


@pytest.mark.parametrize("t", range(2, 8))
def test_row_10_the_divergence_from_a_gaussian_falls_like_beta_cubed(t):
    """A tenth of beta: a thousandth of the KL, in the end; no more than a hundredth here."""
    coarse, fine, finest = (average_kl(t, beta) for beta in (0.1, 0.01, 0.001))
    assert coarse > 3 * fine > 0
    assert finest < max(fine / 100, 1e-13)


@pytest.mark.parametrize("beta", [0.5, 0.1, 0.001])
def test_row_10_never_for_a_finite_data_set_at_t_1(beta):
    """q(x_0 | x_1) is the points, with Bayes' weights, however small beta_1 is."""
    schedule = last_step(1, beta)
    for x_1 in SEEN:
        reverse = dc.mixture_reverse(schedule, dc.mixture(POINTS[:, None]), x_1[None], 1)
        assert_close(reverse.means[:, 0], POINTS, rtol=1e-12, atol=0)
        assert (reverse.vars == 0).all()
        weights = q_t(schedule.betas, POINTS, 1).log_prob(x_1).softmax(0)
        assert_close(reverse.weights, weights, rtol=1e-9, atol=1e-12)


# Row 11: the mean by eps.


@ALL
def test_row_11_the_mean_by_eps(t):
    x0, eps = normal(5, 2), normal(5, 2, seed=2)
    x_t = dc.q_sample(SCHEDULE, x0, t, eps)
    beta, keep = SCHEDULE.betas[t].item(), kept(SCHEDULE.betas, t)
    by_eps = (x_t - beta / math.sqrt(1 - keep) * eps) / math.sqrt(1 - beta)
    assert_close(dc.q_posterior(SCHEDULE, x_t, x0, t).mean, by_eps, rtol=1e-10, atol=1e-10)
    x0_hat = dc.x0_from_eps(SCHEDULE, x_t, eps, t)
    assert_close(dc.p_step(SCHEDULE, x_t, x0_hat, t).mean, by_eps, rtol=1e-10, atol=1e-10)


@ALL
def test_row_11_the_mean_of_eps_gives_the_mean_of_the_true_step_back(t):
    """On Gaussian data, by conditioning the joint Gaussian; E[eps | x_t] by that, too."""
    cov = joint_covariance(SCHEDULE.betas[1:], data_var=1.3)
    weight, _ = condition(cov, [t - 1], [t])
    of_x0, _ = condition(cov, [0], [t])
    x_t, keep = normal(5, 2), kept(SCHEDULE.betas, t)
    eps_hat = (x_t - math.sqrt(keep) * of_x0[0, 0] * x_t) / math.sqrt(1 - keep)
    x0_hat = dc.x0_from_eps(SCHEDULE, x_t, eps_hat, t)
    step = dc.p_step(SCHEDULE, x_t, x0_hat, t)
    assert_close(step.mean, weight[0, 0] * x_t, rtol=1e-10, atol=1e-10)


@ALL
def test_row_11_the_mean_of_eps_gives_the_mean_of_mixture_reverse(t):
    data = dc.mixture(POINTS[:, None])
    x_t = SEEN[:, None]
    eps_hat = dc.mixture_eps_model(SCHEDULE, data)(x_t, t)
    step = dc.p_step(SCHEDULE, x_t, dc.x0_from_eps(SCHEDULE, x_t, eps_hat, t), t)
    true = torch.stack([moments(dc.mixture_reverse(SCHEDULE, data, x, t))[0] for x in x_t])
    assert_close(step.mean, true, rtol=1e-9, atol=1e-9)
