"""Steps of steps: the mean shifted, the known part pasted, and rounds between them."""

import itertools
import math
from functools import partial

import pytest
import torch
from oracles import assert_mean, normal, seeded
from torch.testing import assert_close

import diffusion_core as dc

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

SCHEDULE = dc.vp_schedule(20)
TWO = dc.mixture(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), 0.25)
SPOTS = torch.tensor([-1.6, -0.8, 0.0, 0.8, 1.6], dtype=torch.float64)
BENT = dc.mixture(  # five overlapping bells along a bent line
    torch.stack([SPOTS, SPOTS - 0.2 * SPOTS**2 + 0.3], 1), 0.2, torch.exp(-(SPOTS**2) / 1.6)
)
KNOWN = torch.tensor([True, False])
SEEN = 1.6


def half(x_t, t):
    return 0.5 * x_t


def exact(schedule):
    """Return the eps_model of two classes N(-1, 1/4) and N(1, 1/4), and log p(second | x_t)."""

    def log_p(x_t, t):
        alpha_bar = schedule.alpha_bars[t, None]
        odds = 2 * alpha_bar.sqrt() * x_t / (alpha_bar / 4 + 1 - alpha_bar)
        return torch.nn.functional.logsigmoid(odds)[:, 0]

    return dc.mixture_eps_model(schedule, TWO), log_p


# The mean shifted.


@pytest.mark.parametrize("scale", [1.0, 2.5])
@pytest.mark.parametrize("table", ["betas", "posterior_vars"])
def test_row_46_the_shift_is_the_steps_variance_times_the_gradient(table, scale):
    """log p = c x - x^2 has the gradient c - 2 x."""
    x, c = normal(6, 1), 3.0
    options = {"variances": getattr(SCHEDULE, table)} if table == "betas" else {}
    log_p = lambda x_t, t: (c * x_t - x_t**2)[:, 0]  # noqa: E731
    plain = dc.ddpm_step(SCHEDULE, half, x, 9, 8, generator=seeded(), **options)
    step = dc.shifted(dc.ddpm_step, log_p, guidance_scale=scale)
    moved = step(SCHEDULE, half, x, 9, 8, generator=seeded(), **options)
    expected = scale * getattr(SCHEDULE, table)[9] * (c - 2 * x)
    assert_close(moved.x_t - plain.x_t, expected, rtol=1e-10, atol=1e-12)
    assert_close(moved.x0_hat, plain.x0_hat, rtol=0, atol=0)


@pytest.mark.parametrize("table", ["betas", "posterior_vars"])
def test_row_46_in_one_step_it_errs_by_terms_of_second_order(table):
    """Against the mean of the class's own posterior step, at time 1/2, for T doubled."""
    x, errors = normal(9, 1), []
    for T in (100, 200, 400, 800):
        schedule, t = dc.vp_schedule(T), T // 2
        eps_model, log_p = exact(schedule)
        told = dc.mixture_eps_model(schedule, dc.mixture(TWO.means[1:], 0.25))
        mean = dc.p_step(schedule, x, dc.x0_from_eps(schedule, x, told(x, t), t), t).mean
        options = {"variances": schedule.betas} if table == "betas" else {}
        plain = dc.ddpm_step(schedule, eps_model, x, t, t - 1, generator=seeded(), **options)
        step = dc.shifted(dc.ddpm_step, log_p)
        moved = step(schedule, eps_model, x, t, t - 1, generator=seeded(), **options)
        untold = dc.x0_from_eps(schedule, x, eps_model(x, t), t)
        shifted = dc.p_step(schedule, x, untold, t).mean + moved.x_t - plain.x_t
        errors.append((shifted - mean).abs().max().item())
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(abs(slope - 2) < 0.1 for slope in slopes), slopes


def test_a_step_that_skips_is_refused_as_sigma_is_of_one_step():
    schedule = dc.vp_schedule(100)
    eps_model, log_p = exact(schedule)
    step = dc.shifted(dc.ddim_step, log_p)
    assert step(schedule, eps_model, normal(3, 1), 50, 49).t == 49
    with pytest.raises(ValueError, match=r"s must be t - 1 = 49, .* got 40"):
        step(schedule, eps_model, normal(3, 1), 50, 40)


def test_row_46_trap_B49_over_a_whole_chain_it_errs_in_proportion_to_the_step():
    """Against guidance by eps_hat, which is exact, with the same noise; slopes 0.96, 1.05."""
    n, errors = 300, []
    for T in (50, 100, 200):
        schedule = dc.vp_schedule(T)
        eps_model, log_p = exact(schedule)
        guided = dc.classifier_guided(schedule, eps_model, log_p)
        ends = []
        for step, model in ((dc.ddpm_step, guided), (dc.shifted(dc.ddpm_step, log_p), eps_model)):
            options = {"variances": schedule.betas, "generator": seeded(2)}
            *_, last = dc.sample_chain(step, schedule, model, normal(n, 1), **options)
            ends.append(last.x_t)
        errors.append((ends[0] - ends[1]).square().mean().sqrt().item())
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(abs(slope - 1) < 0.15 for slope in slopes), slopes


# The known part pasted.


@pytest.mark.parametrize("s", [7, 1, 0])
def test_the_known_part_is_drawn_from_its_own_marginal_and_the_rest_is_left_alone(s):
    n = 4000
    x0, x_t = torch.full((n, 2), 1.5, dtype=torch.float64), normal(n, 2)
    step = dc.pasted(dc.ddim_step, x0, KNOWN, generator=seeded())
    found, plain = step(SCHEDULE, half, x_t, 8, s), dc.ddim_step(SCHEDULE, half, x_t, 8, s)
    assert_close(found.x_t[:, 1], plain.x_t[:, 1], rtol=0, atol=0)
    assert_close(found.x0_hat, plain.x0_hat, rtol=0, atol=0)
    assert_mean(found.x_t[:, 0], SCHEDULE.alpha_bars[s].sqrt() * 1.5, bias=1e-12)
    away = found.x_t[:, 0] - SCHEDULE.alpha_bars[s].sqrt() * 1.5
    assert_mean(away**2, SCHEDULE.marginal_vars[s], bias=1e-12)


# Rounds.


class Spied:
    """A step that keeps what it was given, and answers half of it."""

    def __init__(self) -> None:
        self.given = []

    def __call__(self, schedule, eps_model, x_t, t, s, **options):
        self.given.append((x_t, t, s, options))
        return dc.Step(s, 0.5 * x_t, x_t)


@pytest.mark.parametrize("t, s", [(9, 8), (20, 4), (5, 0)])
def test_rounds_call_the_step_so_often_but_for_the_last_which_needs_one(t, s):
    spied = Spied()
    step = dc.resampled(spied, 4, generator=seeded())
    end = step(SCHEDULE, half, normal(5, 2), t, s, eta=0.5)
    assert [given[1:] for given in spied.given] == (4 if s else 1) * [(t, s, {"eta": 0.5})]
    assert_close(end.x_t, 0.5 * spied.given[-1][0], rtol=0, atol=0)


@pytest.mark.parametrize("t, s", [(9, 8), (20, 4)])
def test_trap_B53_between_rounds_noise_is_added_as_q_does_it(t, s):
    """Back from x_s to x_t by the steps of the chain one after the other: same mean, variance."""
    n = 20_000
    spied, x_t = Spied(), torch.full((n, 1), 3.0, dtype=torch.float64)
    dc.resampled(spied, 2, generator=seeded())(SCHEDULE, half, x_t, t, s)
    back = spied.given[1][0]
    mean, var = torch.full((1, 1), 1.5, dtype=torch.float64), 0.0
    for u in range(s + 1, t + 1):
        kernel = dc.q_step(SCHEDULE, mean, u)
        mean, var = kernel.mean, var * SCHEDULE.alphas[u].item() + kernel.var.item()
    assert_mean(back, mean[0])
    assert_mean((back - mean) ** 2, var)


def given_the_first(step, schedule, n: int) -> torch.Tensor:
    """Return n samples of the bent mixture with its first number known, by pasting steps."""
    rng = seeded(1)
    x_T = torch.randn(n, 2, generator=rng, dtype=torch.float64)
    options = {"variances": schedule.betas, "generator": rng}
    eps_model = dc.mixture_eps_model(schedule, BENT)
    *_, last = dc.sample_chain(step, schedule, eps_model, x_T, **options)
    return last.x_t


def test_trap_B52_pasting_has_no_error_where_it_measures_and_a_wrong_mean_beside_it():
    """Measured: 0.90 for 1.22 in 60 steps, 0.88 in 120; 20 rounds: 1.20, std 0.49 for 0.50."""
    mean, cov = dc.condition(BENT, lambda x0: x0[:, :1], torch.tensor([SEEN]).double()).moments()
    std = cov[1, 1].sqrt()
    pasting = partial(dc.pasted, dc.ddpm_step, known=KNOWN)
    for T in (60, 120):
        x0 = torch.full((1000, 2), SEEN, dtype=torch.float64)
        pasted = given_the_first(pasting(x0, generator=seeded(3)), dc.vp_schedule(T), 1000)
        assert (pasted[:, 0] == SEEN).all()
        assert pasted[:, 1].mean() < mean[1] - 0.2
    step = dc.resampled(pasting(x0, generator=seeded(3)), 20, generator=seeded(4))
    found = given_the_first(step, dc.vp_schedule(60), 1000)
    assert (found[:, 0] == SEEN).all()
    assert abs(found[:, 1].mean() - mean[1]) < 0.05
    assert abs(found[:, 1].std() / std - 1) < 0.1


# Bad input.


@pytest.mark.parametrize("known", [KNOWN.double(), KNOWN[None], KNOWN[:1], None, True])
def test_a_known_part_that_fits_no_example_is_refused(known):
    with pytest.raises(ValueError, match="known must be a bool tensor"):
        dc.pasted(dc.ddim_step, normal(4, 2), known)


def test_a_step_that_is_none_is_refused():
    for make in (partial(dc.resampled, rounds=2), partial(dc.pasted, x0=normal(4, 2), known=KNOWN)):
        with pytest.raises(TypeError, match="step must answer with a Step"):
            make(lambda *_, **__: normal(4, 2))(SCHEDULE, half, normal(4, 2), 5, 4)
        with pytest.raises(ValueError, match=r"step\(..\).x_t must be like x_t"):
            make(lambda *_, **__: dc.Step(4, normal(3, 2), normal(3, 2)))(
                SCHEDULE, half, normal(4, 2), 5, 4
            )
