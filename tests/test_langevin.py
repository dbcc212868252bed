"""Langevin dynamics, against exact stationary laws, the Fokker-Planck equation and known shares."""

import functools
import itertools
import math

import pytest
import torch
from oracles import assert_mean, normal, seeded
from torch.testing import assert_close

import diffusion_core as dc
from diffusion_core import data, judge, pretrained

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

LEVELS = [20.0, 6.0, 2.0, 0.6]
SCHEDULE = dc.schedule_from_noise_levels(LEVELS)
BIMODAL = dc.mixture(torch.tensor([[-1.0], [1.2]], dtype=torch.float64), 0.3)


def last(states):
    *_, end = states
    return end


def minus(x):
    """The score of N(0, I)."""
    return -x


# One step, and its stationary law.


def test_row_32_one_step_is_x_and_half_a_step_of_score_and_noise_of_its_root():
    """Probed: what is left at x = 0 is the noise, what x = 1 adds is the drift."""
    step_size, zeros = 0.3, torch.zeros(20_000, 1, dtype=torch.float64)
    noise, moved = (
        dc.langevin_step(minus, x, step_size, generator=seeded()) for x in (zeros, zeros + 1)
    )
    assert_close(moved - noise, zeros + 1 - step_size / 2)
    assert_mean(noise, 0.0)
    assert_mean(noise**2, step_size)
    assert_mean(noise**4, 3 * step_size**2)  # normal, not only of this variance


@pytest.mark.parametrize("step_size", [0.1, 0.5, 1.0])
def test_row_32_the_chain_on_a_normal_law_has_the_variance_1_over_1_minus_a_quarter_step(step_size):
    """Trap B12: the chain's law is not the SDE's. Trap B11: other forms are far from both."""
    chains = torch.zeros(40_000, 1, dtype=torch.float64)
    steps = math.ceil(10 / step_size)  # (1 - step_size / 2)^(2 steps) < 5e-5 is forgotten
    x = last(dc.langevin_chain(minus, chains, step_size, steps, generator=seeded()))
    wanted = 1 / (1 - step_size / 4)
    assert_mean(x**2, wanted, bias=1e-4)


@pytest.mark.parametrize(
    "drift, noise, var",
    [(0.05, 0.1**0.5, 1.026), (0.1, 0.1**0.5, 0.526), (0.05, 0.2**0.5, 2.051), (0.05, 0.1, 0.103)],
    ids=["ours", "whole step", "root of two steps", "step for its root"],
)
def test_trap_B11_only_one_of_four_forms_in_use_keeps_the_law(drift, noise, var):
    """Each as x + a score + b eps at the same step_size = 0.1: variance b^2 / (1 - (1 - a)^2)."""
    assert abs(noise**2 / (1 - (1 - drift) ** 2) - var) < 1e-3
    zeros = torch.zeros(2, dtype=torch.float64)
    draws = torch.randn(2, generator=seeded(), dtype=torch.float64)
    step = dc.langevin_step(minus, zeros, 0.1, generator=seeded())
    moved = dc.langevin_step(minus, zeros + 1, 0.1, generator=seeded())
    ours = torch.allclose(step, noise * draws) and torch.allclose(step - moved, drift + zeros - 1)
    assert ours == (var == 1.026)


def means_of_a_step(score, x, step_size):
    """Return x + step_size / 2 score(x) as the package has it: one seed, with and without score."""
    free, pulled = (
        dc.langevin_step(s, x, step_size, generator=seeded()) for s in (torch.zeros_like, score)
    )
    return x + pulled - free


def test_trap_B12_the_law_of_the_chain_tends_to_the_density_with_slope_1():
    """The stationary vector of the chain's transition matrix on a grid, for two modes."""
    grid = torch.linspace(-5, 5, 801, dtype=torch.float64)
    p = BIMODAL.log_prob(grid[:, None]).exp()
    p /= p.sum()
    gaps = []
    for step_size in (0.08, 0.04, 0.02):
        means = means_of_a_step(BIMODAL.score, grid[:, None], step_size)
        kernel = torch.exp(-((grid - means) ** 2) / (2 * step_size))  # rows: from, columns: to
        kernel /= kernel.sum(1, keepdim=True)
        ones = torch.ones(1, 801, dtype=torch.float64)
        system = torch.cat([kernel.T - torch.eye(801, dtype=torch.float64), ones])
        right = torch.cat([torch.zeros(801, dtype=torch.float64), ones[0, :1]])
        stationary = torch.linalg.lstsq(system, right[:, None]).solution[:, 0]
        gaps.append((stationary - p).abs().sum().item() / 2)
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(gaps)]
    assert all(abs(slope - 1) < 0.1 for slope in slopes), (gaps, slopes)


def test_the_density_is_stationary_for_the_sde_by_fokker_planck():
    """0 = -(score p / 2)' + p'' / 2 on a grid: the null vector of the operator is p itself."""
    errors = []
    for cells in (200, 400):
        edges = torch.linspace(-6, 6, cells + 1, dtype=torch.float64)
        width = 12 / cells
        centres = (edges[1:] + edges[:-1]) / 2
        drift = BIMODAL.score(edges[1:-1, None])[:, 0] / 2
        flux = torch.zeros(cells + 1, cells, dtype=torch.float64)  # none through the ends
        inner = torch.arange(1, cells)
        flux[inner, inner - 1] = drift / 2 + 0.5 / width
        flux[inner, inner] = drift / 2 - 0.5 / width
        operator = (flux[:-1] - flux[1:]) / width
        values, vectors = torch.linalg.eig(operator)
        null = vectors[:, values.abs().argmin()].real
        p = BIMODAL.log_prob(centres[:, None]).exp()
        errors.append((null / null.sum() - p / p.sum()).abs().sum().item())
    assert errors[1] < 2e-3 and 3.5 < errors[0] / errors[1] < 4.5


def test_the_score_does_not_see_the_weights_of_far_modes():
    """Two scores that are equal where there is data, and two densities 0.83 nats apart."""
    means = torch.tensor([[-5.0, -5.0], [5.0, 5.0]], dtype=torch.float64)
    p, q = (dc.mixture(means, 1.0, torch.tensor(w)) for w in ([0.8, 0.2], [0.2, 0.8]))
    x = p.sample(4000, generator=seeded())
    assert (p.score(x) - q.score(x)).square().sum(1).mean() < 1e-5
    assert_mean(p.log_prob(x) - q.log_prob(x), 0.6 * math.log(4))


def test_a_chain_is_its_steps_lazily_and_keeps_no_gradients():
    x = normal(5, 2).requires_grad_()
    chain = dc.langevin_chain(minus, x, 0.1, 3, generator=seeded())
    assert iter(chain) is chain
    states, rng = list(chain), seeded()
    assert len(states) == 3 and not any(state.requires_grad for state in states)
    for state in states:
        x = dc.langevin_step(minus, x.detach(), 0.1, generator=rng)
        assert_close(state, x, rtol=0, atol=0)


# NCSN.


@pytest.mark.parametrize("shape", [(5,), (2, 3, 3)])
def test_row_33_the_loss_of_a_network_that_answers_0_is_half_the_dimension_at_every_level(shape):
    """Trap B7: with the weight noise_level^2 no level outweighs another."""
    x0, d = normal(20_000, *shape), math.prod(shape)
    std = math.sqrt(d / 2 / len(x0))  # of the mean of |eps|^2 / 2
    for t in (1, 2, 3, 4, None):
        options = {"t": t, "generator": seeded()}
        loss = dc.ncsn_loss(SCHEDULE, lambda x, t: torch.zeros_like(x), x0, **options)
        assert abs(loss - d / 2) < 5 * std


def test_row_33_the_loss_is_that_of_the_noise():
    """The same draws of t and eps: score_model and eps_model are one network, read in two ways."""

    def score_model(x, t):
        return torch.tanh(x) / t[:, None]

    x0 = normal(50, 3)
    loss = dc.ncsn_loss(SCHEDULE, score_model, x0, generator=seeded())
    eps_model = dc.eps_model_from_ncsn(SCHEDULE, score_model)
    assert_close(loss, 3 / 2 * dc.eps_loss(SCHEDULE, eps_model, x0, generator=seeded()))


def test_the_loss_asks_the_network_about_each_example_at_its_own_level():
    t = torch.tensor([1, 4, 2, 2])
    x0, asked = normal(4, 2), []

    def score_model(x, steps):
        asked.append((x, steps))
        return torch.zeros_like(x)

    dc.ncsn_loss(SCHEDULE, score_model, x0, t=t, generator=seeded())
    ((x, steps),) = asked
    assert torch.equal(steps, t)
    eps = torch.randn(4, 2, generator=seeded(), dtype=torch.float64)
    assert_close(x, x0 + torch.tensor(LEVELS, dtype=torch.float64).flip(0)[t - 1, None] * eps)


@pytest.mark.parametrize("t", [1, 3, torch.tensor([1, 2, 3, 4, 4])], ids=str)
def test_row_33_the_exact_score_of_noisy_data_is_the_exact_eps_model(t):
    """The mixture with noise_level^2 more variance knows nothing of alpha_bar."""
    data = dc.mixture(normal(3, 2), 0.2)
    levels = torch.tensor([0.0, *LEVELS[::-1]], dtype=torch.float64)

    def score_model(x, steps):
        steps = torch.as_tensor(steps).expand(len(x))
        noisy = [dc.Mixture(data.means, data.vars + levels[s] ** 2, data.weights) for s in steps]
        return torch.cat([q.score(row[None]) for q, row in zip(noisy, x, strict=True)])

    x_t = normal(5, 2, seed=3)
    got = dc.eps_model_from_ncsn(SCHEDULE, score_model)(x_t, t)
    assert_close(got, dc.mixture_eps_model(SCHEDULE, data)(x_t, t), rtol=1e-10, atol=1e-10)


# Correcting and annealing.


@pytest.mark.parametrize("t", [1, 4])
@pytest.mark.parametrize("ratio", [0.2, 0.8])
def test_row_34_a_corrector_at_any_level_has_one_share_of_its_variance(t, ratio):
    """Trap B13: for a point of data the chain's variance is (1 - alpha_bar) / (1 - ratio / 4)."""
    point = dc.mixture(torch.tensor([[0.7]], dtype=torch.float64))
    q = dc.diffuse(SCHEDULE, point, t)
    x_t = q.sample(20_000, generator=seeded())
    options = {"steps": math.ceil(10 / ratio), "ratio": ratio, "generator": seeded(5)}
    eps_model = dc.mixture_eps_model(SCHEDULE, point)
    x = dc.langevin_corrector(SCHEDULE, eps_model, x_t, t, **options)
    assert_mean(x, q.means[0])
    assert_mean((x - q.means[0]) ** 2, q.vars / (1 - ratio / 4), bias=1e-4)


def test_trap_B14_steps_shrink_with_the_level():
    """With no score only the noise is left: `steps` times `ratio` of each level's variance."""
    x_t = torch.zeros(20_000, 1, dtype=torch.float64)
    options = {"steps": 3, "ratio": 0.1, "generator": seeded()}
    for t in range(1, 5):
        x = dc.langevin_corrector(SCHEDULE, lambda x, t: torch.zeros_like(x), x_t, t, **options)
        assert_mean(x**2, 0.3 * SCHEDULE.marginal_vars[t])


def test_row_34_trap_B17_the_last_step_denoises_and_a_point_is_met_exactly():
    point = torch.tensor([[0.7, -2.0]], dtype=torch.float64)
    eps_model = dc.mixture_eps_model(SCHEDULE, dc.mixture(point))
    chain = functools.partial(
        dc.sample_chain, dc.annealed_langevin_step, SCHEDULE, eps_model, normal(30, 2)
    )
    steps = list(chain(steps=20, generator=seeded()))
    assert [step.t for step in steps] == [3, 2, 1, 0]
    assert_close(steps[-1].x_t, point.expand(30, 2), rtol=0, atol=1e-12)
    for step in steps:  # before, each state has the noise of the level that it leaves
        assert_close(step.x0_hat, point.expand(30, 2), rtol=0, atol=1e-10)
    noise = steps[-2].x_t / SCHEDULE.alpha_bars[1].sqrt() - point
    assert abs(noise.std() / LEVELS[-2] - 1) < 0.3


def test_trap_B18_a_level_adds_its_square_to_the_variance_of_each_component():
    """A toy that shrinks the components instead would have no level that is data plus noise."""
    x0 = BIMODAL.sample(40_000, generator=seeded())
    for t, level in zip((4, 3, 2, 1), LEVELS, strict=True):
        q, scale = dc.diffuse(SCHEDULE, BIMODAL, t), SCHEDULE.alpha_bars[t].sqrt()
        assert_close(q.vars / scale**2, BIMODAL.vars + level**2)
        assert_mean((x0 + level * normal(40_000, 1, seed=t)) ** 2, second_moment(q) / scale**2)


def second_moment(q):
    return (q.weights * (q.vars + q.means[:, 0] ** 2)).sum()


def test_trap_B19_noise_is_read_with_confidence_and_shares_and_distance_expose_it():
    """The negative control of lesson 08: a judge that is read by one number is fooled."""
    opinion, _ = pretrained.load("judge")
    real = data.to_signed(data.digits()[0])
    noise = normal(100, 1, 28, 28, dtype=torch.float32).clamp(-1, 1)
    fooled, honest = (judge.judge_images(opinion, x, real[:1000]) for x in (noise, real[1000:1100]))
    assert fooled.confident > 0.9 and fooled.shares.max() > 0.9
    assert honest.shares.max() < 0.5 and fooled.frechet > 3 * honest.frechet


def test_annealing_hands_on_the_state_that_ncsn_sees_and_calls_steps_and_one_times():
    asked = []

    def eps_model(x_t, t):
        asked.append((x_t, int(t[0])))
        return torch.zeros_like(x_t)

    options = {"steps": 5, "ratio": 0.1, "generator": seeded()}
    x_t = normal(6, 2)
    step = dc.annealed_langevin_step(SCHEDULE, eps_model, x_t, 3, 2, **options)
    assert [t for _, t in asked] == 6 * [3]
    left = asked[-1][0]
    assert_close(step.x_t / SCHEDULE.alpha_bars[2].sqrt(), left / SCHEDULE.alpha_bars[3].sqrt())


def shares(highest: float, n: int) -> tuple[float, torch.Tensor]:
    """Return the share of the mode of weight 0.8, modes 14 apart, and all samples."""
    means = torch.tensor([[5.0, 5.0], [-5.0, -5.0]], dtype=torch.float64)
    data = dc.mixture(means, 1.0, torch.tensor([0.8, 0.2]))
    schedule = dc.schedule_from_noise_levels(dc.geometric_levels(highest, 0.05, 10))
    chain = dc.sample_chain(
        dc.annealed_langevin_step,
        schedule,
        dc.mixture_eps_model(schedule, data),
        normal(n, 2),
        steps=100,
        generator=seeded(),
    )
    x = last(chain).x_t
    return (x.sum(1) > 0).double().mean().item(), x


def test_row_34_traps_B15_and_B16_shares_are_right_from_a_level_as_high_as_the_modes_are_apart():
    """Within 0.03, which is what T -> infinity leaves; each mode has the data's variance."""
    share, x = shares(15.0, 3000)
    assert abs(share - 0.8) <= 0.03
    mode = x[x.sum(1) > 0] - 5
    assert_mean(mode, [0.0, 0.0], bias=0.02)
    assert_mean(mode**2, [1.0, 1.0], bias=0.05)


@pytest.mark.filterwarnings("ignore::diffusion_core.PriorGapWarning")
def test_trap_B15_a_low_start_leaves_the_shares_where_they_were():
    share, _ = shares(1.0, 1000)
    assert 0.8 - share > 0.15


def test_t_may_be_a_tensor_of_one_number():
    schedule, x0 = dc.vp_schedule(10), normal(4, 2)
    seen = []

    def score_model(x, t):
        seen.append(t)
        return -x

    loss = dc.ncsn_loss(schedule, score_model, x0, t=torch.tensor(5), generator=seeded())
    assert loss == dc.ncsn_loss(schedule, score_model, x0, t=5, generator=seeded())
    dc.score_model_from_eps(schedule, score_model, torch.tensor(5))(x0)
    assert [t.tolist() for t in seen] == [[5] * 4] * 3
