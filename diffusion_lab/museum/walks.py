"""What the exhibits on the way back are measured with: moments, distances, nearest points.

Every instrument takes a function in the place of its exhibit, and repeats exactly.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from diffusion_core import metrics
from diffusion_core.mixtures import Mixture, diffuse, mixture, mixture_eps_model
from diffusion_core.samplers import ddim_step
from diffusion_core.schedules import NoiseSchedule, vp_schedule

from . import exhibits, mended
from .readings import EXACT, ONE, Reading

POINTS = 400  # in a cloud
HALF_WAY = 25  # of 50 steps
BELL = mixture(0 * ONE, 1.0)  # N(0, 1)
TWO = mixture(torch.cat([-ONE, ONE]))  # two points
SIDE = 0.8 * torch.arange(-1, 2, **EXACT)
NINE = mixture(torch.cartesian_prod(SIDE, SIDE), 0.05**2)  # lies in [-1, 1]
ANGLES = torch.arange(8, **EXACT) * torch.pi / 4
OFTEN = torch.tensor([8, 1, 1, 1, 1, 1, 1, 1], **EXACT)
RING = mixture(torch.stack([ANGLES.cos(), ANGLES.sin()], 1), 0.05**2, OFTEN)  # one mode has 8/15


def standard(rng: torch.Generator, dim: int) -> Tensor:
    """Draw POINTS rows from N(0, I)."""
    return torch.randn(POINTS, dim, generator=rng, dtype=torch.float64)


def real(data: Mixture) -> Callable[[int], Tensor]:
    """Return a function that draws fresh real points of a mixture, the same ones each time."""
    rng = torch.Generator().manual_seed(1)
    return lambda n: data.sample(n, generator=rng)


def two_samplers() -> dict[str, Callable]:
    """Return two steps of Algorithm 2, one of them wrong, by the names "A" and "B"."""
    return {"A": exhibits.step_back, "B": mended.step_back}


def variance_after(step: Callable, schedule: NoiseSchedule) -> float:
    """Walk back from N(0, 1) to data that is N(0, 1), with the exact denoiser, in variances."""
    perfect, variance = mixture_eps_model(schedule, BELL), 1.0
    for t in range(schedule.T, 0, -1):
        kept = step(schedule, ONE, perfect(ONE, t), t, 0 * ONE).item()
        added = step(schedule, 0 * ONE, 0 * ONE, t, ONE).item()
        variance = kept**2 * variance + added**2
    return variance


def walked_variance(step: Callable) -> Reading:
    """Measure the variance of samples of N(0, 1), exactly: each step is linear in x_t and z."""
    variance = variance_after(step, vp_schedule(50))
    return Reading("Variance of the samples, where the data has 1", variance, 0.98, 1.02)


def half_walk(step: Callable) -> Tensor:
    """Return states (n, 2) on the way to NINE, after the first half of 50 steps."""
    schedule, rng = vp_schedule(50), torch.Generator().manual_seed(0)
    perfect, x = mixture_eps_model(schedule, NINE), standard(rng, 2)
    for t in range(schedule.T, HALF_WAY, -1):
        x = step(schedule, x, perfect(x, t), t, standard(rng, 2))
    return x


def half_real() -> Callable[[int], Tensor]:
    """Return a function that draws real states half way to NINE."""
    return real(diffuse(vp_schedule(50), NINE, HALF_WAY))


def half_way(step: Callable) -> Reading:
    """Measure the energy distance of the states half way to real ones, against the floor."""
    ratio = metrics.times_floor(metrics.energy_distance, [half_walk(step)], half_real()).mean
    what = "Energy distance to real states half way, in multiples of the floor"
    return Reading(what, ratio, high=2.0)


def long_walk(step: Callable) -> Tensor:
    """Return samples (n, 2) of RING, by 20 strides with the exact denoiser."""
    schedule, rng = vp_schedule(100), torch.Generator().manual_seed(0)
    perfect, keep = mixture_eps_model(schedule, RING), schedule.alpha_bars.tolist()
    x = standard(rng, 2)
    for t, s in pairwise(range(schedule.T, -1, -5)):
        x = step(x, perfect(x, t), keep[t], keep[s], standard(rng, 2))
    return x


def at_the_end(step: Callable) -> Reading:
    """Measure the maximum mean discrepancy of samples to real points, against the floor."""
    ratio = metrics.times_floor(metrics.mmd, [long_walk(step)], real(RING)).mean
    return Reading("MMD to real points, in multiples of the floor", ratio, high=2.0)


def landed(stops_of: Callable[[int, int], list[int]]) -> Tensor:
    """Return samples (n, 1) of data that is two points, by 10 strides without fresh noise."""
    schedule, x = vp_schedule(50), standard(torch.Generator().manual_seed(0), 1)
    perfect = mixture_eps_model(schedule, TWO)
    for t, s in pairwise(stops_of(schedule.T, 10)):
        x = ddim_step(schedule, perfect, x, t, s).x_t
    return x


def from_nearest_point(stops_of: Callable[[int, int], list[int]]) -> Reading:
    """Measure how far the samples lie from the nearest point of the data, in the median."""
    distance = torch.cdist(landed(stops_of), TWO.means).min(1).values.median().item()
    return Reading("Median distance to the nearest of the data's points", distance, high=0.001)
