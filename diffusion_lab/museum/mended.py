"""The exhibits of lesson 14 as they should be, by the package."""

import torch
from torch import Tensor
from torch.nn import functional

from diffusion_core.decoders import discretized_decoder
from diffusion_core.elbo import ElboTerms
from diffusion_core.gaussian import Gaussian
from diffusion_core.losses import draw_t
from diffusion_core.nets import timestep_embedding
from diffusion_core.predictions import x0_from_eps
from diffusion_core.process import p_step, q_posterior, q_step
from diffusion_core.samplers import even_taus
from diffusion_core.schedules import (
    NoiseSchedule,
    linear_schedule,
    schedule_from_alpha_bars,
    vp_schedule,
)

from .readings import quiet


def straight_betas(T: int) -> Tensor:
    """Return beta_1..beta_T of a straight schedule whose sum is that of DDPM's, for any T."""
    scale = 1000 / T
    return quiet(lambda: linear_schedule(T, 1e-4 * scale, 0.02 * scale)).betas[1:]


def curved_betas(T: int) -> Tensor:
    """Return beta_1..beta_T from 1e-4 to 0.02 whose roots are evenly spaced."""
    return torch.linspace(1e-4**0.5, 0.02**0.5, T, dtype=torch.float64).square()


def noisier(schedule: NoiseSchedule, x_prev: Tensor, t: int, z: Tensor) -> Tensor:
    """Return x_t by `q_step`, from the draw z."""
    mean, var = q_step(schedule, x_prev, t)
    return mean + var.sqrt() * z


def pick_steps(T: int, n: int, seed: int) -> Tensor:
    """Return n steps by `draw_t`."""
    return draw_t(vp_schedule(T), torch.zeros(n), torch.Generator().manual_seed(seed))


def step_vector(t: Tensor, dim: int) -> Tensor:
    """Return `timestep_embedding`."""
    return timestep_embedding(t, dim)


def last_layer(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return eps_hat by a linear layer alone."""
    return functional.linear(h, weight, bias)


def step_back(schedule: NoiseSchedule, x_t: Tensor, eps_hat: Tensor, t: int, z: Tensor) -> Tensor:
    """Return x_{t-1} by `p_step` with the variances beta_t, without noise from t = 1."""
    x0_hat = x0_from_eps(schedule, x_t, eps_hat, t)
    mean, var = p_step(schedule, x_t, x0_hat, t, variances=schedule.betas)
    return mean + var.sqrt() * z if t > 1 else mean


def careful_step(
    schedule: NoiseSchedule, x_t: Tensor, eps_hat: Tensor, t: int, z: Tensor
) -> Tensor:
    """Return x_{t-1} by `p_step` from a guess that is clipped."""
    x0_hat = x0_from_eps(schedule, x_t, eps_hat, t).clamp(-1, 1)
    mean, var = p_step(schedule, x_t, x0_hat, t)
    return mean + var.sqrt() * z


def long_step(
    x_t: Tensor, eps_hat: Tensor, alpha_bar_t: float, alpha_bar_s: float, z: Tensor
) -> Tensor:
    """Return x_s by the posterior of a schedule whose only steps are those to s and on to t."""
    rows = [keep for keep in (alpha_bar_s, alpha_bar_t, 1e-6) if keep < 1]
    schedule, t = quiet(lambda: schedule_from_alpha_bars(rows)), len(rows) - 1
    mean, var = q_posterior(schedule, x_t, x0_from_eps(schedule, x_t, eps_hat, t), t)
    return mean + var.sqrt() * z


def stops(T: int, strides: int) -> list[int]:
    """Return `even_taus`."""
    return even_taus(T, strides)


def lower_bound(terms: ElboTerms) -> Tensor:
    """Return ELBO(x_0), minus the sum of all terms."""
    return -(terms.prior + terms.steps.sum(1) + terms.recon)


def level_probs(mean: float, std: float) -> Tensor:
    """Return the probabilities by the package's decoder, which has its levels in [-1, 1]."""
    levels = torch.linspace(-1, 1, 256, dtype=torch.float64)[:, None]
    p = Gaussian(torch.full_like(levels, 2 * mean - 1), torch.full_like(levels, (2 * std) ** 2))
    return discretized_decoder(levels, p).exp()
