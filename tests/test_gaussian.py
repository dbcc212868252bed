"""The normal distribution, against torch.distributions, SciPy and Monte Carlo."""

import pytest
import scipy.stats
import torch
from oracles import assert_mean, normal, seeded
from torch.testing import assert_close

from diffusion_core import Gaussian, kl_divergence, standard_normal

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

MEAN = torch.tensor([0.0, -1.5, 3.0], dtype=torch.float64)
VAR = torch.tensor([1.0, 0.09, 4.0], dtype=torch.float64)


def test_sample_has_the_moments_asked_for(generator):
    x = Gaussian(MEAN.expand(40_000, 3), VAR).sample(generator=generator)
    assert_mean(x, MEAN)
    assert_mean((x - MEAN) ** 2, VAR)
    assert_mean(((x - MEAN) ** 4) / VAR**2, 3.0)  # trap 2: uniform noise has 1.8


def test_sample_is_reproducible_and_keeps_dtype_and_device(device):
    for dtype in (torch.float32, torch.bfloat16):
        mean = torch.zeros(4, 3, dtype=dtype, device=device)
        a, b = (Gaussian(mean, mean + 2).sample(generator=seeded(7)) for _ in range(2))
        assert a.dtype == dtype and a.device.type == device.type
        assert_close(a, b, rtol=0, atol=0)


def test_standard_normal_gives_the_same_numbers_on_every_device(device):
    like = torch.zeros(5, 2)
    on_cpu, here = (standard_normal(x, seeded()) for x in (like, like.to(device)))
    assert here.device.type == device.type
    assert_close(here.cpu(), on_cpu, rtol=0, atol=0)
    assert standard_normal(like.double(), seeded()).dtype == torch.float64


def test_a_variance_of_one_number_per_example_broadcasts(generator):
    var = torch.tensor([0.01, 100.0], dtype=torch.float64).view(2, 1, 1)
    x = Gaussian(torch.zeros(2, 100, 100, dtype=torch.float64), var).sample(generator=generator)
    assert_mean(x.flatten(1).T ** 2, var.flatten())


def test_a_mean_broadcasts_to_more_variances_each_with_noise_of_its_own(generator):
    """log_prob and the KL broadcast; a sample must not share one draw among the rows."""
    x = Gaussian(torch.zeros(1, 2), torch.ones(5, 1)).sample(generator=generator)
    assert x.shape == (5, 2) and x.dtype == torch.float32
    assert len(x.flatten().unique()) == 10
    var = torch.tensor([0.25, 4.0], dtype=torch.float64).expand(40_000, 2)
    x = Gaussian(torch.ones(2).double(), var).sample(generator=generator)
    assert_mean((x - 1) ** 2, var[0])
    assert abs(x.T.corrcoef()[0, 1]) < 0.03


def test_a_point_mass_samples_its_mean(generator):
    x = Gaussian(MEAN, torch.zeros(())).sample(generator=generator)
    assert_close(x, MEAN, rtol=0, atol=0)


def test_gradients_flow_through_a_sample(generator):
    """For E[x^2] = mean^2 + var the gradients are 2 mean and 1."""
    mean = MEAN.expand(40_000, 3).clone().requires_grad_()
    var = VAR.expand(40_000, 3).clone().requires_grad_()
    (Gaussian(mean, var).sample(generator=generator) ** 2).sum().backward()
    assert_mean(mean.grad, 2 * MEAN)
    assert_mean(var.grad, 1.0)


def test_log_prob_agrees_with_scipy():
    x = normal(6, 3)
    expected = scipy.stats.norm(MEAN.numpy(), VAR.sqrt().numpy()).logpdf(x.numpy())
    assert_close(Gaussian(MEAN, VAR).log_prob(x), torch.tensor(expected), rtol=1e-12, atol=1e-12)


def test_log_prob_keeps_float32():
    assert Gaussian(MEAN.float(), VAR.float()).log_prob(MEAN.float()).dtype == torch.float32


def test_kl_agrees_with_torch_and_with_its_definition(generator):
    p, q = Gaussian(MEAN, VAR), Gaussian(MEAN.flip(0), VAR.flip(0))
    other = [torch.distributions.Normal(g.mean, g.var.sqrt()) for g in (p, q)]
    expected = torch.distributions.kl_divergence(*other)
    assert_close(kl_divergence(p, q), expected, rtol=1e-12, atol=1e-12)
    x = Gaussian(MEAN.expand(40_000, 3), VAR).sample(generator=generator)
    assert_mean(p.log_prob(x) - q.log_prob(x), kl_divergence(p, q))


def test_kl_is_zero_only_for_equals():
    p = Gaussian(MEAN, VAR)
    assert_close(kl_divergence(p, p), torch.zeros_like(MEAN), rtol=0, atol=0)
    assert (kl_divergence(p, Gaussian(MEAN, VAR * 1.01)) > 0).all()
    assert (kl_divergence(p, Gaussian(MEAN + 0.01, VAR)) > 0).all()


@pytest.mark.parametrize("var", [0.0, -1.0])
def test_a_variance_that_is_not_positive_has_no_density(var):
    bad, good = Gaussian(MEAN, torch.full_like(MEAN, var)), Gaussian(MEAN, VAR)
    for call in (
        lambda: bad.log_prob(MEAN),
        lambda: kl_divergence(bad, good),
        lambda: kl_divergence(good, bad),
    ):
        with pytest.raises(ValueError, match="var"):
            call()
