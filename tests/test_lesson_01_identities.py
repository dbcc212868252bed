"""Ledger rows 1 and 2: gradients pass through a draw, and Gaussian noises merge into one."""

import pytest
import torch
from oracles import affine, assert_mean, joint_covariance, seeded
from torch.testing import assert_close

import diffusion_core as dc

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

DRAWS = 40_000
# f, and its mean over N(mean, var) differentiated by hand: by the mean, and by the variance.
SQUARE = (
    lambda x: x**2,
    lambda mean, var: (2 * mean, torch.ones(())),
)
WAVE = (
    lambda x: torch.sin(20 * x),
    lambda mean, var: (
        20 * torch.cos(20 * mean) * torch.exp(-200 * var),
        -200 * torch.sin(20 * mean) * torch.exp(-200 * var),
    ),
)
BOTH = pytest.mark.parametrize("f, true_gradients", [SQUARE, WAVE], ids=["square", "wave"])


def parameters(mean: float, var: float) -> list[torch.Tensor]:
    """A copy of both for each draw, so that the gradient of each draw can be seen."""
    return [torch.full((DRAWS,), x, dtype=torch.float64, requires_grad=True) for x in (mean, var)]


def pathwise_and_score(f, mean: float, var: float):
    """Both estimates by mean and var for each draw: through `sample`, and f times grad log p.

    The second knows nothing of `sample`: torch draws, and autograd takes the slope of its log p.
    """
    leaves = parameters(mean, var)
    x = dc.Gaussian(*leaves).sample(generator=seeded(1))
    pathwise = torch.autograd.grad(f(x).sum(), leaves)
    fixed = torch.normal(mean, var**0.5, (DRAWS,), generator=seeded(2), dtype=torch.float64)
    log_p = torch.distributions.Normal(leaves[0], leaves[1].sqrt()).log_prob(fixed)
    score = [f(fixed) * slope for slope in torch.autograd.grad(log_p.sum(), leaves)]
    return pathwise, score


@BOTH
@pytest.mark.parametrize("mean, var", [(0.3, 0.0025), (-0.7, 0.01)])
def test_row_01_gradients_through_a_sample_are_those_of_the_mean_in_closed_form(
    f, true_gradients, mean, var
):
    pathwise, score = pathwise_and_score(f, mean, var)
    expected = true_gradients(*torch.tensor([mean, var], dtype=torch.float64))
    for by_path, by_score, truth in zip(pathwise, score, expected, strict=True):
        assert_mean(by_path, truth)
        assert_mean(by_score, truth)
        assert_mean(by_path - by_score, 0.0)


def test_row_01_each_draw_moves_as_a_finite_difference_says():
    """With the same die, a draw is a smooth function of mean and var."""
    mean = torch.tensor([0.0, -1.5, 3.0], dtype=torch.float64)
    var = torch.tensor([1.0, 0.09, 4.0], dtype=torch.float64)

    def draw(mean, var):
        return dc.Gaussian(mean, var).sample(generator=seeded())

    leaves = mean.clone().requires_grad_(), var.clone().requires_grad_()
    slopes = torch.autograd.grad(draw(*leaves).sum(), leaves)
    h = 1e-5
    assert_close(slopes[0], (draw(mean + h, var) - draw(mean - h, var)) / (2 * h))
    assert_close(slopes[1], (draw(mean, var + h) - draw(mean, var - h)) / (2 * h))
    assert (slopes[1] != 0).all()


def test_row_01_pathwise_is_less_noisy_for_x_squared_and_noisier_for_sin_20x():
    """By the mean, at mean 0.3 and var 1; each variance against an integral on a grid."""
    u = torch.linspace(-9, 9, 9001, dtype=torch.float64)
    weights = torch.softmax(-(u**2) / 2, dim=0)
    x = 0.3 + u

    def exact(gradient):
        return weights @ gradient**2 - (weights @ gradient) ** 2

    (by_path, _), (by_score, _) = pathwise_and_score(SQUARE[0], 0.3, 1.0)
    assert_close(by_path.var(), exact(2 * x), rtol=0.1, atol=0)
    assert_close(by_score.var(), exact(x**2 * u), rtol=0.1, atol=0)
    assert by_path.var() < by_score.var()
    (by_path, _), (by_score, _) = pathwise_and_score(WAVE[0], 0.3, 1.0)
    assert_close(by_path.var(), exact(20 * torch.cos(20 * x)), rtol=0.1, atol=0)
    assert_close(by_score.var(), exact(torch.sin(20 * x) * u), rtol=0.1, atol=0)
    assert by_path.var() > by_score.var()


def assert_characteristic_function(x: torch.Tensor, mean: float, var: float) -> None:
    """Check E[exp(ikx)] = exp(ik mean - k^2 var / 2), real and imaginary part, for several k."""
    k = torch.linspace(0.25, 4, 16, dtype=torch.float64) / var**0.5
    exact = torch.exp(1j * k * mean - k**2 * var / 2)
    assert_mean(torch.cos(x[:, None] * k), exact.real)
    assert_mean(torch.sin(x[:, None] * k), exact.imag)


@pytest.mark.parametrize("stds", [(0.6, 0.8), (0.1, 3.0), (0.2,) * 25])
def test_row_02_a_sum_of_samples_has_the_characteristic_function_of_one(stds, generator):
    """Variances add: (3, 4, 5) triangles, and 25 equal noises make one of five times the std."""
    zeros = torch.zeros(DRAWS, dtype=torch.float64)
    noises = (dc.Gaussian(zeros, zeros + std**2).sample(generator=generator) for std in stds)
    total = sum(noises)
    var = sum(std**2 for std in stds)
    assert_characteristic_function(total, 0.0, var)
    assert_mean(total**2, var)
    assert_mean(total**4 / var**2, 3.0)


def test_row_02_steps_of_the_chain_merge_into_one_gaussian(generator):
    """Draws of q_step after q_step, against mean and covariance of the chain by linear algebra."""
    schedule, steps, start = dc.vp_schedule(12), 5, 1.5
    x = torch.full((DRAWS,), start, dtype=torch.float64)
    for t in range(1, steps + 1):
        x = dc.q_step(schedule, x, t).sample(generator=generator)
    betas = schedule.betas[1 : steps + 1]
    slope = joint_covariance(betas, data_var=1.0)[0, -1].item()  # Cov(x_0, x_5), Var(x_0) = 1
    var = joint_covariance(betas, data_var=0.0)[-1, -1].item()  # of x_5 when x_0 is known
    assert_characteristic_function(x, slope * start, var)
    merged = affine(lambda x: dc.q_marginal(schedule, x, steps))
    assert_close(merged, (slope, 0.0, var), rtol=1e-12, atol=0)


def test_row_02_the_density_of_a_sum_is_the_convolution_of_the_densities():
    """On a grid, with means: they add, as the variances do."""
    grid = torch.linspace(-8, 8, 1601, dtype=torch.float64)

    def density(mean, var, x):
        pair = torch.tensor([mean, var], dtype=torch.float64)
        return dc.Gaussian(*pair).log_prob(x).exp()

    kernel = density(0.5, 0.64, grid[:, None] - grid)
    convolved = (kernel * density(-0.2, 0.36, grid)).sum(1) * (grid[1] - grid[0])
    assert_close(convolved, density(0.3, 1.0, grid), rtol=0, atol=1e-12)
