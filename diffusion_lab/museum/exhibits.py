"""The twelve exhibits of lesson 14: short functions, each with one mistake. Do not import them.

Each mistake is of a kind seen in published teaching code. Nothing here raises an error or a
warning by itself, and every docstring says what the function ought to do.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from diffusion_core.elbo import ElboTerms
from diffusion_core.predictions import x0_from_eps
from diffusion_core.process import p_step
from diffusion_core.schedules import NoiseSchedule


def straight_betas(T: int) -> Tensor:
    """Return beta_1..beta_T, evenly spaced, that take data to noise in T steps."""
    return torch.linspace(1e-4, 0.02, T, dtype=torch.float64)


def curved_betas(T: int) -> Tensor:
    """Return beta_1..beta_T from 1e-4 to 0.02, quadratic: their roots are evenly spaced."""
    return torch.linspace(1e-4, 0.02, T, dtype=torch.float64) ** 2


def noisier(schedule: NoiseSchedule, x_prev: Tensor, t: int, z: Tensor) -> Tensor:
    """Return x_t, one step of the forward chain after x_{t-1}, from a draw z ~ N(0, I)."""
    return schedule.alphas[t].sqrt() * x_prev + schedule.betas[t] * z


def pick_steps(T: int, n: int, seed: int) -> Tensor:
    """Return n steps for training, each drawn from all the T steps, int64 (n,)."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(1, T, (n,), generator=rng)


def step_vector(t: Tensor, dim: int) -> Tensor:
    """Return a row of dim numbers for each step of t (B,): cosines, then sines, (B, dim)."""
    k = torch.arange(dim // 2, device=t.device)
    frequencies = torch.exp(-math.log(10_000) * k / (dim // 2))  # from 1 down to about 1/10 000
    angles = frequencies[:, None] * t
    return torch.cat([angles.cos(), angles.sin()]).reshape(len(t), dim)


def last_layer(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return eps_hat (B, D) from features h (B, H), with weight (D, H) and bias (D,)."""
    return functional.silu(h @ weight.T + bias)


def step_back(schedule: NoiseSchedule, x_t: Tensor, eps_hat: Tensor, t: int, z: Tensor) -> Tensor:
    """Return x_{t-1} by Algorithm 2 with sigma_t^2 = beta_t, from a draw z ~ N(0, I)."""
    beta, alpha, alpha_bar = schedule.betas[t], schedule.alphas[t], schedule.alpha_bars[t]
    mean = (x_t - beta / (1 - alpha_bar).sqrt() * eps_hat) / alpha.sqrt()
    sigma = schedule.betas[t - 1].sqrt()
    return mean + sigma * z if t > 1 else mean


def careful_step(
    schedule: NoiseSchedule, x_t: Tensor, eps_hat: Tensor, t: int, z: Tensor
) -> Tensor:
    """Return x_{t-1} by Algorithm 2, for data in [-1, 1], from a draw z ~ N(0, I)."""
    x0_hat = x0_from_eps(schedule, x_t, eps_hat, t)
    mean, var = p_step(schedule, x_t, x0_hat, t)
    return (mean + var.sqrt() * z).clamp(-1, 1)


def long_step(
    x_t: Tensor, eps_hat: Tensor, alpha_bar_t: float, alpha_bar_s: float, z: Tensor
) -> Tensor:
    """Return x_s by DDIM, s < t, with as much fresh noise as the posterior has: eta = 1."""
    x0_hat = (x_t - (1 - alpha_bar_t) ** 0.5 * eps_hat) / alpha_bar_t**0.5
    var = 1 - alpha_bar_t
    direction = max(1 - alpha_bar_s - var, 0) ** 0.5
    return alpha_bar_s**0.5 * x0_hat + direction * eps_hat + var**0.5 * z


def stops(T: int, strides: int) -> list[int]:
    """Return where a walk from noise to clean data stops: strides + 1 steps, evenly spaced."""
    return torch.linspace(T, 1, strides + 1).round().int().tolist()


def lower_bound(terms: ElboTerms) -> Tensor:
    """Return ELBO(x_0), shape (B,), in nats, from the terms of its ledger."""
    return -terms.steps.sum(1) - terms.recon


def level_probs(mean: float, std: float) -> Tensor:
    """Return the probabilities (256,) of the grey levels 0, 1/255, .., 1 under N(mean, std^2)."""
    levels, half = torch.linspace(0, 1, 256, dtype=torch.float64), 1 / 255
    upper, lower = (levels + half - mean) / std, (levels - half - mean) / std
    upper[-1], lower[0] = torch.inf, -torch.inf  # the ends take in all that lies beyond
    return torch.special.ndtr(upper) - torch.special.ndtr(lower)
