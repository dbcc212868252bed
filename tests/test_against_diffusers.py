"""Marginals, posterior and samplers agree with another library, to its float32 precision.

diffusers counts timesteps from 0, we count from 1: its timestep t - 1 is our t, and its
"previous" timestep -1 is our clean row 0 (which DDIM has only with set_alpha_to_one=True).
"""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from oracles import normal, seeded
from torch.testing import assert_close

import diffusion_core as dc

SCHEDULES = {"linear": dc.linear_schedule(1000), "squaredcos_cap_v2": dc.cosine_schedule(1000)}
TIMES = [1, 2, 3, 10, 100, 500, 900, 990, 999, 1000]
X0, EPS, X_T = (normal(4, 3, 2, 2, seed=s, dtype=torch.float32) for s in (1, 2, 3))
TOLERANCE = {"rtol": 2e-4, "atol": 2e-4}  # 1 - alpha_bar_1 from a float32 table: trap 8
both = pytest.mark.parametrize("name", SCHEDULES)
pytestmark = pytest.mark.usefixtures("untouched_global_rng")


def eps_model(x_t, t):
    """Return an estimate that depends on the state and on t, as a network's does."""
    return torch.tanh(x_t) * (1 - 0.0005 * t.view(-1, 1, 1, 1))


def ddpm(name, **changes):
    options = {"beta_start": 1e-4, "beta_end": 0.02, "clip_sample": False, "beta_schedule": name}
    return DDPMScheduler(num_train_timesteps=1000, **(options | changes))


def ddim(name, **changes):
    options = {"beta_start": 1e-4, "beta_end": 0.02, "clip_sample": False, "beta_schedule": name}
    options |= {"set_alpha_to_one": True, "steps_offset": 0, "timestep_spacing": "trailing"}
    return DDIMScheduler(num_train_timesteps=1000, **(options | changes))


def times(t: int) -> torch.Tensor:
    return torch.full((len(X0),), t)


@both
def test_the_tables_agree(name):
    theirs, ours = ddpm(name), SCHEDULES[name]
    assert_close(ours.betas[1:].float(), theirs.betas, rtol=1e-5, atol=1e-7)
    assert_close(ours.alpha_bars[1:].float(), theirs.alphas_cumprod, rtol=2e-4, atol=1e-7)


@both
def test_q_sample_is_add_noise(name):
    x0, eps = normal(len(TIMES), 5, dtype=torch.float32), normal(len(TIMES), 5, seed=2).float()
    t = torch.tensor(TIMES)
    expected = ddpm(name).add_noise(x0, eps, t - 1)
    assert_close(dc.q_sample(SCHEDULES[name], x0, t, eps), expected, **TOLERANCE)


@both
def test_v_target_is_get_velocity(name):
    x0, eps = normal(len(TIMES), 5, dtype=torch.float32), normal(len(TIMES), 5, seed=2).float()
    t = torch.tensor(TIMES)
    expected = ddpm(name).get_velocity(x0, eps, t - 1)
    assert_close(dc.v_target(SCHEDULES[name], x0, eps, t), expected, **TOLERANCE)


@both
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_the_reverse_variances_agree(name, variance):
    """Theirs clips the small variance from below, at 1e-20, and so never is 0."""
    theirs, ours = ddpm(name, variance_type=variance), SCHEDULES[name]
    table = {"fixed_small": ours.posterior_vars, "fixed_large": ours.betas}[variance]
    x = X0.double()
    got = [dc.p_step(ours, x, x, t, variances=table).var.flatten()[0] for t in TIMES[1:]]
    expected = torch.stack([theirs._get_variance(t - 1) for t in TIMES[1:]]).double()
    assert_close(torch.stack(got), expected, rtol=2e-3, atol=0)


@both
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
@pytest.mark.parametrize("t", TIMES)
def test_ddpm_step(name, variance, t):
    """The same generator gives both the same z, so mean and noise are compared at once."""
    theirs, ours = ddpm(name, variance_type=variance), SCHEDULES[name]
    table = {"fixed_small": ours.posterior_vars, "fixed_large": ours.betas}[variance]
    eps_hat = eps_model(X_T, times(t))
    expected = theirs.step(eps_hat, t - 1, X_T, generator=seeded())
    got = dc.ddpm_step(ours, eps_model, X_T, t, t - 1, variances=table, generator=seeded())
    scale = expected.pred_original_sample.abs().max().item()  # 1/sqrt(alpha_bar_t) is large
    assert_close(got.x0_hat, expected.pred_original_sample, rtol=1e-3, atol=1e-5 * scale)
    assert_close(got.x_t, expected.prev_sample, **TOLERANCE)


@both
@pytest.mark.parametrize("t", TIMES)
def test_the_posterior_mean(name, t):
    """Their step for a model that predicts x_0 itself; its noise cancels in the difference."""
    theirs = ddpm(name, prediction_type="sample")
    step = theirs.step(X0, t - 1, X_T, generator=seeded()).prev_sample
    if t > 1:
        z = torch.randn(X_T.shape, generator=seeded())
        step = step - theirs._get_variance(t - 1).sqrt() * z
    # Their 1 - alpha_bar_1, from a float32 table, is off by 1.5e-3 where beta_1 is 4e-5 (cosine).
    assert_close(dc.q_posterior(SCHEDULES[name], X_T, X0, t).mean, step, rtol=1e-3, atol=1e-3)


@both
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("clip", [None, (-1.0, 1.0)], ids=["free", "clipped"])
def test_ddim_chain(name, eta, clip):
    """50 steps of 20: each is compared from the same state, so that errors do not add up."""
    theirs = ddim(name, clip_sample=clip is not None)
    theirs.set_timesteps(50)
    taus = [tau + 1 for tau in theirs.timesteps.tolist()] + [0]
    assert taus == dc.even_taus(1000, 50)
    mine, other = seeded(), seeded()
    chain = dc.sample_chain(
        dc.ddim_step, SCHEDULES[name], eps_model, X_T, taus, eta=eta, clip=clip, generator=mine
    )
    x_t = X_T
    for t, step in zip(taus, chain, strict=False):
        expected = theirs.step(
            eps_model(x_t, times(t)),
            t - 1,
            x_t,
            eta=eta,
            use_clipped_model_output=True,
            variance_noise=torch.randn(x_t.shape, generator=other) if step.t else EPS * 0,
        )
        scale = max(1.0, expected.pred_original_sample.abs().max().item())
        assert_close(step.x0_hat, expected.pred_original_sample, rtol=1e-3, atol=1e-4 * scale)
        assert_close(step.x_t, expected.prev_sample, rtol=1e-3, atol=1e-4 * scale)
        x_t = step.x_t
    assert step.t == 0
