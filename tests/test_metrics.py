"""Metrics against scipy, optimal assignment and closed forms; never against their own formula."""

import math
import re

import pytest
import torch
from oracles import other_defaults
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.stats import energy_distance as scipy_energy_distance
from torch.testing import assert_close

from diffusion_core import available_devices, metrics
from diffusion_core.metrics import energy_distance, floor, mmd, mode_coverage, sliced_wasserstein

DISTANCES = [energy_distance, mmd, sliced_wasserstein]
each_distance = pytest.mark.parametrize("distance", DISTANCES, ids=lambda f: f.__name__)
each_device = pytest.mark.parametrize("device", available_devices(), ids=str)


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def within_5_standard_errors(values, expected):
    error = values.std() / math.sqrt(len(values))
    assert abs(values.mean() - expected) < 5 * error, (values.mean(), expected, error)


@each_distance
def test_a_distance_is_0_to_itself_positive_to_others_and_symmetric(distance):
    x, y = normal(60, 2, seed=1), normal(45, 2, seed=2)
    assert distance(x, x) == 0
    assert distance(x, y) > 0.01
    assert_close(distance(x, y), distance(y, x), rtol=1e-12, atol=0)
    assert distance(x, y).dtype == torch.float64 and distance(x, y).shape == ()


@each_distance
def test_order_and_repetition_do_not_matter(distance):
    x, y = normal(30, 2, seed=1), normal(20, 2, seed=2)
    shuffled = x[torch.randperm(30, generator=torch.Generator().manual_seed(0))]
    assert_close(distance(shuffled, y), distance(x, y), rtol=1e-12, atol=0)
    assert_close(distance(x.repeat(3, 1), y), distance(x, y), rtol=1e-10, atol=0)
    assert_close(distance(shuffled, x), torch.tensor(0.0).double(), rtol=0, atol=1e-7)


@each_distance
def test_blocks_are_bounded_and_do_not_change_the_number(distance, monkeypatch):
    x, y = normal(50, 2, seed=1), normal(40, 2, seed=2)
    expected, sizes, real_cdist = distance(x, y), [0], torch.cdist

    def spy(*args, **kwargs):
        block = real_cdist(*args, **kwargs)
        sizes.append(block.numel())
        return block

    monkeypatch.setattr(metrics, "CHUNK", 130)
    monkeypatch.setattr(torch, "cdist", spy)
    assert_close(distance(x, y), expected, rtol=1e-12, atol=0)
    assert max(sizes) <= 130


@each_distance
@each_device
def test_a_device_and_float32_give_the_number_of_the_cpu(distance, device):
    x, y = normal(50, 2, seed=1).float(), normal(40, 2, seed=2).float()
    there = distance(x.to(device), y.to(device))
    assert there.device.type == device.type
    tolerance = 1e-3 if device.type == "mps" else 1e-9
    assert_close(there.cpu().double(), distance(x.double(), y.double()), rtol=tolerance, atol=0)


@pytest.mark.parametrize("m", [40, 33, 1])
def test_energy_distance_is_scipys_in_one_dimension(m):
    x, y = normal(40, 1, seed=1), normal(m, 1, seed=2) * 2 + 0.5
    expected = scipy_energy_distance(x[:, 0].numpy(), y[:, 0].numpy())
    assert_close(energy_distance(x, y).item(), expected, rtol=1e-12, atol=0)


def test_energy_distance_of_two_points():
    x, y = torch.zeros(5, 3).double(), torch.tensor([[2.0, 3.0, 6.0]]).double().repeat(4, 1)
    assert_close(energy_distance(x, y).item(), math.sqrt(2 * 7))  # |(2, 3, 6)| = 7


def test_energy_distance_of_a_normal_from_its_centre():
    # 2 E|X| - E|X - X'| in 2-D, Rayleigh means; the n pairs of a sample with itself are 0.
    n, point = 100, torch.zeros(1, 2).double()
    squared = torch.stack([energy_distance(normal(n, 2, seed=s), point) ** 2 for s in range(100)])
    expected = 2 * math.sqrt(math.pi / 2) - (1 - 1 / n) * math.sqrt(math.pi)
    within_5_standard_errors(squared, expected)


def test_mmd_of_two_points():
    x, y = torch.zeros(3, 1).double(), torch.full((2, 1), 0.5).double()
    assert_close(mmd(x, y, [0.5]).item(), math.sqrt(2 - 2 * math.exp(-0.5)))


def test_mmd_of_two_normals_is_the_closed_form():
    n, std, shift, bandwidths = 60, 0.8, 0.7, (0.5, 1.5)

    def expected_kernel(distance):  # a Gaussian averaged over a Gaussian, in 2-D
        wide = [b**2 + 2 * std**2 for b in bandwidths]
        pairs = zip(bandwidths, wide, strict=True)
        return sum(b**2 / w * math.exp(-(distance**2) / (2 * w)) for b, w in pairs) / 2

    offset = torch.tensor([shift, 0.0]).double()
    squared = torch.stack(
        [
            mmd(std * normal(n, 2, seed=s), std * normal(n, 2, seed=s + 999) + offset, bandwidths)
            for s in range(60)
        ]
    ).square()
    same, other = expected_kernel(0), expected_kernel(shift)
    within_5_standard_errors(squared, 2 * (same * (1 - 1 / n) + 1 / n) - 2 * other)


@pytest.mark.parametrize(("n", "m"), [(12, 12), (12, 8), (5, 7), (1, 6)])
def test_sliced_wasserstein_is_the_optimal_assignment_in_one_dimension(n, m):
    x, y = normal(n, 1, seed=1), normal(m, 1, seed=2) * 2 + 0.5
    same_size = math.lcm(n, m)
    costs = cdist(
        x.repeat(same_size // n, 1).numpy(), y.repeat(same_size // m, 1).numpy(), "sqeuclidean"
    )
    expected = math.sqrt(costs[linear_sum_assignment(costs)].mean())
    assert_close(sliced_wasserstein(x, y).item(), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("n_projections", [2, 3, 128])
def test_sliced_wasserstein_of_a_shift_and_of_a_scale_in_two_dimensions(n_projections):
    x, shift = normal(50, 2), torch.tensor([3.0, -4.0]).double()
    distance = sliced_wasserstein(x, x + shift, n_projections)
    assert_close(distance.item(), 5 / math.sqrt(2), rtol=1e-12, atol=0)
    spread = x.square().sum(1).mean().item()  # each direction sees half of it on average
    distance = sliced_wasserstein(x, 3 * x, n_projections)
    assert_close(distance.item(), 2 * math.sqrt(spread / 2), rtol=1e-12, atol=0)


def test_sliced_wasserstein_sees_a_difference_that_no_axis_shows():
    square = torch.tensor([[-1.0, -1.0], [1.0, 1.0]]).double()
    assert sliced_wasserstein(square, square * torch.tensor([1.0, -1.0]), 2) < 1e-12
    assert sliced_wasserstein(square, square * torch.tensor([1.0, -1.0])) > 0.5


@each_device
def test_sliced_wasserstein_with_random_directions(device):
    d, n_projections, x = 5, 4000, normal(3, 5).float()
    shift = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0])
    x, y = x.to(device), (x + shift).to(device)
    generator = torch.Generator(device).manual_seed(0)
    distance = sliced_wasserstein(x, y, n_projections, generator=generator)
    std = math.sqrt(2 * (d - 1) / (d + 2)) / d  # of the squared cosine of a random angle
    assert abs(distance.item() ** 2 - 1 / d) < 5 * std / math.sqrt(n_projections)
    again = sliced_wasserstein(x, y, n_projections, generator=generator.manual_seed(0))
    assert distance == again


@each_distance
def test_the_global_random_numbers_are_left_alone(distance):
    before = torch.get_rng_state()
    distance(normal(5, 2), normal(5, 2, seed=1))
    sliced_wasserstein(normal(5, 3), normal(5, 3, seed=1), generator=torch.Generator())
    assert torch.equal(before, torch.get_rng_state())


GOOD = torch.zeros(3, 2)


@each_distance
@pytest.mark.parametrize(
    ("x", "y", "error", "message"),
    [
        (torch.zeros(3), GOOD, ValueError, r"x .*\(3,\)"),
        (GOOD, torch.zeros(3, 2, 1), ValueError, r"y .*\(3, 2, 1\)"),
        (GOOD, torch.zeros(3, 1), ValueError, r"y must have the 2 columns of x, got \(3, 1\)"),
        (torch.zeros(0, 2), GOOD, ValueError, r"x .*at least one"),
        (GOOD, torch.full((3, 2), math.nan), ValueError, r"y .*finite"),
        (GOOD, torch.full((3, 2), math.inf), ValueError, r"y .*finite"),
        (GOOD.long(), GOOD, TypeError, r"x .*int64"),
        (GOOD, GOOD.double(), TypeError, r"y .*dtype of x, torch.float32, got torch.float64"),
        (GOOD, GOOD.numpy(), TypeError, r"y .*ndarray"),
    ],
)
def test_bad_samples_are_named(distance, x, y, error, message):
    with pytest.raises(error, match=message):
        distance(x, y)


@pytest.mark.skipif(len(available_devices()) == 1, reason="one device only")
@each_distance
def test_two_devices_are_refused(distance):
    with pytest.raises(TypeError, match=r"y .*device of x, cpu, got"):
        distance(GOOD, GOOD.to(available_devices()[0]))


@pytest.mark.parametrize("bandwidths", [[], [0.0], [1.0, -1.0], [math.nan], [math.inf]])
def test_bad_bandwidths_are_named(bandwidths):
    with pytest.raises(ValueError, match="bandwidths must"):
        mmd(GOOD, GOOD, bandwidths)


@pytest.mark.parametrize(("given", "error"), [(0, ValueError), (2.5, TypeError), (True, TypeError)])
def test_bad_counts_are_named(given, error):
    with pytest.raises(error, match="n_projections must"):
        sliced_wasserstein(GOOD, GOOD, given)
    with pytest.raises(error, match="pairs must"):
        floor(mmd, lambda n: GOOD, 3, pairs=given)
    with pytest.raises(error, match="n must"):
        floor(mmd, lambda n: GOOD, given)


@each_device
def test_mode_coverage_counts(device):
    centres = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    samples = [[0, 0.5], [0.5, 0], [0, -0.5], [4, 1], [0.0, 5.5], [9, 9], [2.1, 0], [1, 0]]
    result = mode_coverage(torch.tensor(samples).to(device), centres.double(), 1.0)
    assert result.shares.tolist() == [4 / 8, 1 / 8, 0]  # a distance of exactly 1 is inside
    assert result.modes_hit == 2
    assert result.stray.item() == 3 / 8


def test_mode_coverage_gives_a_sample_to_its_nearest_centre_only():
    centres = torch.tensor([[0.0], [1.0]])
    result = mode_coverage(torch.tensor([[0.4], [0.6], [0.7]]), centres, radius=10.0)
    assert_close(result.shares, torch.tensor([1 / 3, 2 / 3]).double(), rtol=1e-7, atol=0)
    assert (result.modes_hit, result.stray.item()) == (2, 0)


def test_mode_coverage_of_exact_samples_is_the_rayleigh_share():
    centres, std, n = torch.tensor([[-5.0, 0.0], [5.0, 0.0]]).double(), 0.3, 4000
    samples = centres[torch.arange(n) % 2] + std * normal(n, 2)
    stray = mode_coverage(samples, centres, 2 * std).stray.item()
    expected = math.exp(-2)
    assert abs(stray - expected) < 5 * math.sqrt(expected * (1 - expected) / n)


@pytest.mark.parametrize("radius", [0, -1.0, math.nan, math.inf])
def test_mode_coverage_refuses_bad_input(radius):
    with pytest.raises(ValueError, match="radius must"):
        mode_coverage(GOOD, GOOD, radius)
    with pytest.raises(ValueError, match=r"centres must .*columns"):
        mode_coverage(GOOD, torch.zeros(3, 5), 1.0)
    with pytest.raises(ValueError, match="samples must"):
        mode_coverage(torch.full((3, 2), math.nan), GOOD, 1.0)


def test_floor_is_the_mean_and_std_over_pairs_of_fresh_sets():
    drawn = iter(range(100))
    result = floor(
        lambda x, y: (y - x)[0] * x[0], lambda n: torch.full((n,), float(next(drawn))), 2, pairs=3
    )
    assert result == (2.0, 2.0)  # the sets are 0 1, 2 3, 4 5; so the distances are 0, 2, 4
    assert next(drawn) == 6


@each_distance
def test_the_floor_falls_like_one_over_the_root_of_n(distance):
    generator = torch.Generator().manual_seed(0)

    def sample_real(n):
        return torch.randn(n, 2, generator=generator)

    few, many = floor(distance, sample_real, 20), floor(distance, sample_real, 180)
    assert 0 < many.std < many.mean < few.mean
    assert 2.4 < few.mean / many.mean < 3.6  # 3 = sqrt(180 / 20)


def test_real_clouds_are_about_one_floor_away_and_shifted_ones_further():
    rng = torch.Generator().manual_seed(0)

    def real(n):
        return torch.randn(n, 2, generator=rng)

    score = metrics.times_floor(metrics.energy_distance, [real(300) for _ in range(40)], real)
    assert abs(score.mean - 1) < 5 * score.std / 40**0.5 + 0.2
    shifted = metrics.times_floor(metrics.energy_distance, [real(300) + 1 for _ in range(3)], real)
    assert shifted.mean > 3


@pytest.mark.parametrize("sizes", [[], [3, 4]])
def test_clouds_of_unequal_sizes_are_refused(sizes):
    clouds = [torch.randn(n, 2, generator=torch.Generator().manual_seed(n)) for n in sizes]
    with pytest.raises(ValueError, match=re.escape(f"got sizes {sizes}")):
        metrics.times_floor(metrics.energy_distance, clouds, lambda n: clouds[0])


def test_no_metric_asks_the_default_device_or_dtype():
    def rng():
        return torch.Generator().manual_seed(0)

    x, y, z = normal(30, 2, seed=1), normal(20, 2, seed=2), normal(8, 5)
    one = z[:, :1].contiguous()

    def every():
        draws = rng()

        def fresh(n):
            return torch.randn(n, 2, generator=draws, dtype=torch.float64, device="cpu")

        return [
            *(distance(x, y) for distance in DISTANCES),
            sliced_wasserstein(z, z + 1, generator=rng()),
            sliced_wasserstein(one, one[:5] + 1),
            *mode_coverage(x, y, 0.5),
            *floor(energy_distance, fresh, 9, pairs=3),
            *metrics.times_floor(energy_distance, [y], fresh),
        ]

    expected = every()
    with other_defaults():
        found = every()
    assert_close(found, expected, rtol=0, atol=0)
