"""Metrics get sets of the size that they ask for, numbers are floats, and digits survive size."""

import math

import pytest
import torch
from oracles import normal, seeded
from torch.testing import assert_close

import diffusion_core as dc
from diffusion_core import judge, metrics, nets, toys

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

S = dc.vp_schedule(10)
DISTANCES = [metrics.energy_distance, metrics.mmd, metrics.sliced_wasserstein]
EVERY_DISTANCE = pytest.mark.parametrize("distance", DISTANCES)


class Real:
    """Draws sets of real samples and keeps the sizes that it was asked for."""

    def __init__(self) -> None:
        self.asked, self.rng = [], seeded()

    def __call__(self, n: int) -> torch.Tensor:
        self.asked.append(n)
        return torch.randn(n, 2, generator=self.rng, dtype=torch.float64)


class Spied:
    """A distance that keeps the sizes of the sets that it gets."""

    def __init__(self) -> None:
        self.sizes = []

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.sizes.append((len(x), len(y)))
        return metrics.energy_distance(x, y)


# Sizes.


@pytest.mark.parametrize("n, pairs", [(1, 2), (2, 3), (7, 2), (30, 5)])
def test_the_floor_is_of_pairs_of_sets_of_n(n, pairs):
    real, distance = Real(), Spied()
    metrics.floor(distance, real, n, pairs=pairs)
    assert real.asked == 2 * pairs * [n]
    assert distance.sizes == pairs * [(n, n)]


def test_the_floor_is_of_20_pairs_unless_told():
    real = Real()
    metrics.floor(metrics.energy_distance, real, 3)
    assert real.asked == 40 * [3]


@pytest.mark.parametrize("n, clouds", [(2, 1), (7, 3)])
def test_clouds_are_compared_with_as_many_real_samples_and_with_their_floor(n, clouds):
    real, distance = Real(), Spied()
    metrics.times_floor(distance, [normal(n, 2, seed=i) for i in range(clouds)], real)
    assert real.asked == (clouds + 40) * [n]
    assert distance.sizes == (clouds + 20) * [(n, n)]


@pytest.mark.parametrize("n", [2, 5, 8])
def test_the_floor_of_digits_is_of_20_draws_of_n_different_images(n, monkeypatch):
    sets = []
    monkeypatch.setattr(judge, "frechet_distance", lambda x, y: sets.append(x) or 3.0)
    images = normal(8, 1, 28, 28, dtype=torch.float32)
    floor = judge.frechet_floor(nets.Classifier(), images, images, n, generator=seeded())
    assert floor == 3.0
    assert [len(x) for x in sets] == 20 * [n]
    assert all(len(x.unique(dim=0)) == n for x in sets)


# Floats.


def estimate() -> dc.ElboEstimate:
    probs = torch.tensor([0, 0] + [1 / 9] * 9, dtype=torch.float64)
    options = {"decoder": dc.gaussian_decoder, "probs": probs, "generator": seeded()}
    return dc.elbo_estimate(S, lambda x_t, t: 0.5 * x_t, normal(4, 2), **options)


def verdict() -> judge.Verdict:
    images = normal(8, 1, 28, 28, dtype=torch.float32)
    return judge.judge_images(nets.Classifier(), images, images)


NUMBERS = {
    "floor": lambda: metrics.floor(metrics.energy_distance, Real(), 5),
    "times_floor": lambda: metrics.times_floor(metrics.mmd, [normal(5, 2)], Real()),
    "elbo_estimate": estimate,
    "bits_per_dim": lambda: [dc.bits_per_dim(3.0, 2), dc.bits_per_dim(3.0, 2, bin_width=0.5)],
    "prior_gap": lambda: [dc.prior_gap(S), dc.prior_gap(S, 2.0)],
    "prior_kl": lambda: [dc.prior_kl(S, dc.mixture(normal(3, 2), 0.5))],
    "toy_centres": lambda: [toys.toy_centres(name)[1] for name in toys.TOYS],
    "frechet_distance": lambda: [judge.frechet_distance(normal(5, 2), normal(5, 2, seed=2))],
    "verdict": lambda: [verdict().confident, verdict().frechet],
    "warmup_cosine": lambda: [dc.warmup_cosine(f) for f in (0.0, 0.5, 1.0)],
}


@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_called_a_float_is_one(name):
    """A tensor of one number compares like a float: only its type tells."""
    numbers = NUMBERS[name]()
    assert [type(number) for number in numbers] == [float] * len(numbers)


@EVERY_DISTANCE
def test_distances_are_numbers_without_a_shape(distance):
    found = distance(normal(5, 2).float(), normal(4, 2, seed=2).float())
    assert found.shape == () and found.dtype == torch.float64


# Rounding.


@EVERY_DISTANCE
@pytest.mark.parametrize("d", [1, 2, 3])
def test_a_distance_of_equal_sets_in_another_order_is_never_nan(distance, d):
    """Its square is 0 up to rounding, also below 0 for many of these sizes."""
    options = {"generator": seeded()} if distance is metrics.sliced_wasserstein else {}
    for n in range(1, 39):
        x = normal(n, d, seed=n)
        for y in (x.flip(0), x[torch.randperm(n, generator=seeded(n))]):
            assert 0 <= distance(x, y, **options) < 1e-6, n  # False for NaN


def test_a_frechet_distance_of_equal_sets_in_another_order_is_never_nan():
    for n in range(2, 30):
        x = normal(n, 4, seed=n)
        assert 0 <= judge.frechet_distance(x, x.flip(0)) < 1e-6, n


def written_out(data: dc.Mixture, x: torch.Tensor) -> torch.Tensor:
    """log p(x) in float64, of differences, component by component."""
    means, variances, weights = (part.double() for part in data)
    parts = []
    for mean, var, weight in zip(means, variances, weights, strict=True):
        squares = (x.double().flatten(1) - mean).square().sum(1)
        constant = weight.log() - 0.5 * len(mean) * (2 * math.pi * var).log()
        parts.append(constant - squares / (2 * var))
    return torch.stack(parts, 1).logsumexp(1)


@pytest.mark.parametrize("rows, components", [(3, 40), (40, 3), (40, 40), (3, 3)])
def test_a_mixture_of_many_images_in_float32_keeps_its_digits(rows, components):
    """Above 25 rows torch's cdist would go over to products, which lose half of the digits."""
    images = 0.5 + normal(components, 1, 8, 8, dtype=torch.float32).clamp(-1, 1)
    noise = 0.01 * normal(rows, 1, 8, 8, seed=2, dtype=torch.float32)
    x = images[torch.arange(rows) % components] + noise
    data = dc.mixture(images, 1e-4)
    assert_close(data.log_prob(x).double(), written_out(data, x), rtol=1e-4, atol=1e-2)
    at_the_means = dc.mixture(images, 1e-4).log_prob(images)
    assert_close(at_the_means.double(), written_out(data, images), rtol=1e-6, atol=0)


@pytest.mark.parametrize("n", [4, 10, 1000])
def test_circles_have_radii_1_to_2(n):
    """Half of the points each."""
    points, std = toys.toy_centres("circles", n)
    radii = points.norm(dim=1).sort().values
    inner = radii[:1].expand(n // 2)
    assert_close(radii, torch.cat([inner, 2 * inner]), rtol=1e-9, atol=0)
    assert_close(points.square().mean().item() + std**2, 1.0, rtol=1e-9, atol=0)
