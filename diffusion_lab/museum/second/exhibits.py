"""The exhibits of lesson 14b: short functions, each with one mistake. Do not import them.

Nothing here raises an error or a warning by itself, and every docstring says what the function
ought to do.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from diffusion_core.grids import geometric_levels
from diffusion_core.traces import hutchinson_trace


def noisy_walk(x: Tensor, sigma: float, dt: float, noise: Tensor) -> Tensor:
    """Return the states (n, B) after n steps of dx = -x / 2 dtime + sigma dW, from x (B,).

    noise (n, 2, B) holds two independent draws z ~ N(0, I) for each step: take what is needed.
    """

    def diffusion(draw: Tensor) -> Tensor:
        return sigma * draw

    states = []
    for z, other in noise:
        x = x - x / 2 * dt + diffusion(other) * dt**0.5 * z
        states.append(x)
    return torch.stack(states)


def right_side(velocity: Callable, fresh: Callable[[], Tensor]) -> Callable:
    """Return f(x, time) for an ODE solver: the velocity (B, D) and its divergence (B,).

    The divergence is estimated with one random direction; fresh() draws one, signs (B, D).
    """

    def f(x: Tensor, time: float) -> tuple[Tensor, Tensor]:
        direction = fresh()
        return hutchinson_trace(lambda x: velocity(x, time), x, direction)

    return f


def fast_sampler(denoise: Callable, x: Tensor, levels: list[float]) -> Tensor:
    """Return the samples that DPM-Solver++(2M) makes of x = x_0 + levels[0] eps.

    denoise(x, level) guesses x_0; levels fall, all above 0, and each is visited.
    """
    before, h_before = None, 1.0
    for level, lower in pairwise([*levels, levels[-1]]):
        guess = denoise(x, level)
        h = math.log(level / lower)
        mixed = guess if before is None else guess + h / (2 * h_before) * (guess - before)
        x = lower / level * x + (1 - lower / level) * mixed
        before, h_before = guess, h
    return x


def filled(denoise: Callable, x: Tensor, y: Tensor, levels: list[float], noise: Tensor) -> Tensor:
    """Return samples (B, D) of x_0 whose first number is y (B,); x is noise of levels[0].

    denoise(x, level) guesses x_0; levels fall, all above 0. noise (n, rounds, 3, B, D) holds
    draws for each step: z, one for the known part, one for a way back. Take what is needed.
    """
    for (level, lower), draws in zip(pairwise([*levels, 0.0]), noise, strict=True):
        z, fresh, _ = draws[0]
        guess = denoise(x, level)
        keep = (lower / level) ** 2
        x = guess + keep * (x - guess) + lower * (1 - keep) ** 0.5 * z
        x[:, 0] = y + lower * fresh[:, 0]
    return x


def tilted(log_prob: Callable, log_p: Callable, w: float, x: Tensor, u: Tensor) -> Tensor:
    """Return samples of p(x) p(y | x)^w / Z, w at least 1; the logs take (x, noise level).

    x (B,) are draws of p(x | y), u (B,) are uniform on (0, 1): take what is needed.
    """
    levels = [*geometric_levels(10, 0.02, 100).tolist(), 0.0]
    x = x + levels[0] * torch.special.ndtri(u)
    for level, lower in pairwise(levels):
        with torch.enable_grad():
            x.requires_grad_()
            logs = log_prob(x, level) + w * log_p(x, level)
            (score,) = torch.autograd.grad(logs.sum(), x)
        x = x.detach() + level * (level - lower) * score
    return x


def train_control(model: nn.Module, batches: list, lr: float) -> Tensor:
    """Train model.control, with model.base frozen; return the loss of each batch, (n,).

    model(x, c) guesses the target of a batch (x, c, target); plain gradient steps.
    """
    model.train()
    model.base.requires_grad_(False)
    losses = []
    for x, c, target in batches:
        loss = (model(x, c) - target).square().mean()
        model.zero_grad()
        loss.backward()
        for p in model.control.parameters():
            p.data -= lr * p.grad
        losses.append(loss.detach())
    return torch.stack(losses)


def noisy_latents(z: Tensor, train: Tensor, alpha_bar: float, eps: Tensor) -> Tensor:
    """Return z_t (B, C, H, W): the latents z, scaled, with noise eps, of a schedule for E z^2 = 1.

    train (N, C, H, W) are the latents of all training pictures: the scale is measured there.
    """
    scale = train.square().mean().rsqrt()
    return alpha_bar**0.5 * scale * z + (1 - alpha_bar) ** 0.5 * eps


def race(denoise: Callable, eps: Tensor, times: list[float]) -> Tensor:
    """Return the samples (2, B, D) of a flow and of DDIM, from the noise eps: only they differ.

    denoise(x, a, b) guesses x_0 from x = a x_0 + b eps; times fall from 1 to 0.
    """
    flow, ddim = eps, eps
    for time, later in pairwise(times):
        flow = flow + (later - time) * (flow - denoise(flow, 1 - time, time)) / time
    bars = [math.exp(-0.1 * time - 9.95 * time**2) for time in times]
    for bar, bar_s in pairwise(bars):
        guess = denoise(ddim, bar**0.5, (1 - bar) ** 0.5)
        eps_hat = (ddim - bar**0.5 * guess) / (1 - bar) ** 0.5
        ddim = bar_s**0.5 * guess + (1 - bar_s) ** 0.5 * eps_hat
    return torch.stack([flow, ddim])


def mean_gradient(gradient: Callable, x: Tensor, ranks: int, seed: int) -> Tensor:
    """Return the gradient (D,) on which processes agree, each with an equal part of x (B, D).

    gradient(part, eps) is the mean over a part; each process draws noise for its part.
    """
    found = []
    for part in x.chunk(ranks):  # what one process does
        rng = torch.Generator().manual_seed(seed)
        eps = torch.randn(part.shape, generator=rng, dtype=x.dtype)
        found.append(gradient(part, eps.to(x)))
    return torch.stack(found).mean(0)
