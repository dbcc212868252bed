"""The last step to the data, against mpmath, torch.distributions and sums over the levels."""

import math

import mpmath
import pytest
import torch
from oracles import normal
from torch.testing import assert_close

import diffusion_core as dc

LEVELS = torch.linspace(-1, 1, 256, dtype=torch.float64)
IMAGE = LEVELS[torch.arange(24) * 10].reshape(2, 3, 4)
DECODERS = pytest.mark.parametrize("decoder", [dc.gaussian_decoder, dc.discretized_decoder])


def gaussian(mean: float, var: float, like: torch.Tensor) -> dc.Gaussian:
    return dc.Gaussian(torch.full_like(like, mean), like.new_tensor(var))


def of_all_levels(mean: float, std: float) -> torch.Tensor:
    return dc.discretized_decoder(LEVELS[:, None], gaussian(mean, std**2, LEVELS[:, None]))


def exact_log_prob(k: int, mean: float, std: float) -> float:
    """ln P of level k by mpmath, with 400 digits: no cancellation survives."""
    with mpmath.workdps(400):
        centre, mean, std = mpmath.mpf(2 * k - 255) / 255, mpmath.mpf(mean), mpmath.mpf(std)
        upper = mpmath.inf if k == 255 else (centre + mpmath.mpf(1) / 255 - mean) / std
        lower = -mpmath.inf if k == 0 else (centre - mpmath.mpf(1) / 255 - mean) / std
        if lower > 0:  # by symmetry: the difference of two small numbers, not of two near 1
            lower, upper = -upper, -lower
        return float(mpmath.log(mpmath.ncdf(upper) - mpmath.ncdf(lower)))


def test_gaussian_decoder_agrees_with_torch_distributions():
    x0, mean, var = (
        normal(4, 2, 3),
        normal(4, 2, 3, seed=2),
        torch.tensor(0.07, dtype=torch.float64),
    )
    got = dc.gaussian_decoder(x0, dc.Gaussian(mean, var))
    expected = torch.distributions.Normal(mean, var.sqrt()).log_prob(x0).sum((1, 2))
    assert_close(got, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("mean", [-300.0, -1.7, -1.0, 0.0013, 0.6, 1.0, 40.0], ids=str)
@pytest.mark.parametrize("std", [1e-4, 0.01, 0.3, 1.0, 50.0], ids=str)
def test_row_18_the_bins_sum_to_1(mean, std):
    """Trap 14. Every bin a probability, all of them one."""
    log_probs = of_all_levels(mean, std)
    assert log_probs.isfinite().all() and (log_probs <= 0).all()
    assert_close(log_probs.logsumexp(0).item(), 0.0, rtol=0, atol=1e-10)


CASES = [
    (128, 0.0, 0.01),
    (128, 0.0013, 1e-4),
    (0, -1.0, 0.01),
    (255, 1.0, 0.3),
    (0, 0.7, 0.05),  # 34 sigma below the mean
    (255, -0.7, 0.05),
    (10, 0.5, 0.03),
    (200, -0.9, 0.02),
    (100, -0.2, 5.0),
    (77, 0.0, 1e4),
    (3, 300.0, 1.0),
    (250, -1.0, 0.001),  # 1960 sigma away
]


@pytest.mark.parametrize("k, mean, std", CASES, ids=str)
def test_row_18_agrees_with_mpmath(k, mean, std):
    """Far away too, where the difference of two Phi is 0 in float64."""
    got = of_all_levels(mean, std)[k].item()
    assert_close(got, exact_log_prob(k, mean, std), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sigmas", [40, -40, 1000])
def test_row_18_is_finite_far_away_and_says_how_far(dtype, sigmas):
    x0 = LEVELS[[0, 100, 255], None].to(dtype)
    std = 0.01
    got = dc.discretized_decoder(x0, gaussian(0.0, std**2, x0)._replace(mean=x0 + sigmas * std))
    assert got.isfinite().all() and got.dtype == dtype
    inner = exact_log_prob(100, (2 * 100 - 255) / 255 + sigmas * std, std)
    assert_close(got[1].item(), inner, rtol=1e-3, atol=0)


def test_row_18_a_very_wide_gaussian_leaves_one_bit_at_each_edge():
    bits = -of_all_levels(0.3, 1e9) / math.log(2)
    assert_close(bits[[0, 255]], torch.ones(2).double(), rtol=0, atol=1e-8)
    assert (bits[1:255] > 30).all()


def test_row_18_a_very_narrow_gaussian_knows_the_level():
    x0 = LEVELS[:, None]
    got = dc.discretized_decoder(x0, dc.Gaussian(x0, torch.tensor(1e-10, dtype=torch.float64)))
    assert_close(got, torch.zeros(256).double(), rtol=0, atol=1e-12)


def test_row_18_half_a_level_off_costs_one_bit():
    x0 = LEVELS[1:255, None]
    p = dc.Gaussian(x0 + 1 / 255, torch.tensor(1e-8, dtype=torch.float64))
    got = dc.discretized_decoder(x0, p)
    assert_close(got, torch.full_like(got, -math.log(2)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("std", [0.004, 0.1, 3.0])
def test_row_18_the_density_integrates_to_the_probability_of_a_level(std):
    for k, mean in ((0, -0.9), (128, 0.02), (254, 1.1)):
        low = -1 - 40 * std if k == 0 else LEVELS[k] - 1 / 255
        line = torch.linspace(low, LEVELS[k] + 1 / 255, 200_001, dtype=torch.float64)[:, None]
        density = dc.gaussian_decoder(line, gaussian(mean, std**2, line)).exp()
        area = torch.trapezoid(density, line[:, 0])
        assert_close(of_all_levels(mean, std)[k].exp(), area, rtol=1e-5, atol=1e-12)


@DECODERS
def test_coordinates_are_summed_and_variances_broadcast(decoder):
    var = torch.tensor([0.01, 0.04], dtype=torch.float64).view(2, 1, 1)
    p = dc.Gaussian(IMAGE * 0.9, var)
    got = decoder(IMAGE, p)
    assert got.shape == (2,)
    for i in range(2):
        pixels = IMAGE[i].reshape(-1, 1)
        alone = decoder(pixels, dc.Gaussian(pixels * 0.9, var[i].reshape(())))
        assert_close(got[i], alone.sum(), rtol=1e-10, atol=1e-10)
    assert_close(decoder(IMAGE[:1], dc.Gaussian(IMAGE[:1] * 0.9, var[:1])), got[:1])


@DECODERS
def test_trap_23_dtype_and_device_are_those_of_the_data(decoder, device):
    x0 = IMAGE.float().to(device)
    got = decoder(x0, gaussian(0.1, 0.02, x0))
    assert (got.dtype, got.device.type, got.shape) == (torch.float32, device.type, (2,))
    expected = decoder(IMAGE, gaussian(0.1, 0.02, IMAGE))
    assert_close(got.cpu().double(), expected, rtol=1e-4, atol=1e-4)


@DECODERS
def test_gradients_reach_the_mean(decoder):
    mean = torch.zeros_like(IMAGE).requires_grad_()
    decoder(IMAGE, dc.Gaussian(mean, torch.tensor(1e-4, dtype=torch.float64))).sum().backward()
    assert mean.grad.isfinite().all()
    assert (mean.grad.sign() == IMAGE.sign()).all()  # towards the data, also 100 sigma away


def test_float32_levels_are_accepted_however_they_were_computed():
    k = torch.arange(256, dtype=torch.float32)
    for x in (k / 127.5 - 1, 2 * (k / 255) - 1, (k / 255 - 0.5) / 0.5, LEVELS.float()):
        got = dc.discretized_decoder(x[:, None], gaussian(0.0, 0.25, x[:, None]))
        assert_close(got.double(), of_all_levels(0.0, 0.5), rtol=1e-3, atol=1e-3)


UNIT = (LEVELS[:, None] + 1) / 2


@pytest.mark.parametrize(
    "bad",
    [
        UNIT,
        UNIT.float(),
        LEVELS[:, None] + 0.3 * 2 / 255,
        torch.tensor([[1 + 2 / 255]], dtype=torch.float64),
        torch.tensor([[-1 - 2 / 255]], dtype=torch.float64),
        torch.arange(256.0)[:, None],
        normal(8, 2),
        torch.tensor([[math.nan]]),
        LEVELS[:0, None],
    ],
    ids=["[0, 1]", "[0, 1] float32", "between", "above", "below", "0..255", "any", "NaN", "empty"],
)
def test_what_is_not_on_a_level_is_refused(bad):
    with pytest.raises(ValueError, match="x0"):
        dc.discretized_decoder(bad, gaussian(0.0, 1.0, bad))


@DECODERS
def test_data_and_mean_that_do_not_match(decoder):
    p = gaussian(0.0, 1.0, IMAGE)
    for bad in (IMAGE[:1], IMAGE[..., :1], IMAGE.float()):
        with pytest.raises((TypeError, ValueError), match="x"):
            decoder(bad, p)
    with pytest.raises(TypeError, match="x"):
        decoder(IMAGE.long(), p)


@pytest.mark.parametrize("var", [0.0, -0.1])
def test_a_density_needs_a_positive_variance(var):
    with pytest.raises(ValueError, match="var"):
        dc.gaussian_decoder(IMAGE, gaussian(0.0, var, IMAGE))
