"""Samplers, against exact propagation of moments, each other, and the exact denoiser."""

import functools
import itertools
import math

import pytest
import torch
from oracles import affine, assert_mean, normal, seeded
from torch import nn
from torch.testing import assert_close

import diffusion_core as dc
from diffusion_core import metrics, toys

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

SCHEDULE = dc.vp_schedule(20)
T = SCHEDULE.T
POSTERIOR, BETAS = SCHEDULE.posterior_vars, SCHEDULE.betas
SHIFTED = torch.cat([BETAS[:1], BETAS[:-1]])  # beta_{t-1} in row t: the mistake of trap 11

SAMPLERS = {
    "ddpm, posterior variance": (dc.ddpm_step, {}),
    "ddpm, beta": (dc.ddpm_step, {"variances": BETAS}),
    "ddim, eta 0": (dc.ddim_step, {"eta": 0.0}),
    "ddim, eta 0.5": (dc.ddim_step, {"eta": 0.5}),
    "ddim, eta 1": (dc.ddim_step, {"eta": 1.0}),
}
EVERY = pytest.mark.parametrize("step, options", SAMPLERS.values(), ids=SAMPLERS)


def gaussian_model(mean: float, var: float, schedule=SCHEDULE):
    """Return the exact eps_model of data N(mean, var) in 1-D."""
    return dc.mixture_eps_model(
        schedule, dc.mixture(torch.tensor([[mean]], dtype=torch.float64), var)
    )


def last(steps) -> dc.Step:
    *_, end = steps
    return end


# Moments.


def reverse_moments(mean: float, var: float, variances: torch.Tensor, schedule=SCHEDULE):
    """Propagate N(0, 1) through every p_step with the exact eps_model, down to t = 1."""
    eps_model, m, v = gaussian_model(mean, var, schedule), 0.0, 1.0
    for t in range(schedule.T, 1, -1):

        def kernel(x, t=t):
            x0_hat = dc.x0_from_eps(schedule, x, eps_model(x, torch.tensor(t)), t)
            return dc.p_step(schedule, x, x0_hat, t, variances=variances)

        slope, offset, step_var = affine(kernel)
        m, v = slope * m + offset, slope**2 * v + step_var
    return m, v


def q_1_moments(mean: float, var: float, schedule=SCHEDULE):
    q = dc.diffuse(schedule, dc.mixture(torch.tensor([[mean]], dtype=torch.float64), var), 1)
    return q.means.item(), q.vars.item()


def test_trap_11_beta_is_the_exact_variance_for_unit_gaussian_data():
    assert_close(reverse_moments(0.0, 1.0, BETAS), (0.0, 1.0), rtol=1e-9, atol=1e-9)


def test_trap_11_the_posterior_variance_is_exact_for_a_single_point():
    """Only the start is not exact: N(0, 1) for N(sqrt(alpha_bar_T) x_0, 1 - alpha_bar_T)."""
    got = reverse_moments(0.6, 0.0, POSTERIOR)
    assert_close(got, q_1_moments(0.6, 0.0), rtol=1e-3, atol=1e-4)


def test_trap_11_the_variance_before_fails_both():
    _, var = reverse_moments(0.0, 1.0, SHIFTED)
    assert var < 0.8
    _, var = reverse_moments(0.6, 0.0, SHIFTED)
    assert abs(var / q_1_moments(0.6, 0.0)[1] - 1) > 0.1


@pytest.mark.parametrize("table", ["posterior_vars", "betas"])
def test_trap_11_both_variances_converge_for_any_gaussian(table):
    errors = []
    for T in (60, 240):
        schedule = dc.vp_schedule(T)
        _, var = reverse_moments(0.5, 0.25, getattr(schedule, table), schedule)
        errors.append(abs(var / q_1_moments(0.5, 0.25, schedule)[1] - 1))
    assert errors[1] < errors[0] / 2.5 and errors[1] < 0.08


@EVERY
def test_trap_2_every_sampler_has_the_moments_of_the_data(step, options, generator):
    """Two narrow modes of unequal weight; a long chain, so that its own bias is small."""
    schedule = dc.cosine_schedule(150)
    means = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    data = dc.mixture(means, 0.01, torch.tensor([0.25, 0.75], dtype=torch.float64))
    x_T = torch.randn(4000, 1, generator=generator, dtype=torch.float64)
    eps_model = dc.mixture_eps_model(schedule, data)
    if "variances" in options:
        options = {"variances": schedule.betas}
    x = last(dc.sample_chain(step, schedule, eps_model, x_T, generator=generator, **options)).x_t
    assert_mean((x > 0).double(), 0.75, bias=0.01)
    assert_mean(x, 0.5, bias=0.01)
    assert_mean((x - x.sign()) ** 2, 0.01, bias=0.001)  # trap 6: noise at the end would widen it


def test_ddim_follows_the_probability_flow(generator):
    """For Gaussian data the flow is a straight rescaling of the standardised coordinate."""
    schedule, mean, var = dc.vp_schedule(400), 0.5, 0.25
    x_T = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    x0 = last(dc.sample_chain(dc.ddim_step, schedule, gaussian_model(mean, var, schedule), x_T)).x_t
    q = dc.diffuse(
        schedule, dc.mixture(torch.tensor([[mean]], dtype=torch.float64), var), schedule.T
    )
    expected = mean + math.sqrt(var) * (x_T - q.means) / q.vars.sqrt()
    assert_close(x0, expected, rtol=0, atol=0.01)


@pytest.mark.parametrize("steps", [1, 3, 20])
def test_trap_20_forward_then_ddim_with_exact_eps_returns_x0(steps):
    x0, eps = normal(5, 2), normal(5, 2, seed=2)

    def eps_model(x_t, t):
        return dc.eps_from_x0(SCHEDULE, x_t, x0, t)

    for start in (T, steps):
        taus = [round(start * (steps - i) / steps) for i in range(steps + 1)]
        x_start = dc.q_sample(SCHEDULE, x0, start, eps)
        for step in dc.sample_chain(dc.ddim_step, SCHEDULE, eps_model, x_start, taus):
            expected = dc.q_sample(SCHEDULE, x0, step.t, eps)
            assert_close(step.x_t, expected, rtol=1e-9, atol=1e-9)
            assert_close(step.x0_hat, x0, rtol=1e-9, atol=1e-9)


def test_row_20_algorithm_2_with_the_exact_denoiser_draws_the_data(generator):
    """Three clouds of 2 000, in 1 000 steps, against fresh real points; no noise at t = 1."""
    schedule, (means, std) = dc.linear_schedule(1000), toys.toy_centres("eight_gaussians")
    eps_model = dc.mixture_eps_model(schedule, dc.mixture(means, std**2))
    x_T = torch.randn(3 * 2000, 2, generator=generator, dtype=torch.float64)
    options = {"variances": schedule.betas, "generator": generator}
    end = last(dc.sample_chain(dc.ddpm_step, schedule, eps_model, x_T, **options))
    assert_close(end.x_t, end.x0_hat, rtol=0, atol=0)
    real = functools.partial(toys.toy_2d, "eight_gaussians", generator=generator)
    score = metrics.times_floor(metrics.energy_distance, end.x_t.float().split(2000), real)
    assert score.mean <= 1.3


# DDIM and DDPM.


def test_trap_17_ddim_with_eta_1_and_all_steps_is_ddpm():
    eps_model, x_T = gaussian_model(0.5, 0.25), normal(50, 1)
    chains = [
        dc.sample_chain(step, SCHEDULE, eps_model, x_T, generator=seeded(3), **options)
        for step, options in ((dc.ddpm_step, {}), (dc.ddim_step, {"eta": 1.0}))
    ]
    for a, b in zip(*chains, strict=True):
        assert a.t == b.t
        assert_close((a.x_t, a.x0_hat), (b.x_t, b.x0_hat), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("s", [1, 4, 9])
def test_trap_17_ddim_keeps_the_marginal_for_any_eta(s, generator):
    """Song et al. (2021), lemma 1: from q(x_t | x_0), with the true x_0, to q(x_s | x_0)."""
    x0, t = torch.full((40_000, 1), 0.8, dtype=torch.float64), 10
    x_t = dc.q_sample(SCHEDULE, x0, t, generator=generator)
    q = dc.q_marginal(SCHEDULE, x0, s)

    def eps_model(x, t):
        return dc.eps_from_x0(SCHEDULE, x, x0, t)

    for eta in (0.0, 0.5, 1.0):
        step = dc.ddim_step(SCHEDULE, eps_model, x_t, t, s, eta=eta, generator=generator)
        assert_mean(step.x_t, q.mean[0])
        assert_mean((step.x_t - q.mean) ** 2, q.var.flatten()[0])


# The last step, and clipping.


@EVERY
def test_traps_6_and_18_the_last_step_returns_x0_hat_exactly(step, options):
    eps_model = gaussian_model(0.5, 0.25)
    x_T = normal(6, 1)
    end = last(dc.sample_chain(step, SCHEDULE, eps_model, x_T, generator=seeded(), **options))
    assert end.t == 0
    assert_close(end.x_t, end.x0_hat, rtol=0, atol=0)
    for dtype in (torch.float32, torch.float64):
        x_1 = 50 * normal(6, 1, dtype=dtype)
        end = step(SCHEDULE, eps_model, x_1, 1, 0, generator=seeded(), **options)
        assert_close(end.x_t, end.x0_hat, rtol=0, atol=0)
        eps_hat = eps_model(x_1, torch.tensor(1))
        assert_close(end.x0_hat, dc.x0_from_eps(SCHEDULE, x_1, eps_hat, 1))


def test_trap_18_ddim_may_jump_to_0_from_anywhere():
    x_t = normal(6, 1)
    end = dc.ddim_step(SCHEDULE, gaussian_model(0.5, 0.25), x_t, 13, 0, eta=1.0)
    assert_close(end.x_t, end.x0_hat, rtol=0, atol=0)


def test_trap_12_clip_moves_x0_hat_and_never_the_state():
    x_t, t, clip = 3 * normal(200, 1), 5, (-0.5, 1.0)
    eps_model = gaussian_model(0.5, 4.0)
    free = dc.ddpm_step(SCHEDULE, eps_model, x_t, t, t - 1, generator=seeded())
    step = dc.ddpm_step(SCHEDULE, eps_model, x_t, t, t - 1, clip=clip, generator=seeded())
    assert_close(step.x0_hat, free.x0_hat.clamp(*clip), rtol=0, atol=0)
    assert step.x_t.min() < clip[0] and step.x_t.max() > clip[1]  # the state is not clipped
    p = dc.p_step(SCHEDULE, x_t, free.x0_hat.clamp(*clip), t)
    assert_close(step.x_t, p.sample(generator=seeded()), rtol=1e-12, atol=1e-12)


@EVERY
def test_trap_12_a_clip_wider_than_the_data_changes_nothing(step, options):
    args = (SCHEDULE, gaussian_model(0.5, 0.25), normal(50, 1), 5, 4)
    a, b = (step(*args, clip=clip, generator=seeded(), **options) for clip in (None, (-99, 99)))
    assert_close((a.x_t, a.x0_hat), (b.x_t, b.x0_hat), rtol=1e-9, atol=1e-9)


@EVERY
def test_trap_12_clipped_samples_lie_in_the_range(step, options):
    clip = (-0.2, 0.3)
    chain = dc.sample_chain(
        step, SCHEDULE, gaussian_model(0.5, 1.0), normal(50, 1), clip=clip, **options,
        generator=seeded(),
    )  # fmt: skip
    for s in chain:
        assert clip[0] <= s.x0_hat.min() and s.x0_hat.max() <= clip[1]
        assert s.x_t.isfinite().all()
    assert_close(s.x_t, s.x0_hat, rtol=0, atol=0)


# The loop.


@pytest.mark.parametrize("T, steps", [(1, 1), (10, 10), (10, 3), (1000, 7), (1000, 999)])
def test_trap_18_even_taus(T, steps):
    taus = dc.even_taus(T, steps)
    gaps = [a - b for a, b in itertools.pairwise(taus)]
    assert (taus[0], taus[-1], len(taus)) == (T, 0, steps + 1)
    assert min(gaps) >= 1 and max(gaps) - min(gaps) <= 1
    assert all(type(tau) is int for tau in taus)


@EVERY
def test_the_chain_asks_the_model_for_T_to_1_and_yields_T_minus_1_to_0(step, options):
    asked = []

    def eps_model(x_t, t):
        assert t.dtype == torch.int64 and t.device == x_t.device
        asked.append(set(t.flatten().tolist()))
        return torch.zeros_like(x_t)

    x_T = normal(3, 2, dtype=torch.float32)
    chain = dc.sample_chain(step, SCHEDULE, eps_model, x_T, generator=seeded(), **options)
    assert [s.t for s in chain] == list(range(T - 1, -1, -1))
    assert asked == [{t} for t in range(T, 0, -1)]


def test_the_chain_is_lazy_and_starts_where_it_is_told():
    chain = dc.sample_chain(dc.ddim_step, SCHEDULE, gaussian_model(0, 1), normal(3, 1), [7, 3, 0])
    assert iter(chain) is chain
    assert [s.t for s in chain] == [3, 0]


@EVERY
def test_trap_23_samplers_keep_dtype_and_device_and_follow_the_generator(step, options, device):
    x_T = normal(4, 1, 2, 2, dtype=torch.float32).to(device)

    def sample(seed):
        def eps_model(x_t, t):
            return 0.1 * x_t

        make = dc.sample_chain(step, SCHEDULE, eps_model, x_T, generator=seeded(seed), **options)
        return last(make).x_t

    a, b, c = sample(1), sample(1), sample(2)
    assert (a.dtype, a.device.type, a.shape) == (x_T.dtype, device.type, x_T.shape)
    assert_close(a, b, rtol=0, atol=0)
    assert torch.equal(a, c) == (options.get("eta") == 0.0)  # only eta = 0 draws nothing
    assert not torch.equal(a, x_T)


class Scale(nn.Module):
    """A network of one weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.1))

    def forward(self, x_t, t):
        return self.weight * x_t


@EVERY
def test_the_chain_keeps_no_gradients_and_leaves_grad_mode_alone(step, options):
    run = functools.partial(
        dc.sample_chain, step, SCHEDULE, Scale(), normal(3, 1, dtype=torch.float32),
        generator=seeded(), **options,
    )  # fmt: skip
    for s in run():
        assert torch.is_grad_enabled()
        assert not s.x_t.requires_grad and not s.x0_hat.requires_grad
    chain = run()
    next(chain)
    chain.close()
    assert torch.is_grad_enabled()
    with torch.no_grad():
        for _ in run():
            assert not torch.is_grad_enabled()


def test_a_model_that_needs_gradients_can_turn_them_on_inside_the_chain():
    """Classifier guidance does: the chain must not use inference mode."""

    def eps_model(x_t, t):
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            return torch.autograd.grad((x**2).sum() / 2, x)[0]

    x = last(dc.sample_chain(dc.ddim_step, SCHEDULE, eps_model, normal(3, 1))).x_t
    assert x.isfinite().all()
