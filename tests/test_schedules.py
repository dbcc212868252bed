"""Schedules, against 50-digit arithmetic, and the papers' curves."""

import math
import warnings

import mpmath
import numpy as np
import pytest
import torch
from oracles import normal, seeded
from torch.testing import assert_close

import diffusion_core as dc

TABLES = ("betas", "alphas", "alpha_bars", "marginal_vars", "posterior_vars", "snr")
BUILDERS = {
    "linear": lambda: dc.linear_schedule(1000),
    "vp": lambda: dc.vp_schedule(40),
    "cosine": lambda: dc.cosine_schedule(40),
    "constant": lambda: dc.constant_schedule(100, 0.1),
    "one step": lambda: dc.constant_schedule(1, 0.999),
}


@pytest.fixture(params=BUILDERS, ids=str)
def schedule(request):
    return BUILDERS[request.param]()


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_numbers_keep_their_digits(kind):
    """A list of Python numbers is not sent through torch's default type, float32."""
    schedule = dc.NoiseSchedule(kind([0.1, 0.9, 0.999]))
    assert schedule.betas.tolist() == [0, 0.1, 0.9, 0.999]
    schedule = dc.schedule_from_alpha_bars(kind([0.9, 0.003]))
    assert_close(schedule.alpha_bars[1:].tolist(), [0.9, 0.003], rtol=1e-12, atol=0)


def exact(betas: torch.Tensor, table: str) -> torch.Tensor:
    """Return rows 1..T of a table, computed from the betas with 50 digits."""
    with mpmath.workdps(50):
        rows, alpha_bar_prev = [], mpmath.mpf(1)
        for beta in map(mpmath.mpf, betas.tolist()):
            alpha_bar = alpha_bar_prev * (1 - beta)
            var, var_prev = 1 - alpha_bar, 1 - alpha_bar_prev
            value = {
                "alpha_bars": alpha_bar,
                "marginal_vars": var,
                # Precisions add: of the prior N(., 1 - alpha_bar_prev) and of the kernel seen back.
                "posterior_vars": 1 / (1 / var_prev + (1 - beta) / beta) if var_prev else 0,
                "snr": alpha_bar / var,
            }[table]
            rows.append(float(value))
            alpha_bar_prev = alpha_bar
    return torch.tensor(rows, dtype=torch.float64)


def test_clean_data_is_row_0(schedule):
    row = {name: getattr(schedule, name)[0].item() for name in TABLES}
    assert row == {
        "betas": 0,
        "alphas": 1,
        "alpha_bars": 1,
        "marginal_vars": 0,
        "posterior_vars": 0,
        "snr": math.inf,
    }
    assert schedule.posterior_vars[1] == 0


def test_trap_4_row_1_is_the_first_step(schedule):
    assert schedule.alpha_bars[1] == 1 - schedule.betas[1]
    assert len(schedule.betas) == schedule.T + 1


def test_trap_8_tables_are_float64_on_the_cpu(schedule):
    for name in TABLES:
        table = getattr(schedule, name)
        assert (table.dtype, table.shape, table.device.type) == (
            torch.float64,
            (schedule.T + 1,),
            "cpu",
        )


@pytest.mark.parametrize("table", ["alpha_bars", "marginal_vars", "posterior_vars", "snr"])
def test_trap_8_tables_keep_every_digit(schedule, table):
    got = getattr(schedule, table)[1:]
    assert_close(got, exact(schedule.betas[1:], table), rtol=1e-12, atol=0)


def test_trap_8_the_weight_of_x0_at_t_1_is_one():
    schedule = dc.linear_schedule(1000)
    assert_close(
        schedule.betas[1] / schedule.marginal_vars[1], torch.ones(()).double(), rtol=1e-15, atol=0
    )
    in_float32 = 1 - torch.cumprod(1 - schedule.betas.float(), 0)[1]
    assert abs(schedule.betas[1] / in_float32 - 1) > 1e-4  # what the float64 tables are for


@pytest.mark.filterwarnings("ignore::diffusion_core.PriorGapWarning")
def test_trap_7_no_valid_schedule_holds_a_nan_or_an_infinity():
    generator = seeded()
    for T in [1, 2, 3, 10, 100] * 20:
        logs = torch.rand(T, generator=generator, dtype=torch.float64)
        lowest = 20 * torch.rand(1, generator=generator, dtype=torch.float64)
        schedule = dc.NoiseSchedule(0.4 * 10 ** (-lowest * logs))
        for name in TABLES:
            assert getattr(schedule, name)[1:].isfinite().all(), name
        assert (schedule.marginal_vars[1:] > 0).all() and (schedule.snr[1:] > 0).all()
        assert (schedule.posterior_vars[2:] > 0).all()
        assert (schedule.posterior_vars <= schedule.betas).all()


@pytest.mark.filterwarnings("ignore::diffusion_core.PriorGapWarning")
def test_trap_8_tiny_betas_do_not_vanish():
    betas = torch.tensor([1e-20, 1e-20, 2e-20, 0.5], dtype=torch.float64)
    schedule = dc.NoiseSchedule(betas)
    for table in ("marginal_vars", "posterior_vars", "snr"):
        assert_close(getattr(schedule, table)[1:], exact(betas, table), rtol=1e-12, atol=0)


def test_float32_betas_are_taken_as_they_are():
    betas = torch.linspace(1e-4, 0.02, 1000)
    schedule = dc.NoiseSchedule(betas)
    assert_close(schedule.betas[1:], betas.double(), rtol=0, atol=0)


# The builders.


def test_trap_10_linear_has_its_end_points():
    betas = dc.linear_schedule(1000).betas
    assert betas[1] == 1e-4 and betas[1000] == 0.02
    assert_close(betas[1:], torch.tensor(np.linspace(1e-4, 0.02, 1000)), rtol=1e-13, atol=0)


def test_trap_9_cosine_is_finite_and_clipped():
    for T in (1, 2, 50, 4000):
        betas = dc.cosine_schedule(T).betas
        assert betas.isfinite().all() and betas[T] <= 0.999
    assert betas[T] == 0.999
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dc.PriorGapWarning)
        assert dc.cosine_schedule(10, beta_max=0.3).betas.max() == 0.3


def test_trap_10_cosine_ends_where_the_paper_says():
    """Halfway, f = cos^2 of half the (offset) angle; near the end, almost nothing is left."""
    alpha_bars = dc.cosine_schedule(1000).alpha_bars
    f = [math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2 for u in (0, 0.5, 0.99)]
    expected = torch.tensor([f[1] / f[0], f[2] / f[0]], dtype=torch.float64)
    assert_close(alpha_bars[[500, 990]], expected, rtol=1e-10, atol=0)
    assert alpha_bars[1000] < 1e-8


def test_trap_10_vp_is_one_curve_for_any_T():
    fine, coarse = dc.vp_schedule(1000), dc.vp_schedule(10)
    assert_close(coarse.alpha_bars, fine.alpha_bars[::100], rtol=1e-12, atol=0)
    assert_close(fine.alpha_bars[-1].item(), math.exp(-10.05), rtol=1e-12, atol=0)
    ddpm = dc.linear_schedule(1000)  # the same curve, but for terms of the order of 1/T
    assert_close(fine.alpha_bars, ddpm.alpha_bars, rtol=0, atol=2e-3)


def test_constant_and_given_alpha_bars_agree():
    schedule = dc.constant_schedule(50, 0.2)
    assert_close(schedule.alpha_bars[50].item(), 0.8**50, rtol=1e-12, atol=0)
    again = dc.schedule_from_alpha_bars(schedule.alpha_bars[1:])
    assert_close(again.betas, schedule.betas, rtol=1e-12, atol=0)
    assert again.alpha_bars[1] == 1 - again.betas[1]


# Where it ends.


@pytest.mark.filterwarnings("ignore::diffusion_core.PriorGapWarning")
def test_row_06_alpha_bar_falls_whatever_the_betas_do():
    """Rising, falling, or at random anywhere in (0, 1)."""
    betas = torch.rand(30, generator=seeded(), dtype=torch.float64)
    for row in (betas, betas.sort().values, betas.sort(descending=True).values):
        assert (dc.NoiseSchedule(row).alpha_bars.diff() < 0).all()


@pytest.mark.filterwarnings("ignore::diffusion_core.PriorGapWarning")
@pytest.mark.parametrize("power", [1, 2])
def test_row_06_every_start_ends_in_noise_just_where_the_sum_diverges(power):
    """beta_t = 1/(t+1)^power: the product telescopes to 1/(t+1), or to one half and a bit."""
    starts = [
        dc.mixture(torch.tensor(points, dtype=torch.float64)[:, None], var)
        for points, var in (([2.0], 0.0), ([-3.0, 1.0], 0.0), ([0.5], 9.0), ([-1.0, 4.0], 0.3))
    ]
    kls, sums = [], []
    for T in (10, 100, 1000, 10_000):
        times = torch.arange(1, T + 1, dtype=torch.float64)
        schedule = dc.NoiseSchedule(1 / (times + 1) ** power)
        product = 1 / (times + 1) if power == 1 else (times + 2) / (2 * (times + 1))
        assert_close(schedule.alpha_bars[1:], product, rtol=1e-11, atol=0)
        kls.append([dc.prior_kl(schedule, start) for start in starts])
        sums.append(-torch.log1p(-schedule.betas).sum().item())
    kls = torch.tensor(kls)
    if power == 1:
        assert sums[-1] - sums[-2] > 2  # ten times as many steps add ln 10, for ever
        assert (kls.diff(dim=0) < 0).all() and (kls[-1] < 1e-3).all()
    else:
        assert sums[-1] < math.log(2)
        assert (kls[-1] > 0.05).all()
        assert_close(kls[-1], kls[-2], rtol=0.01, atol=0)


# The prior gap.


def test_trap_1_a_cut_schedule_warns():
    for T, alpha_bar_T in ((50, 0.60), (200, 0.13)):
        with pytest.warns(dc.PriorGapWarning):
            schedule = dc.linear_schedule(T)
        assert_close(schedule.alpha_bars[T].item(), alpha_bar_T, rtol=0, atol=0.005)


def test_trap_1_schedules_that_reach_noise_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for T in (1, 2, 5, 100, 1000):
            assert dc.prior_gap(dc.vp_schedule(T)) < 0.01
            assert dc.prior_gap(dc.cosine_schedule(T)) < 0.01
        assert dc.prior_gap(dc.linear_schedule(1000)) < 1e-4


@pytest.mark.filterwarnings("ignore::diffusion_core.PriorGapWarning")
def test_trap_1_prior_gap_is_the_mean_kl_in_bits():
    """The KL of q(x_T | x_0) to N(0, 1), by torch, averaged over x_0."""
    schedule, x0 = dc.linear_schedule(50), 2 * normal(1000, 1)
    q = dc.q_marginal(schedule, x0, schedule.T)
    scale = q.var.sqrt().expand_as(q.mean)
    prior = torch.distributions.Normal(torch.zeros_like(q.mean), torch.ones_like(q.mean))
    kl = torch.distributions.kl_divergence(torch.distributions.Normal(q.mean, scale), prior)
    gap = dc.prior_gap(schedule, second_moment=x0.square().mean().item())
    assert_close(gap, kl.mean().item() / math.log(2), rtol=1e-10, atol=0)


@pytest.mark.filterwarnings("ignore::diffusion_core.PriorGapWarning")
@pytest.mark.parametrize("beta", [1e-20, 1e-3, 0.5, 0.999])
def test_trap_1_prior_gap_is_exact_from_no_noise_to_all_noise(beta):
    schedule = dc.constant_schedule(10, beta)
    for m in (0.0, 1.0, 3.0):
        with mpmath.workdps(60):
            a = (1 - mpmath.mpf(beta)) ** 10
            expected = (a * (m - 1) - mpmath.log(1 - a)) / (2 * mpmath.log(2))
        assert_close(dc.prior_gap(schedule, m), float(expected), rtol=1e-9, atol=1e-15)


# at()


def test_at_broadcasts_over_the_rest_of_x():
    table = torch.arange(5, dtype=torch.float64)
    x = torch.zeros(2, 3, 4)
    got = dc.at(table, torch.tensor([4, 1]), x)
    assert got.shape == (2, 1, 1)
    assert_close(got.flatten(), torch.tensor([4.0, 1.0]), rtol=0, atol=0)
    for t in (3, torch.tensor(3)):
        got = dc.at(table, t, x)
        assert got.shape == (1, 1, 1) and got.item() == 3


def test_at_takes_x_dtype_and_device(device):
    table = torch.tensor([0.0, 1 / 3], dtype=torch.float64)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        x = torch.zeros(2, 1, dtype=dtype, device=device)
        got = dc.at(table, torch.tensor([1, 1], device=device), x)
        assert got.dtype == dtype and got.device.type == device.type
        assert_close(got.cpu(), torch.full((2, 1), 1 / 3, dtype=dtype), rtol=0, atol=0)
    assert table.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint8])
def test_at_accepts_any_integer_t(dtype):
    t = torch.tensor([1, 2], dtype=dtype)
    got = dc.at(torch.arange(3).double(), t, torch.zeros(2))
    assert_close(got, torch.tensor([1.0, 2.0]), rtol=0, atol=0)
