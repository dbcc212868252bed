"""Pairs of data and noise: every permutation tried, closed forms of a Gaussian, straightness."""

import itertools
import math

import pytest
import torch
from oracles import assert_mean, normal, seeded
from torch.testing import assert_close

import diffusion_core as dc

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

DATA = dc.mixture(torch.tensor([[-1.5, 0.0], [1.0, 1.0], [0.5, -1.0]], dtype=torch.float64), 0.05)
FLOW = dc.straight_flow(dc.mixture_velocity(DATA))
M, STD = 0.7, 0.3
BELL = dc.mixture(torch.tensor([[M]], dtype=torch.float64), STD**2)
BELL_FLOW = dc.straight_flow(dc.mixture_velocity(BELL))
NOISE = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]


def costs(x0, eps):
    return (x0 - eps).square().sum(1)


def rectified(x, time):
    """The velocity between z and M + STD z on straight lines, which are the bell's own pairs."""
    time = time[:, None]
    z = (x - (1 - time) * M) / ((1 - time) * STD + time)
    return z - (M + STD * z)


# Straightness.


def test_row_56_the_defect_of_a_gaussians_flow_by_quadrature():
    """x = (1 - time) m + sqrt(V) z with V = (1 - time)^2 s^2 + time^2: its velocity by hand."""
    time = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    slope = (time - (1 - time) * STD**2) / ((1 - time) ** 2 * STD**2 + time**2).sqrt()
    chord = NOISE - (M + STD * NOISE)
    wanted = torch.trapezoid((slope * NOISE - M - chord).square(), time)
    assert wanted.max() > 0.05
    found = dc.straightness_defect(BELL_FLOW, NOISE, tolerance=1e-9)
    assert_close(found, wanted, rtol=0, atol=1e-7)


def test_row_56_the_defect_is_the_mean_square_distance_from_the_chord_on_a_fine_path():
    eps, times = normal(8, 2), torch.linspace(1, 0, 201, dtype=torch.float64)
    states = torch.stack([eps, *dc.euler_maruyama(dc.heun_flow(FLOW, times), eps, times)])
    slopes = torch.stack([FLOW.drift(x, t) for x, t in zip(states, times.tolist(), strict=True)])
    apart = (slopes - (states[0] - states[-1])).square().sum(2)
    wanted = torch.trapezoid(apart.flip(0), times.flip(0), dim=0)
    found = dc.straightness_defect(FLOW, eps, tolerance=1e-8)
    assert (found > 0).all()
    assert_close(found, wanted, rtol=2e-3, atol=1e-4)
    as_images = dc.straightness_defect(FLOW, eps.reshape(8, 1, 2, 1), tolerance=1e-8)
    assert_close(as_images, found, rtol=1e-6, atol=1e-6)


def test_row_56_trap_B65_the_marginal_paths_are_curved_and_those_of_their_own_pairs_are_not():
    before = dc.straightness_defect(BELL_FLOW, NOISE, tolerance=1e-9)
    after = dc.straightness_defect(dc.straight_flow(rectified), NOISE, tolerance=1e-9)
    assert before.mean() > 0.05
    assert_close(after, torch.zeros_like(after), rtol=0, atol=1e-9)


# Reflow.


def test_row_56_the_pairs_of_a_gaussians_flow_in_closed_form():
    pairs = dc.reflow_pairs(BELL_FLOW, NOISE, tolerance=1e-9)
    assert_close(pairs.eps, NOISE, rtol=0, atol=0)
    assert_close(pairs.x0, M + STD * NOISE, rtol=0, atol=1e-8)


def test_row_56_after_one_reflow_of_a_gaussian_one_step_is_enough_and_the_pairs_stay():
    flow = dc.straight_flow(rectified)
    (end,) = dc.euler_maruyama(flow, NOISE, [1.0, 0.0])
    assert_close(end, M + STD * NOISE, rtol=1e-12, atol=1e-12)
    assert_close(dc.reflow_pairs(flow, NOISE, tolerance=1e-9).x0, end, rtol=0, atol=1e-8)


def test_row_56_the_regression_on_its_own_pairs_finds_the_rectified_velocity():
    """Each x on a line has one velocity: nothing is left of the loss."""
    pairs = dc.reflow_pairs(BELL_FLOW, NOISE, tolerance=1e-9)
    options = {"eps": pairs.eps, "generator": seeded()}
    assert dc.flow_loss(rectified, pairs.x0, **options) < 1e-14
    assert dc.flow_loss(dc.mixture_velocity(BELL), pairs.x0, **options) > 1e-3


def test_row_56_reflow_keeps_both_laws_and_brings_the_pairs_nearer():
    n = 4000
    eps, x0 = normal(n, 2, seed=2), DATA.sample(n, generator=seeded())
    pairs = dc.reflow_pairs(FLOW, eps, tolerance=1e-5)
    mean = DATA.weights @ DATA.means
    spread = DATA.weights @ (DATA.means - mean).square() + 0.05
    assert_mean(pairs.x0, mean)
    assert_mean((pairs.x0 - mean).square(), spread)
    near = torch.cdist(pairs.x0, DATA.means).argmin(1)
    assert_mean(torch.nn.functional.one_hot(near, 3).double(), [1 / 3] * 3, bias=0.01)
    gain = costs(x0, eps) - costs(*pairs)
    assert gain.mean() > 5 * gain.std() / math.sqrt(n)


# Optimal transport.


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6])
def test_row_57_no_permutation_is_cheaper(n):
    for seed in range(5):
        x0, eps = normal(n, 2, seed=seed), normal(n, 2, seed=seed + 50)
        best = min(costs(x0, eps[list(order)]).sum() for order in itertools.permutations(range(n)))
        found = dc.optimal_pairing(x0, eps)
        assert found.dtype == torch.int64
        assert_close(costs(x0, eps[found]).sum(), best, rtol=1e-12, atol=0)


def test_row_57_on_a_line_it_sorts():
    x0, eps = normal(40, 1), normal(40, 1, seed=2)
    order = x0[:, 0].argsort()
    assert_close(eps[dc.optimal_pairing(x0, eps)][order], eps.sort(0).values, rtol=0, atol=0)


@pytest.mark.parametrize("labelled", [False, True])
def test_row_57_trap_B68_each_noise_is_used_once(labelled):
    x0, eps = normal(200, 1, 2, 2, dtype=torch.float32), normal(200, 1, 2, 2, dtype=torch.float32)
    y = torch.arange(200) % 3 if labelled else None
    found = dc.optimal_pairing(x0 + 1, eps.flip(0), y)
    assert found.sort().values.tolist() == list(range(200))


def test_row_57_within_a_label_no_permutation_is_cheaper_and_none_leaves_it():
    x0, eps, y = normal(7, 2), normal(7, 2, seed=2), torch.tensor([0, 1, 0, 1, 1, 0, 7])
    found = dc.optimal_pairing(x0, eps, y)
    assert (y[found] == y).all()
    allowed = [list(p) for p in itertools.permutations(range(7)) if (y[list(p)] == y).all()]
    assert len(allowed) == 36
    best = min(costs(x0, eps[p]).sum() for p in allowed)
    assert_close(costs(x0, eps[found]).sum(), best, rtol=1e-12, atol=0)


def test_row_57_trap_B69_across_classes_the_noise_tells_the_label_and_within_it_does_not():
    """Two classes left and right of 0, batch after batch: the noise that one of them gets."""
    across, within, y = [], [], torch.arange(32) % 2
    for seed in range(60):
        x0, eps = 0.3 * normal(32, 2, seed=seed), normal(32, 2, seed=seed + 100)
        x0[:, 0] += 3.0 * y - 1.5
        across.append(eps[dc.optimal_pairing(x0, eps)][y == 1])
        within.append(eps[dc.optimal_pairing(x0, eps, y)][y == 1])
    assert torch.cat(across)[:, 0].mean() > 0.6
    assert_mean(torch.cat(within), 0.0)
    assert_mean(torch.cat(within).square(), 1.0)
