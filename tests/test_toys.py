"""Toys against the moments of the mixtures that they are."""

import itertools

import numpy as np
import pytest
import torch
from oracles import other_defaults
from sklearn.datasets import make_swiss_roll
from torch.testing import assert_close

from diffusion_core import available_devices, toys
from diffusion_core.toys import TOY_STDS, TOYS, toy_2d, toy_centres

each_toy = pytest.mark.parametrize("name", TOYS)
each_device = pytest.mark.parametrize("device", available_devices(), ids=str)


def generator(device="cpu", seed=0):
    return torch.Generator(device).manual_seed(seed)


def assert_mean(values, expected):
    """The mean over the rows of values lies within 5 standard errors of what is expected."""
    error = values.std(0) / len(values) ** 0.5
    assert ((values.mean(0) - expected).abs() < 5 * error + 1e-12).all(), (values.mean(0), expected)


@each_toy
def test_a_toy_has_mean_0_and_total_variance_1(name):
    means, std = toy_centres(name)
    assert means.dtype == torch.float64 and means.shape[1] == 2
    assert len(means) == {"eight_gaussians": 8, "nine_gaussians": 9}.get(name, 1000)
    assert_close(means.mean(0), torch.zeros(2).double(), rtol=0, atol=1e-12)
    total = np.cov(means.numpy().T, bias=True).trace() / 2 + std**2
    assert abs(total - 1) < 1e-12


@each_toy
@each_device
def test_samples_have_the_moments_of_the_mixture(name, device):
    means, std = toy_centres(name)
    x = toy_2d(name, 20_000, generator=generator(device)).cpu().double()
    assert_mean(x, torch.zeros(2))
    assert_mean(x.square().mean(1), 1.0)
    cov = torch.from_numpy(np.cov(means.numpy().T, bias=True)) + std**2 * torch.eye(2)
    assert_mean((x[:, :, None] * x[:, None]).flatten(1), cov.flatten())
    for w in ([1.0, 0.0], [-2.0, 3.0], [5.0, 4.0], [0.0, 12.0]):  # the characteristic function
        w = torch.tensor(w).double()
        damping = torch.exp(-(std**2) * (w @ w) / 2)
        assert_mean((x @ w).cos(), damping * (means @ w).cos().mean())
        assert_mean((x @ w).sin(), damping * (means @ w).sin().mean())


@each_toy
def test_centres_are_too_dense_to_tell_apart_or_far_apart(name):
    means, std = toy_centres(name)
    distances = torch.cdist(means, means).fill_diagonal_(torch.inf).min(1).values
    if len(means) > 9:
        assert distances.max() < std / 2
    else:
        assert distances.min() > 7 * std


def test_the_swiss_roll_is_that_of_scikit_learn():
    means, std = toy_centres("swiss_roll", 4000)
    curve = means * (TOY_STDS["swiss_roll"] / std)
    roll = torch.from_numpy(make_swiss_roll(20_000, random_state=0)[0][:, [0, 2]])
    offset = roll.mean(0)  # of a sample: the curves agree to its standard error
    error = 5 * roll.std(0).max().item() / 20_000**0.5
    gaps = torch.cdist(roll[:2000] - offset, curve).min(1).values
    assert gaps.max() < error * 2**0.5 + 0.05
    assert_mean((roll - offset).square(), curve.square().mean(0))


def test_a_curve_has_as_many_centres_as_asked():
    for name, n in itertools.product(TOYS[:3], (2, 7, 300)):
        assert toy_centres(name, n)[0].shape == (n, 2)


@each_device
def test_toys_are_reproducible_and_leave_the_global_random_numbers_alone(device):
    before = torch.get_rng_state()
    x = toy_2d("moons", 50, generator=generator(device))
    assert torch.equal(before, torch.get_rng_state())
    assert x.device.type == device.type and x.dtype == torch.float32 and x.shape == (50, 2)
    assert torch.equal(x, toy_2d("moons", 50, generator=generator(device)))
    assert not torch.equal(x, toy_2d("moons", 50, generator=generator(device, seed=1)))


def test_a_toy_in_float64_and_without_a_generator():
    with torch.random.fork_rng():
        x = toy_2d("circles", 10, dtype=torch.float64)
    assert x.dtype == torch.float64 and x.device.type == "cpu"


def test_bad_toy_arguments_are_named():
    with pytest.raises(ValueError, match=r"name must be one of moons.*'moon'"):
        toy_centres("moon")
    with pytest.raises(ValueError, match="n must"):
        toy_centres("moons", 1)
    with pytest.raises(ValueError, match="n must"):
        toy_2d("moons", 0)
    with pytest.raises(TypeError, match="n must"):
        toy_2d("moons", 5.0)
    with pytest.raises(TypeError, match=r"dtype must.*int64"):
        toy_2d("moons", 5, dtype=torch.int64)


@each_toy
def test_a_toy_asks_neither_the_default_device_nor_dtype(name):
    means, drawn = toy_centres(name, 77)[0], toy_2d(name, 50, generator=generator())
    toys._scaled_centres.cache_clear()
    try:
        with other_defaults():
            again = toy_centres(name, 77)[0], toy_2d(name, 50, generator=generator())
    finally:
        toys._scaled_centres.cache_clear()
    assert_close(again, (means, drawn), rtol=0, atol=0)
