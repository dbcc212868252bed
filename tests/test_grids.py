"""Grids of noise levels: their spacing, as schedules of their own, and rounded to rows."""

import itertools

import pytest
import torch
from torch.testing import assert_close

import diffusion_core as dc

COSINE = dc.cosine_schedule(1000)


def test_geometric_levels_are_evenly_spaced_in_log_snr():
    levels = dc.geometric_levels(20.0, 0.05, 10)
    assert_close(levels[[0, -1]], torch.tensor([20.0, 0.05], dtype=torch.float64))
    gaps = levels.log().diff()
    assert_close(gaps, gaps[:1].expand(9), rtol=1e-12, atol=0)


def test_karras_levels_lie_between_even_ones_and_geometric_ones():
    grids = [dc.karras_levels(80.0, 0.002, 9, rho=rho) for rho in (1.0, 7.0, 1e5)]
    for levels in grids:
        assert_close(levels[[0, -1]], torch.tensor([80.0, 0.002], dtype=torch.float64))
    assert_close(grids[0], torch.linspace(80, 0.002, 9, dtype=torch.float64))
    geometric = dc.geometric_levels(80.0, 0.002, 9)
    assert_close(grids[2], geometric, rtol=1e-3, atol=0)
    assert (geometric[1:-1] < grids[1][1:-1]).all() and (grids[1][1:-1] < grids[0][1:-1]).all()


def test_karras_levels_agree_with_diffusers():
    from diffusers import EulerDiscreteScheduler

    theirs = EulerDiscreteScheduler()._convert_to_karras(torch.tensor([80.0, 0.002]).numpy(), 12)
    assert_close(
        dc.karras_levels(80.0, 0.002, 12), torch.tensor(theirs).double(), rtol=1e-5, atol=0
    )


@pytest.mark.filterwarnings("ignore::diffusion_core.PriorGapWarning")
@pytest.mark.parametrize("levels", [[3.0], [20.0, 1.0, 1e-6], dc.geometric_levels(50, 0.01, 10)])
def test_a_schedule_has_the_levels_it_was_made_from(levels):
    schedule = dc.schedule_from_noise_levels(levels)
    wanted = torch.as_tensor(levels, dtype=torch.float64).flip(0)
    assert_close(schedule.snr[1:].rsqrt(), wanted, rtol=1e-12, atol=0)
    assert_close(schedule.alpha_bars[1:], 1 / (1 + wanted**2), rtol=1e-12, atol=0)


def test_trap_B18_noisy_data_is_the_data_and_noise():
    """Its components' variances grow by noise_level^2: nothing is "annealed" by shrinking them."""
    data = dc.mixture(torch.tensor([[-5.0, -5.0], [5.0, 5.0]], dtype=torch.float64), 0.3)
    schedule = dc.schedule_from_noise_levels([20.0, 4.0, 0.5])
    for t, level in ((1, 0.5), (2, 4.0), (3, 20.0)):
        q, alpha_bar = dc.diffuse(schedule, data, t), schedule.alpha_bars[t]
        assert_close(q.vars / alpha_bar, data.vars + level**2)
        assert_close(q.means / alpha_bar.sqrt(), data.means)


def test_a_low_start_is_warned_about():
    with pytest.warns(dc.PriorGapWarning):
        dc.schedule_from_noise_levels([8.0, 0.1])
    dc.schedule_from_noise_levels([9.0, 0.1])


@pytest.mark.parametrize("count", [2, 10, 50, 1000])
def test_trap_B42_rows_fall_strictly_and_none_is_lost(count):
    """With as many levels as rows every row is taken, however the levels bunch."""
    grid = dc.geometric_levels(20.0, 0.02, count)
    for levels in (grid, 8 + grid, 1e-3 * grid, 1e6 * grid):
        taus = dc.nearest_taus(COSINE, levels)
        assert all(type(tau) is int for tau in taus)
        assert len(taus) == count + 1 and 1000 >= taus[0] and taus[-1] == 0
        assert all(a > b for a, b in itertools.pairwise(taus))
    assert count < 1000 or taus == list(range(1000, -1, -1))


def test_rows_are_the_nearest_ones():
    levels = dc.geometric_levels(20.0, 0.02, 10)
    taus = dc.nearest_taus(COSINE, levels)[:-1]
    rows = COSINE.snr.rsqrt().log()
    for tau, level in zip(taus, levels.log(), strict=True):
        error = (rows[tau] - level).abs()
        assert error <= (rows[tau - 1] - level).abs() and error <= (rows[tau + 1] - level).abs()
    exact = COSINE.snr[[900, 500, 3]].rsqrt()
    assert dc.nearest_taus(COSINE, exact) == [900, 500, 3, 0]
