"""The judge's numbers against NumPy, SciPy and samplers whose faults are known."""

import math

import numpy as np
import pytest
import torch
from oracles import normal, seeded
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from torch.testing import assert_close

from diffusion_core import data, judge, nets, pretrained

pytestmark = pytest.mark.usefixtures("untouched_global_rng")


def gaussian(mean: float, stds: torch.Tensor, turn: torch.Tensor, n: int, seed: int):
    """n rows whose sample mean is exactly `mean`, their sample covariance turn diag(std^2) turn^T.

    The covariance is the unbiased one, as numpy.cov's.
    """
    z = normal(n, len(stds), seed=seed)
    z = z - z.mean(0)
    root = torch.linalg.cholesky(z.T.cov().reshape(len(stds), len(stds)))
    white = torch.linalg.solve_triangular(root, z.T, upper=False).T
    return mean + white * stds @ turn.T


def expected_frechet(x: torch.Tensor, y: torch.Tensor) -> float:
    """The formula by NumPy's moments and SciPy's root of C_x C_y, which has the same trace."""
    x, y = x.double().numpy(), y.double().numpy()
    c_x, c_y = np.cov(x.T), np.cov(y.T)
    trace = np.trace(c_x + c_y - 2 * sqrtm(c_x @ c_y).real)
    return math.sqrt(((x.mean(0) - y.mean(0)) ** 2).sum() + trace)


# frechet_distance


@pytest.mark.parametrize("d", [1, 2, 7])
def test_commuting_covariances_have_a_closed_form(d):
    """|mean_x - mean_y|^2 + sum_i (std_x,i - std_y,i)^2 for common axes, here turned ones."""
    turn = torch.linalg.qr(normal(d, d, seed=3))[0]
    stds_x, stds_y = 0.2 + normal(d, seed=4).abs(), 0.2 + normal(d, seed=5).abs()
    x, y = gaussian(1.5, stds_x, turn, 40, 6), gaussian(-0.5, stds_y, turn, 90, 7)
    expected = math.sqrt(4 * d + ((stds_x - stds_y) ** 2).sum().item())
    got = judge.frechet_distance(x, y)
    assert isinstance(got, float)
    assert got == pytest.approx(expected, rel=1e-9)


def test_other_covariances_agree_with_scipy(device):
    x, y = normal(50, 6), normal(80, 6, seed=2) @ normal(6, 6, seed=3) + 1
    expected = expected_frechet(x, y)
    x, y = x.float().to(device), y.float().to(device)
    assert judge.frechet_distance(x, y) == pytest.approx(expected, rel=1e-5)


def test_two_points_against_many_have_a_covariance_without_full_rank():
    """Of all x alike nothing is left but tr C_y; 2 rows are enough."""
    y = normal(30, 8) + 3
    expected = math.sqrt((y.mean(0) ** 2).sum() + y.var(0).sum())
    assert judge.frechet_distance(torch.zeros(2, 8).double(), y) == pytest.approx(expected)
    pair = torch.stack([y[0], -y[0]])  # rank 1: C_x = 2 y_0 y_0^T
    overlap = math.sqrt(2 * (y.T.cov() @ y[0] @ y[0]).item())
    squared = (y.mean(0) ** 2).sum() + 2 * y[0] @ y[0] + y.var(0).sum() - 2 * overlap
    assert judge.frechet_distance(pair, y) == pytest.approx(math.sqrt(squared), rel=1e-6)


def test_it_is_a_distance():
    x, y, z = normal(40, 5), 2 * normal(30, 5, seed=2) + 1, normal(20, 5, seed=3) - 1
    d = judge.frechet_distance
    assert d(x, y) == pytest.approx(d(y, x), rel=1e-9)
    assert d(x, y) < d(x, z) + d(z, y)
    for same in (x, y, x.flip(0), torch.ones(4, 5)):
        assert 0 <= d(same, same) < 1e-6
    assert d(x, x.flip(0)) < 1e-6  # the order of rows is nothing
    shift = torch.tensor([3.0, 0, 0, -4, 0], dtype=torch.float64)
    assert d(x, x + shift) == pytest.approx(5, rel=1e-9)
    assert d(7 * x, 7 * y) == pytest.approx(7 * d(x, y), rel=1e-9)


def test_float32_features_far_from_zero_lose_nothing():
    x, y = (100 + 0.1 * normal(60, 4, seed=s).float() for s in (1, 2))
    assert judge.frechet_distance(x, y) == pytest.approx(expected_frechet(x, y), rel=1e-4)


@pytest.mark.parametrize("few", [0, 1])
def test_fewer_than_2_rows_are_refused(few):
    many = normal(5, 3)
    for pair in ((many[:few], many), (many, many[:few])):
        with pytest.raises(ValueError, match=rf"must .*, got .*\({few}, 3\)"):
            judge.frechet_distance(*pair)


def test_the_set_of_images_that_is_no_data_is_named():
    good, network = torch.zeros(3, 1, 28, 28), nets.Classifier()
    rng = torch.Generator().manual_seed(0)
    bad = good / 0
    with pytest.raises(ValueError, match=r"^x must hold .*, got"):
        judge.judge_images(network, bad, good)
    with pytest.raises(ValueError, match=r"^real must hold .*, got"):
        judge.judge_images(network, good, bad)
    with pytest.raises(ValueError, match=r"^train must hold .*, got"):
        judge.frechet_floor(network, bad, good, 2, generator=rng)
    with pytest.raises(ValueError, match=r"^real must hold .*, got"):
        judge.frechet_floor(network, good, bad, 2, generator=rng)


# nearest_distances


@pytest.mark.parametrize("shape", [(3,), (1, 6, 5)], ids=str)
def test_nearest_distances_agree_with_scipy(shape, device):
    x = normal(70, *shape, dtype=torch.float32)
    train = normal(1100, *shape, seed=2, dtype=torch.float32)
    got = judge.nearest_distances(x.to(device), train.to(device))
    expected = torch.from_numpy(cdist(x.flatten(1), train.flatten(1)).min(1)).float()
    assert_close(got.cpu().float(), expected, rtol=1e-4, atol=1e-5)


def test_planted_copies_are_found():
    """Also next to bright images, and also one that differs in one pixel."""
    train = data.to_signed(data.digits()[0][:300])
    x = normal(20, 1, 28, 28, seed=3, dtype=torch.float32).clamp(-1, 1)
    x[3], x[11] = train[7], train[299]
    x[12] = train[0]
    x[12, 0, 0, 0] += 0.5
    got = judge.nearest_distances(x, train)
    assert_close(got[[3, 11, 12]], torch.tensor([0, 0, 0.5]), rtol=0, atol=1e-3)
    assert (got > 1e-3).sum() == 18


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_copy_is_at_distance_0_and_only_a_copy(dtype):
    """By products of matrices, as torch.cdist takes them for many images, digits are 0.02 apart."""
    train = data.to_signed(data.digits()[0]).to(dtype)
    assert len(train) > 1000
    got = judge.nearest_distances(train[:100], train)
    assert torch.equal(got, torch.zeros_like(got))
    assert got.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    others = judge.nearest_distances(train[:100], train[100:])
    assert (others > 0).all()
    with torch.autocast("cpu", torch.bfloat16):
        assert not judge.nearest_distances(train[:100], train).any()


def test_nearest_distances_of_two_dtypes_are_taken_in_the_finer_one():
    x, train = normal(5, 1, 4, 4), normal(30, 1, 4, 4, seed=2, dtype=torch.float32)
    assert_close(judge.nearest_distances(x, train), judge.nearest_distances(x, train.double()))


def test_nearest_distances_refuse_what_is_no_two_sets_of_like_images():
    x = normal(4, 1, 8, 8)
    for bad, said in ((x[:0], "x must"), (x.long(), "x must"), (x / 0, "x must"), (None, "x must")):
        with pytest.raises((ValueError, TypeError), match=said):
            judge.nearest_distances(bad, x)
    for bad in (x[:0], x.long(), x / 0, x[..., :4], x.flatten(1), None):
        with pytest.raises((ValueError, TypeError), match="train must"):
            judge.nearest_distances(x, bad)


# judge_images and frechet_floor, on digits that need no download


N = 250


@pytest.fixture(scope="module")
def network():
    return pretrained.load("judge")[0]


@pytest.fixture(scope="module")
def halves():
    """Train and real: the digits in a random order, cut in two."""
    x = data.to_signed(data.digits()[0])
    x = x[torch.randperm(len(x), generator=seeded())]
    return x[:500], x[500:900]


@pytest.fixture(scope="module")
def floor(network, halves):
    return judge.frechet_floor(network, *halves, N, generator=seeded())


def features(network, x):
    with torch.no_grad():
        return network.features(x)


def test_a_verdict_agrees_with_numpy(network, halves, device):
    x = halves[0][:120]
    with torch.no_grad():
        likely, digit = network(x).double().softmax(1).max(1)
    assert ((likely - 0.9).abs() > 1e-4).all()  # so that rounding decides for none of them
    counts = torch.tensor([(digit == k).sum().item() for k in range(10)])
    there = nets.Classifier().eval()
    there.load_state_dict(network.state_dict())
    got = judge.judge_images(there.to(device), x.to(device), halves[1].to(device))
    assert got.confident == pytest.approx((likely > 0.9).sum().item() / 120, abs=1e-6)
    assert_close(got.shares.cpu().double(), counts / 120, rtol=0, atol=1e-6, check_dtype=False)
    expected = expected_frechet(features(network, x), features(network, halves[1]))
    assert got.frechet == pytest.approx(expected, rel=1e-3)
    assert isinstance(got.confident, float) and isinstance(got.frechet, float)
    assert got.shares.shape == (10,) and not got.shares.requires_grad


def test_a_class_that_is_never_drawn_has_share_0(network, halves):
    with torch.no_grad():
        drawn = halves[0][network(halves[0]).argmax(1) == 4]
    shares = judge.judge_images(network, drawn, halves[1]).shares
    assert shares.shape == (10,) and shares[4] == 1 and shares.sum() == 1


def test_real_images_are_near_the_floor_and_noise_is_far_above(network, halves, floor):
    real = judge.judge_images(network, halves[0][:N], halves[1])
    assert 0.5 * floor < real.frechet < 1.5 * floor
    noise = normal(N, 1, 28, 28, dtype=torch.float32).clamp(-1, 1)
    assert judge.judge_images(network, noise, halves[1]).frechet > 5 * floor


def test_a_collapsed_sampler_is_confident_but_given_away(network, halves, floor):
    train, real = halves
    with torch.no_grad():
        best = network(train).softmax(1).max(1).values.argmax()
    noise = 0.05 * normal(N, 1, 28, 28, dtype=torch.float32)
    verdict = judge.judge_images(network, (train[best] + noise).clamp(-1, 1), real)
    assert verdict.confident > 0.95
    assert verdict.shares.max() > 0.95
    assert verdict.frechet > 5 * floor


def test_the_floor_is_the_mean_distance_of_real_images(network, halves, floor):
    """Within 5 standard errors of 40 draws of our own; the floor itself is of 20."""
    train, real = (features(network, x) for x in halves)
    rng = seeded(9)
    draws = [train[torch.randperm(len(train), generator=rng)[:N]] for _ in range(40)]
    own = torch.tensor([judge.frechet_distance(x, real) for x in draws])
    assert abs(floor - own.mean()) < 5 * own.std() * math.sqrt(1 / 20 + 1 / 40)


def test_the_floor_repeats_and_falls_with_n(network, halves, floor):
    def again(n, seed):
        return judge.frechet_floor(network, *halves, n, generator=seeded(seed))

    assert again(N, 0) == floor
    assert again(N, 1) != floor
    assert floor < again(50, 0)


def test_all_training_images_leave_nothing_to_chance(network, halves):
    train, real = halves
    got = judge.frechet_floor(network, train, real, len(train), generator=seeded())
    expected = judge.frechet_distance(features(network, train), features(network, real))
    assert got == pytest.approx(expected, rel=1e-4)


def test_the_judge_is_left_as_it_was(network, halves):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    judge.judge_images(network, halves[0][:20], halves[1][:20])
    assert_close(dict(network.state_dict()), before, rtol=0, atol=0)
    assert not network.training and all(p.grad is None for p in network.parameters())


# What was asked, and the spread within a class.


def test_the_share_as_asked_counts_the_likeliest_class():
    network, x = nets.Classifier().eval(), normal(30, 1, 28, 28, dtype=torch.float32)
    with torch.no_grad():
        seen = network(x).argmax(1)
    asked = torch.where(torch.arange(30) < 12, seen, (seen + 1) % 10)
    assert judge.as_asked(network, x, asked) == pytest.approx(0.4)
    assert judge.as_asked(network.train(), x, seen) == 1


def test_the_spread_within_a_class_leaves_out_what_lies_between_classes():
    y = torch.tensor([3, 0, 3, 0, 0])
    x, far = normal(5, 1, 2, 2), 100.0 * y.view(5, 1, 1, 1)
    variances = [np.var(x[y == k].numpy(), axis=0, ddof=1).mean() for k in (0, 3)]
    assert judge.in_class_spread(x, y) == pytest.approx(math.sqrt(np.mean(variances)), rel=1e-12)
    assert judge.in_class_spread(x + far, y) == pytest.approx(judge.in_class_spread(x, y))
    assert judge.in_class_spread(3 * x, y) == pytest.approx(3 * judge.in_class_spread(x, y))
    with pytest.raises(ValueError, match="y must hold each label at least twice"):
        judge.in_class_spread(x, torch.tensor([3, 0, 3, 0, 1]))
