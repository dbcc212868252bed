"""SDEs, against their discrete chains, moments in closed form and exactly diffused mixtures."""

import itertools
import math

import pytest
import torch
from oracles import assert_mean, normal, seeded
from torch.testing import assert_close

import diffusion_core as dc

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

VP, VE = dc.vp_sde(), dc.ve_sde(0.02, 10.0)
SDES = {"vp": VP, "ve": VE}
EVERY = pytest.mark.parametrize("sde", SDES.values(), ids=SDES)
DATA = dc.mixture(
    torch.tensor([[-1.5, 0.0], [1.0, 1.0]], dtype=torch.float64), 0.1, torch.tensor([0.3, 0.7])
)


def last(states):
    *_, end = states
    return end


def even(steps: int, start: float = 0.0, end: float = 1.0) -> torch.Tensor:
    return torch.linspace(start, end, steps + 1, dtype=torch.float64)


def slope(errors) -> list[float]:
    """Return the orders that errors at steps 1, 1/2, 1/4, .. show."""
    return [math.log2(a / b) for a, b in itertools.pairwise(errors)]


def sde(drift, diffusion) -> dc.SDE:
    """Return an SDE of functions of x alone."""
    return dc.SDE(lambda x, time: drift(x), lambda x, time: diffusion(x))


# The Wiener process.


def test_row_30_a_wiener_process_has_the_covariance_of_the_earlier_time():
    times = torch.tensor([0.0, 0.1, 0.4, 0.5, 2.0], dtype=torch.float64)
    x = torch.zeros(40_000, dtype=torch.float64)
    paths = dc.wiener_increments(times, x, generator=seeded()).cumsum(0)
    assert paths.shape == (4, 40_000)
    assert_mean(paths.T, 0.0)
    for i, j in itertools.product(range(4), repeat=2):
        assert_mean(paths[i] * paths[j], times[1:][min(i, j)])


def test_row_30_traps_B20_and_B21_quadratic_variation_is_time_and_increments_are_normal():
    """Noise times noise has the right variance and a kurtosis of 9; dt for its root has neither."""
    n, x = 500, torch.zeros(4000, dtype=torch.float64)
    dw = dc.wiener_increments(even(n), x, generator=seeded())
    variation = dw.square().sum(0)
    assert_mean(variation, 1.0)
    assert abs(variation.std() / math.sqrt(2 / n) - 1) < 0.05
    scaled = (dw.flatten() * math.sqrt(n)).double()
    assert_mean(scaled**4, 3.0)


def test_increments_are_of_the_length_of_each_span_in_either_direction():
    times, x = [1.0, 0.9, 0.5, 0.0], torch.zeros(40_000, dtype=torch.float64)
    dw = dc.wiener_increments(times, x, generator=seeded())
    assert_mean(dw.square().T, [0.1, 0.4, 0.5])


# Euler-Maruyama.


def test_row_31_one_step_is_drift_and_noise():
    equation = dc.SDE(lambda x, time: time * x, lambda x, time: 2 + x)
    x, dw = normal(5, 3), normal(2, 5, 3, seed=2)
    first = x + 0.5 * 0.3 * x + (2 + x) * dw[0]
    second = first + 2.5 * 0.8 * first + (2 + first) * dw[1]
    got = list(dc.euler_maruyama(equation, x, [0.3, 0.8, 3.3], increments=dw))
    assert_close(got, [first, second])


@pytest.mark.parametrize(
    "noise, wanted", [("additive", 1.0), ("in time", 1.0), ("multiplicative", 0.5)]
)
def test_row_31_strong_orders_on_a_coupled_path(noise, wanted):
    """The same Wiener paths, summed in pairs, and 16 times as many steps for the truth."""
    x, finest = torch.ones(2000, dtype=torch.float64), 1024
    equation = {
        "additive": sde(lambda x: -x, lambda x: 1.0),
        "in time": dc.SDE(lambda x, time: -x, lambda x, time: 1 + math.sin(3 * time)),
        "multiplicative": sde(lambda x: -x, lambda x: x),
    }[noise]
    dw = dc.wiener_increments(even(finest), x, generator=seeded())
    if noise == "multiplicative":  # known: x_0 exp((a - b^2 / 2) time + b w)
        truth = torch.exp(-1.5 + dw.sum(0))
    else:
        truth = last(dc.euler_maruyama(equation, x, even(finest), increments=dw))
    errors = []
    for steps in (8, 16, 32, 64):
        summed = dw.view(steps, finest // steps, -1).sum(1)
        end = last(dc.euler_maruyama(equation, x, even(steps), increments=summed))
        errors.append((end - truth).square().mean().sqrt().item())
    assert abs(sum(slope(errors)) / 3 - wanted) < 0.1, slope(errors)


def test_row_31_weak_order_1_by_moments_and_by_simulation():
    """E x of dx = -x dtime + x dw: (1 - h)^n by hand for e^-1, and the simulation agrees."""
    equation = sde(lambda x: -x, lambda x: 0.5 * x)
    x, errors = torch.ones(100_000, dtype=torch.float64), []
    for steps in (4, 8, 16):
        end = last(dc.euler_maruyama(equation, x, even(steps), generator=seeded()))
        by_hand = (1 - 1 / steps) ** steps
        assert_mean(end, by_hand)
        second = ((1 - 1 / steps) ** 2 + 0.25 / steps) ** steps
        assert_mean(end**2, second)
        low, high = (end.mean() + k * 3 * end.std() / math.sqrt(len(end)) for k in (-1, 1))
        bounds = [(math.exp(-1) - m).item() for m in (high, low)]  # a confidence interval
        assert bounds[0] <= math.exp(-1) - by_hand <= bounds[1]
        errors.append(math.exp(-1) - by_hand)
    assert all(abs(s - 1) < 0.15 for s in slope(errors))


def test_increments_drawn_beforehand_are_those_drawn_on_the_way():
    x, times = normal(6, 2), even(5)
    dw = dc.wiener_increments(times, x, generator=seeded())
    a = list(dc.euler_maruyama(VP, x, times, increments=dw))
    b = list(dc.euler_maruyama(VP, x, times, generator=seeded()))
    assert_close(a, b, rtol=0, atol=0)


@EVERY
def test_trap_B22_as_many_steps_as_times_whatever_the_batch(sde):
    x, times = normal(6, 2), even(4)
    dw = dc.wiener_increments(times, x, generator=seeded())
    whole = list(dc.euler_maruyama(sde, x, times, increments=dw))
    part = list(dc.euler_maruyama(sde, x[:2], times, increments=dw[:, :2]))
    assert len(whole) == len(part) == 4
    assert_close([state[:2] for state in whole], part, rtol=0, atol=0)


def test_an_equation_without_noise_draws_nothing_and_langevin_is_one_with_noise_1():
    x = normal(4, 2)
    flow = dc.probability_flow(VP, dc.mixture_score(VP, DATA))
    list(dc.euler_maruyama(flow, x, even(3, 1.0, 0.0)))  # the global generator is watched
    langevin = dc.SDE(lambda x, time: DATA.score(x) / 2, lambda x, time: 1.0)
    end = last(dc.euler_maruyama(langevin, x, [0.0, 0.3], generator=seeded()))
    assert_close(end, dc.langevin_step(DATA.score, x, 0.3, generator=seeded()))


@EVERY
def test_the_loop_keeps_dtype_and_device_and_no_gradients(sde, device):
    x = normal(4, 1, 2, 2, dtype=torch.float32).to(device).requires_grad_()
    for state in dc.euler_maruyama(sde, x, even(3), generator=seeded()):
        assert torch.is_grad_enabled() and not state.requires_grad
        assert (state.dtype, state.device, state.shape) == (x.dtype, x.device, x.shape)


# VP and VE.


def test_row_35_ddpm_tends_to_vp_as_1_over_the_number_of_steps():
    """The product of 1 - beta(time) / T against exp(-integral); at the end and on the way."""
    errors = []
    for T in (100, 200, 400, 800, 1600):
        time = torch.arange(1, T + 1, dtype=torch.float64) / T
        schedule = dc.NoiseSchedule((0.1 + 19.9 * time) / T)
        exact = torch.tensor([VP.marginal(s.item())[0] ** 2 for s in time], dtype=torch.float64)
        gap = (schedule.alpha_bars[1:].log() - exact.log()).abs()
        errors.append(gap[-1].item())
        assert (gap <= gap[-1] * (1 + 1e-9)).all()
    slopes = slope(errors)
    assert all(0.95 < s < 1.15 for s in slopes), slopes


def test_vp_has_the_curve_of_its_schedule():
    schedule = dc.vp_schedule(50)
    for t in range(51):
        scale, std = VP.marginal(t / 50)
        wanted = [scale, std], schedule.marginal_factors.table[t]
        assert_close(
            torch.tensor(wanted[0], dtype=torch.float64), wanted[1], rtol=1e-12, atol=1e-12
        )


@EVERY
def test_row_35_the_moments_follow_from_drift_and_diffusion(sde):
    """d mean = drift, d var = 2 slope var + diffusion^2: derivatives of the marginal, by points."""
    zeros, ones = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    h = 1e-5
    for time in (0.1, 0.5, 0.9):
        (a0, b0), (a, b), (a1, b1) = (sde.marginal(time + k * h) for k in (-1, 0, 1))
        slope = (sde.drift(ones, time) - sde.drift(zeros, time)).item()
        assert_close((a1 - a0) / (2 * h), slope * a, rtol=1e-6, atol=1e-9)
        noise = sde.diffusion(zeros, time) ** 2
        growth = (b1**2 - b0**2) / (2 * h)
        assert_close(growth, 2 * slope * b**2 + noise, rtol=1e-6, atol=1e-9)


def test_row_35_ncsn_tends_to_ve_as_1_over_the_number_of_levels():
    """The levels' own differences of squares are exact; the sum of g^2 at steps' ends is above."""
    zero, errors = torch.zeros(1, dtype=torch.float64), []
    for n in (100, 200, 400):
        grown = sum(VE.diffusion(zero, t / n) ** 2 / n for t in range(1, n + 1))
        assert grown > 10.0**2 - 0.02**2  # g rises
        errors.append(grown - (10.0**2 - 0.02**2))
        levels = dc.geometric_levels(10.0, 0.02, n + 1).flip(0)
        added = (levels[1:].square() - levels[:-1].square()).cumsum(0)
        exact = [VE.marginal((i + 1) / n)[1] ** 2 for i in range(n)]
        assert_close(added, added.new_tensor(exact), rtol=1e-9, atol=1e-12)
    assert all(abs(s - 1) < 0.1 for s in slope(errors))


@pytest.mark.parametrize("time", [1e-3, 1e-4, 1e-5, 1e-9])
def test_trap_B32_the_noise_near_time_0_keeps_its_digits(time):
    """sqrt(1 - exp(..)) in float32 loses 2.4 % at time 1e-5. Here: 1 - e^-u = u - u^2/2 + u^3/6."""
    u = 0.1 * time + 9.95 * time**2
    assert_close(VP.marginal(time)[1], math.sqrt(u - u**2 / 2 + u**3 / 6), rtol=1e-9, atol=0)
    u = 2 * time * math.log(500)
    assert_close(VE.marginal(time)[1], 0.02 * math.sqrt(u + u**2 / 2 + u**3 / 6), rtol=1e-7, atol=0)


def test_trap_B34_steps_are_the_grids_own_differences():
    """An uneven grid: with dt = 1/N the sum of steps would not end at its last time."""
    equation = sde(torch.ones_like, lambda x: 0.0)
    x = torch.zeros(1, dtype=torch.float64)
    states = list(dc.euler_maruyama(equation, x, [1.0, 0.9, 0.2, 1e-3]))
    assert_close(torch.cat(states), torch.tensor([-0.1, -0.8, -0.999], dtype=torch.float64))
