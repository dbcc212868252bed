"""The exhibits of lesson 14b as they should be, by the package."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from diffusion_core import processes
from diffusion_core.grids import schedule_from_noise_levels
from diffusion_core.samplers import sample_chain
from diffusion_core.sde import SDE, euler_maruyama
from diffusion_core.solvers import dpm_solver_2m
from diffusion_core.traces import hutchinson_trace

from ..readings import quiet


def noisy_walk(x: Tensor, sigma: float, dt: float, noise: Tensor) -> Tensor:
    """Return the states (n, B) by `euler_maruyama`; noise (n, 2, B), of which it needs the first.

    Raises ValueError as `euler_maruyama` does.
    """
    sde = SDE(lambda x, time: -x / 2, lambda x, time: sigma)
    times = [dt * i for i in range(len(noise) + 1)]
    return torch.stack([*euler_maruyama(sde, x, times, increments=dt**0.5 * noise[:, 0])])


def right_side(velocity: Callable, fresh: Callable[[], Tensor]) -> Callable:
    """Return f(x, time), the velocity and its divergence, with one direction for all calls."""
    direction = fresh()
    return lambda x, time: hutchinson_trace(lambda x: velocity(x, time), x, direction)


def fast_sampler(denoise: Callable, x: Tensor, levels: list[float]) -> Tensor:
    """Return the samples of `dpm_solver_2m` on a schedule with these noise levels, down to 0."""
    rows = torch.tensor(levels, dtype=torch.float64, device="cpu")
    schedule = quiet(lambda: schedule_from_noise_levels(rows))

    def eps_model(x_t: Tensor, t: Tensor | int) -> Tensor:
        level = levels[schedule.T - int(torch.as_tensor(t).flatten()[0])]
        y = x_t * (1 + level**2) ** 0.5
        return (y - denoise(y, level)) / level

    x_T = x / (1 + levels[0] ** 2) ** 0.5
    *_, last = sample_chain(dpm_solver_2m(), schedule, eps_model, x_T)
    return last.x_t


def filled(denoise: Callable, x: Tensor, y: Tensor, levels: list[float], noise: Tensor) -> Tensor:
    """Return samples of x_0 whose first number is y, each step gone several times: RePaint.

    noise (n, rounds, 3, B, D): a round takes its three draws in order, the last after it is gone.
    """
    for (level, lower), draws in zip(pairwise([*levels, 0.0]), noise, strict=True):
        keep = (lower / level) ** 2
        for z, fresh, back in draws:
            guess = denoise(x, level)
            down = guess + keep * (x - guess) + lower * (1 - keep) ** 0.5 * z
            down[:, 0] = y + lower * fresh[:, 0]
            x = down + (level**2 - lower**2) ** 0.5 * back
        x = down
    return x


def tilted(log_prob: Callable, log_p: Callable, w: float, x: Tensor, u: Tensor) -> Tensor:
    """Return samples of p(x) p(y | x)^w / Z, by rejection: those draws of p(x | y) that are kept.

    p(x) p(y | x)^w is p(x | y) p(y | x)^(w - 1) up to a factor, and for w >= 1 the second is a
    chance. How many are kept is random.
    """
    return x[u < torch.exp((w - 1) * log_p(x, 0.0))]


def train_control(model: nn.Module, batches: list, lr: float) -> Tensor:
    """Train model.control as the exhibit does, with model.base in eval(): its averages rest."""
    model.train()
    model.base.requires_grad_(False).eval()
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
    """Return z_t as the exhibit does, with a scale for each channel."""
    scale = train.square().mean((0, 2, 3)).rsqrt()[:, None, None]
    return alpha_bar**0.5 * scale * z + (1 - alpha_bar) ** 0.5 * eps


def race(denoise: Callable, eps: Tensor, times: list[float]) -> Tensor:
    """Return the samples of a flow and of DDIM as the exhibit does, both at the flow's SNRs."""
    flow, ddim = eps, eps
    for time, later in pairwise(times):
        flow = flow + (later - time) * (flow - denoise(flow, 1 - time, time)) / time
    sizes = [math.hypot(1 - time, time) for time in times]
    stops = [((1 - time) / size, time / size) for time, size in zip(times, sizes, strict=True)]
    for (a, b), (a_s, b_s) in pairwise(stops):
        guess = denoise(ddim, a, b)
        ddim = a_s * guess + b_s * (ddim - a * guess) / b
    return torch.stack([flow, ddim])


def mean_gradient(gradient: Callable, x: Tensor, ranks: int, seed: int) -> Tensor:
    """Return the gradient on which processes agree, each with noise of its own."""
    found = []
    for rank, part in enumerate(x.chunk(ranks)):
        rng = processes.own_generator(seed, processes.Place(rank, ranks))
        eps = torch.randn(part.shape, generator=rng, dtype=x.dtype)
        found.append(gradient(part, eps.to(x)))
    return torch.stack(found).mean(0)
