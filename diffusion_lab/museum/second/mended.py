"""The exhibits of lesson 14b as they should be, by the package."""

from collections.abc import Callable

import torch
from torch import Tensor

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
