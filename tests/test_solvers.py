"""Solvers: exact where they must be, orders measured, calls counted, and another library."""

import functools
import itertools
import math

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from oracles import assert_mean, normal, seeded
from torch.testing import assert_close

import diffusion_core as dc

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

SCHEDULE = dc.vp_schedule(20)
DATA = dc.mixture(
    torch.tensor([[-1.5, 0.0], [1.0, 1.0], [0.5, -1.0]], dtype=torch.float64),
    torch.tensor([0.05, 0.1, 0.2]),
    torch.tensor([0.5, 0.3, 0.2]),
)
SOLVERS = {"euler": lambda: dc.ddim_step, "heun": lambda: dc.heun_step, "2m": dc.dpm_solver_2m}
ORDERS = {"euler": 1, "heun": 2, "2m": 2}
EVERY = pytest.mark.parametrize("name", SOLVERS)
STEPS = SOLVERS | {"pc": lambda: dc.predictor_corrector_step}


class Counted:
    """An eps_model that counts its calls."""

    def __init__(self, eps_model=None) -> None:
        self.eps_model, self.calls = eps_model or (lambda x_t, t: torch.tanh(x_t)), 0

    def __call__(self, x_t, t):
        self.calls += 1
        return self.eps_model(x_t, t)


def last(steps) -> dc.Step:
    *_, end = steps
    return end


def tables(schedule):
    """Return sqrt(alpha_bar), noise level and log SNR / 2 of each row."""
    return schedule.alpha_bars.sqrt(), schedule.snr.rsqrt(), schedule.snr.log() / 2


# One step.


@pytest.mark.parametrize("t, s", [(20, 13), (13, 1), (1, 0), (20, 0)])
def test_row_39_ddim_is_eulers_step_in_the_noise_level(t, s):
    """y = x / sqrt(alpha_bar) moves by the change of level times eps_hat, for any network."""
    scale, level, _ = tables(SCHEDULE)
    x_t = normal(6, 2)
    x_s = dc.ddim_step(SCHEDULE, lambda x, t: torch.tanh(x), x_t, t, s).x_t
    y = x_t / scale[t] + (level[s] - level[t]) * torch.tanh(x_t)
    assert_close(x_s / scale[s], y, rtol=1e-12, atol=1e-12)


def test_row_40_heun_is_exact_for_a_slope_that_is_linear_in_the_noise_level():
    scale, level, _ = tables(SCHEDULE)
    a, b, x_t = normal(6, 2, seed=2), normal(6, 2, seed=3), normal(6, 2)
    step = dc.heun_step(SCHEDULE, lambda x, t: a + b * level[t, None], x_t, 17, 4)
    y = x_t / scale[17] + a * (level[4] - level[17]) + b * (level[4] ** 2 - level[17] ** 2) / 2
    assert_close(step.x_t / scale[4], y, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("taus", [(20, 13, 12), (20, 19, 5), (9, 4, 3)], ids=str)
def test_row_41_trap_B39_2m_looks_half_a_step_ahead_however_long_the_steps_are(taus):
    """For an x0_hat that is linear in l = log SNR / 2, D is that at l_t + h / 2. A ratio of steps
    turned upside down shows where they differ; the order on an even grid does not show it."""
    scale, level, half = tables(SCHEDULE)
    a, b, x_T = normal(6, 2, seed=2), normal(6, 2, seed=3), normal(6, 2)

    def eps_model(x_t, t):
        x0 = a + b * half[t, None]
        return (x_t - scale[t, None] * x0) / (scale * level)[t, None]

    r, t, s = taus
    step = dc.dpm_solver_2m()
    x_t = step(SCHEDULE, eps_model, x_T, r, t).x_t
    x_s = step(SCHEDULE, eps_model, x_t, t, s).x_t
    left = (scale * level)[s] / (scale * level)[t]
    ahead = (x_s - left * x_t) / (scale[s] - left * scale[t])
    assert_close(ahead, a + b * (half[t] + half[s]) / 2, rtol=1e-9, atol=1e-9)


# The flow: orders and the last jump.

NOISE = 20 * normal(50, 2)
HIGH, LOW = 20.0, 0.05


def grid(name: str, steps: int) -> torch.Tensor:
    """Return steps + 1 levels, even in log SNR or with steps in turn long and short (3 : 1)."""
    if name == "even":
        return dc.geometric_levels(HIGH, LOW, steps + 1)
    lengths = torch.tensor([3.0, 1.0] * (steps // 2), dtype=torch.float64)
    share = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]) / lengths.sum()
    return HIGH * (LOW / HIGH) ** share


def walked(step, levels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return y at the lowest level, and the sample after the last step to 0, from y = NOISE."""
    schedule = dc.schedule_from_noise_levels(levels)
    x_T = NOISE * schedule.alpha_bars[-1].sqrt()
    *_, low, end = dc.sample_chain(step, schedule, dc.mixture_eps_model(schedule, DATA), x_T)
    return low.x_t / schedule.alpha_bars[1].sqrt(), end.x_t


@functools.cache
def flow(lowest: float) -> torch.Tensor:
    """Return y at a level by the adaptive solver: dy / dlevel = -level score of noisy data."""

    def slope(y, level):
        return -level * dc.Mixture(DATA.means, DATA.vars + level**2, DATA.weights).score(y)

    return dc.solve_ode(slope, NOISE, HIGH, lowest, tolerance=1e-11).x


def slopes(errors) -> list[float]:
    return [math.log2(a / b) for a, b in itertools.pairwise(errors)]


@pytest.mark.parametrize("spacing", ["even", "uneven"])
@pytest.mark.parametrize("name", [n for n in SOLVERS])
def test_row_40_41_orders_down_to_the_lowest_level(name, spacing):
    errors = []
    for steps in (80, 160, 320):
        low, _ = walked(SOLVERS[name](), grid(spacing, steps))
        errors.append((low - flow(LOW)).square().mean().sqrt().item())
    assert abs(slopes(errors)[-1] - ORDERS[name]) < 0.1, slopes(errors)


@pytest.mark.parametrize("name", ["heun", "2m"])
def test_trap_B38_the_jump_from_the_lowest_level_to_0_has_an_error_of_its_own(name):
    """However many steps lead there: order 2 is gone, and the error is that of one denoising."""
    errors, truth = [], flow(0.0)
    for steps in (80, 160, 320):
        _, end = walked(SOLVERS[name](), grid("even", steps))
        errors.append((end - truth).square().mean().sqrt().item())
    assert slopes(errors)[-1] < 1
    schedule = dc.schedule_from_noise_levels(grid("even", 80))
    eps_model, x_1 = dc.mixture_eps_model(schedule, DATA), flow(LOW) * schedule.alpha_bars[1].sqrt()
    jump = dc.ddim_step(schedule, eps_model, x_1, 1, 0).x_t - truth
    assert_close(jump.square().mean().sqrt().item(), errors[-1], rtol=0.1, atol=0)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("steps", [1, 2, 7, 20])
def test_trap_B37_the_last_step_is_x0_hat_for_any_number_of_steps(name, steps):
    """ln SNR is infinite at t = 0: no NaN, no noise left, no step of length 0."""
    eps_model = dc.mixture_eps_model(SCHEDULE, DATA)
    options = {"generator": seeded()} if name == "pc" else {}
    taus = dc.even_taus(20, steps)
    x_t = normal(6, 2)
    chain = dc.sample_chain(STEPS[name](), SCHEDULE, eps_model, x_t, taus, **options)
    *_, before, end = [dc.Step(20, x_t, x_t), *chain]
    assert end.t == 0 and end.x_t.isfinite().all()
    assert_close(end.x_t, end.x0_hat, rtol=0, atol=0)
    x0_hat = dc.ddim_step(SCHEDULE, eps_model, before.x_t, taus[-2], 0).x0_hat
    assert_close(end.x0_hat, x0_hat, rtol=0, atol=0)


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_trap_B41_calls_of_the_network(steps):
    """Heun needs none at t = 0, where no network answers."""
    wanted = {"euler": steps, "heun": 2 * steps - 1, "2m": steps, "pc": 2 * steps - 1}
    for name, make in STEPS.items():
        eps_model = Counted()
        options = {"generator": seeded()} if name == "pc" else {}
        taus = dc.even_taus(20, steps)
        list(dc.sample_chain(make(), SCHEDULE, eps_model, normal(3, 2), taus, **options))
        assert eps_model.calls == wanted[name], name


def test_trap_B40_of_ten_calls_2m_makes_more_than_euler_and_euler_more_than_heun():
    """By the error of the flow at the lowest level, from 20 to 0.05, log SNR even."""
    errors = {}
    for name, steps in (("euler", 10), ("2m", 10), ("heun", 5)):
        low, _ = walked(SOLVERS[name](), grid("even", steps))
        errors[name] = (low - flow(LOW)).square().mean().sqrt().item()
    assert errors["2m"] < 0.6 * errors["euler"] and errors["euler"] < errors["heun"]


# A step with a memory.


def test_2m_starts_anew_where_t_is_not_where_it_left():
    eps_model, step = Counted(), dc.dpm_solver_2m()
    x_t = normal(6, 2)
    first = step(SCHEDULE, eps_model, x_t, 20, 15)
    for t, s in ((20, 15), (14, 3), (16, 15)):  # elsewhere: Euler's step
        step(SCHEDULE, eps_model, x_t, 20, 15)
        assert_close(
            step(SCHEDULE, eps_model, x_t, t, s), dc.ddim_step(SCHEDULE, eps_model, x_t, t, s)
        )
    step(SCHEDULE, eps_model, x_t, 20, 15)
    goes_on = step(SCHEDULE, eps_model, first.x_t, 15, 3)
    euler = dc.ddim_step(SCHEDULE, eps_model, first.x_t, 15, 3)
    assert not torch.allclose(goes_on.x_t, euler.x_t)
    for other in (dc.vp_schedule(40), dc.cosine_schedule(20)):  # another schedule is elsewhere, too
        step(SCHEDULE, eps_model, x_t, 20, 15)
        assert_close(step(other, eps_model, x_t, 15, 3), dc.ddim_step(other, eps_model, x_t, 15, 3))
    step(SCHEDULE, eps_model, x_t, 20, 15)
    assert step(SCHEDULE, eps_model, x_t[:2], 15, 3).x_t.shape == (2, 2)


def test_2m_in_a_second_chain_or_beside_another_is_as_fresh():
    x_T, eps_model = normal(6, 2), Counted()
    run = functools.partial(dc.sample_chain, schedule=SCHEDULE, eps_model=eps_model, x_T=x_T)
    wanted = [step.x_t for step in run(dc.dpm_solver_2m())]
    one, other = dc.dpm_solver_2m(), dc.dpm_solver_2m()
    for _ in range(2):
        assert_close([step.x_t for step in run(one)], wanted, rtol=0, atol=0)
    beside = list(zip(run(one), run(other, x_T=-x_T), strict=True))
    assert_close([step.x_t for step, _ in beside], wanted, rtol=0, atol=0)


# Another library.


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own
@pytest.mark.parametrize("name", ["linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("spacing", ["even", "uneven"])
def test_row_41_2m_agrees_with_diffusers(name, spacing):
    """Whole chains in float32, from timestep t - 1 for our t, its sigma 0 at the end."""
    schedule = {"linear": dc.linear_schedule, "squaredcos_cap_v2": dc.cosine_schedule}[name](1000)
    theirs = DPMSolverMultistepScheduler(
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule=name,
        algorithm_type="dpmsolver++",
        solver_order=2,
        final_sigmas_type="zero",
    )
    uneven = [950, 930, 700, 690, 400, 150, 140, 30, 5, 0]
    taus = dc.even_taus(900, 10) if spacing == "even" else uneven
    theirs.set_timesteps(timesteps=[tau - 1 for tau in taus[:-1]])
    x = x_T = normal(4, 3, 2, 2, dtype=torch.float32)

    def eps_model(x_t, t):
        return torch.tanh(x_t) * (1 - 0.0005 * t.view(-1, 1, 1, 1))

    chain = dc.sample_chain(dc.dpm_solver_2m(), schedule, eps_model, x_T, taus)
    for t, step in zip(theirs.timesteps, chain, strict=True):
        x = theirs.step(eps_model(x, t.expand(4) + 1), t, x).prev_sample
        assert_close(step.x_t, x, rtol=1e-5, atol=1e-5 * x.abs().max().item())


# Predictor and corrector.


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_row_42_the_corrector_brings_a_long_step_back_to_the_marginal(eta):
    """Gaussian data: to q(x_s), but for the Langevin chain's own share, known in closed form."""
    data = dc.mixture(torch.tensor([[0.5]], dtype=torch.float64), 0.25)
    eps_model, ratio = dc.mixture_eps_model(SCHEDULE, data), 0.4
    t, s = 16, 3
    q = dc.diffuse(SCHEDULE, data, s)
    x_t = dc.diffuse(SCHEDULE, data, t).sample(20_000, generator=seeded())
    step = functools.partial(
        dc.predictor_corrector_step, SCHEDULE, eps_model, x_t, t, s, eta=eta, ratio=ratio
    )
    alone = dc.ddim_step(SCHEDULE, eps_model, x_t, t, s, eta=eta, generator=seeded()).x_t
    corrected = step(steps=100, generator=seeded()).x_t
    step_size = (ratio * SCHEDULE.marginal_vars[s] / q.vars).item()
    wanted = q.vars / (1 - step_size / 4)
    assert_mean(corrected, q.means[0], bias=1e-3)
    assert_mean((corrected - q.means[0]) ** 2, wanted, bias=1e-3)
    assert abs(alone.var() / q.vars - 1) > 0.05 + abs(corrected.var() / q.vars - 1)


def test_pc_is_the_predictor_then_steps_of_langevin():
    eps_model, x_t = dc.mixture_eps_model(SCHEDULE, DATA), normal(6, 2)
    rng = seeded()
    predicted = dc.ddim_step(SCHEDULE, eps_model, x_t, 9, 5, eta=0.3, generator=rng)
    options = {"steps": 3, "ratio": 0.1}
    x_s = dc.langevin_corrector(SCHEDULE, eps_model, predicted.x_t, 5, generator=rng, **options)
    step = dc.predictor_corrector_step(
        SCHEDULE, eps_model, x_t, 9, 5, eta=0.3, generator=seeded(), **options
    )
    assert_close(step, predicted._replace(x_t=x_s))


# There and back.


def round_trip(steps: int, heun: bool) -> float:
    """Return the error of data -> latent -> data on an even grid of log SNR, from 10 to 0.01."""
    schedule = dc.schedule_from_noise_levels(dc.geometric_levels(10.0, 0.01, steps))
    eps_model = dc.mixture_eps_model(schedule, DATA)
    x0 = DATA.sample(50, generator=seeded())
    latent = last(dc.invert(schedule, eps_model, x0, heun=heun))
    assert latent.t == steps
    step = dc.heun_step if heun else dc.ddim_step
    back = last(dc.sample_chain(step, schedule, eps_model, latent.x_t))
    return (back.x_t - x0).square().mean().sqrt().item()


@pytest.mark.parametrize("heun, order", [(False, 1), (True, 3)], ids=["euler", "heun"])
def test_trap_B43_the_error_of_a_round_trip_falls_as_the_order_says(heun, order):
    """One above Heun's own: to leading order its error up is taken back on the way down."""
    errors = [round_trip(steps, heun) for steps in (40, 80, 160)]
    assert abs(slopes(errors)[-1] - order) < 0.25, (errors, slopes(errors))
    assert round_trip(10, False) > 0.1  # ten steps are no inversion


def test_the_latent_of_the_flow():
    """Gaussian data: the standardised coordinate is kept."""
    schedule = dc.schedule_from_noise_levels(dc.geometric_levels(10.0, 0.01, 400))
    data = dc.mixture(torch.tensor([[0.5]], dtype=torch.float64), 0.25)
    x0 = torch.linspace(-1, 2, 7, dtype=torch.float64)[:, None]
    steps = list(dc.invert(schedule, dc.mixture_eps_model(schedule, data), x0, heun=True))
    assert [step.t for step in steps] == list(range(1, 401))
    q = dc.diffuse(schedule, data, 400)
    wanted = q.means + (x0 - 0.5) / 0.5 * q.vars.sqrt()
    assert_close(steps[-1].x_t, wanted, rtol=1e-3, atol=1e-3)


def test_inversion_needs_one_call_a_step_or_two_and_none_at_0():
    for heun in (False, True):
        asked = []

        def eps_model(x_t, t, asked=asked):
            asked.append(int(t[0]))
            return 0.1 * x_t

        list(dc.invert(SCHEDULE, eps_model, normal(3, 2), [20, 7, 2, 0], heun=heun))
        assert asked == ([2, 2, 2, 7, 7, 20] if heun else [2, 2, 7])


# What every step keeps.


@pytest.mark.parametrize("name", STEPS)
def test_steps_keep_dtype_device_and_input_and_clip_what_they_estimate(name, device):
    x_T = normal(4, 1, 2, 2, dtype=torch.float32).to(device)
    before, options = x_T.clone(), {"generator": seeded()} if name == "pc" else {}
    chain = dc.sample_chain(
        STEPS[name](), SCHEDULE, Counted(), x_T, [20, 9, 3, 0], clip=(-0.5, 0.5), **options
    )
    for step in chain:
        assert (step.x_t.dtype, step.x_t.device, step.x_t.shape) == (
            x_T.dtype,
            x_T.device,
            x_T.shape,
        )
        assert step.x0_hat.abs().max() <= 0.5
    assert_close(step.x_t, step.x0_hat, rtol=0, atol=0)
    assert torch.equal(x_T, before)


@EVERY
def test_a_grid_rounded_to_a_networks_rows_is_the_same_walk(name):
    """2M's ten calls on the cosine schedule's rows: near the states of the grid itself."""
    cosine = dc.cosine_schedule(1000)
    levels = dc.geometric_levels(20.0, 0.05, 10)
    taus = dc.nearest_taus(cosine, levels)
    exact = dc.schedule_from_noise_levels(levels)
    ends = []
    for schedule, visits in ((cosine, taus), (exact, None)):
        x_T = NOISE * schedule.alpha_bars[(visits or [10])[0]].sqrt()
        eps_model = dc.mixture_eps_model(schedule, DATA)
        ends.append(last(dc.sample_chain(SOLVERS[name](), schedule, eps_model, x_T, visits)).x_t)
    assert (ends[0] - ends[1]).square().mean().sqrt() < 0.1
