"""The exhibits of lesson 14b: short functions, each with one mistake. Do not import them.

Nothing here raises an error or a warning by itself, and every docstring says what the function
ought to do.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

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
