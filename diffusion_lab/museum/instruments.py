"""What the exhibits on the way into noise, and on training, are measured with.

Every instrument takes a function in the place of its exhibit, and repeats exactly.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_core.schedules import LARGEST_PRIOR_GAP, NoiseSchedule, prior_gap, vp_schedule

from .readings import ONE, Reading, quiet


def gap_of_50(betas_of: Callable[[int], Tensor]) -> Reading:
    """Measure the prior gap of a schedule of 50 steps."""
    gap = prior_gap(quiet(lambda: NoiseSchedule(betas_of(50))))
    return Reading("Prior gap of 50 steps, in bits per dimension", gap, high=LARGEST_PRIOR_GAP)


def last_beta(betas_of: Callable[[int], Tensor]) -> Reading:
    """Measure where 1000 betas end."""
    return Reading("The last of 1000 betas", betas_of(1000)[-1].item(), 0.0198, 0.0202)


def variances_by_steps(schedule: NoiseSchedule, step: Callable) -> list[float]:
    """Return the variances of x_0..x_T from x_0 = 0, by T steps x -> a x + b z put together."""
    variances = [0.0]
    for t in range(1, schedule.T + 1):
        kept = step(schedule, ONE, t, 0 * ONE).item()
        added = step(schedule, 0 * ONE, t, ONE).item()
        variances.append(kept**2 * variances[-1] + added**2)
    return variances


def composed(step: Callable) -> Reading:
    """Compare 200 steps, one after the other, with the marginal q(x_T | x_0)."""
    schedule = vp_schedule(200)
    ratio = variances_by_steps(schedule, step)[-1] / schedule.marginal_vars[-1].item()
    what = "Variance after 200 steps, in multiples of that of q(x_T | x_0)"
    return Reading(what, ratio, 0.99, 1.01)


def steps_missed(pick: Callable[[int, int, int], Tensor]) -> Reading:
    """Count the steps of 1..50 that 20 000 draws miss, and the drawn ones outside."""
    drawn, wanted = set(pick(50, 20_000, 0).tolist()), set(range(1, 51))
    what = "Steps of 1..50 that 20 000 draws miss, and drawn ones outside"
    return Reading(what, len(drawn ^ wanted), 0, 0)


def nearest(vectors: Tensor) -> Tensor:
    """Return the row that is nearest to each row, itself left out."""
    exact = "donot_use_mm_for_euclid_dist"
    distances = torch.cdist(vectors.double(), vectors.double(), compute_mode=exact)
    return distances.fill_diagonal_(math.inf).argmin(1)


def neighbours(embed: Callable[[Tensor, int], Tensor]) -> Reading:
    """Say for how many steps of 1..200 the nearest vector is that of a step beside it."""
    beside = (nearest(embed(torch.arange(1, 201), 32)) - torch.arange(200)).abs() == 1
    what = "Share of 200 steps t whose nearest vector is that of t - 1 or t + 1"
    return Reading(what, beside.double().mean().item(), 1, 1)


def below(layer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Reading:
    """Measure the share of 10 000 answers to random features that are below -1.

    Given the weights they are normal, with mean bias and std |weight|.
    """
    rng = torch.Generator().manual_seed(0)
    h, weight, bias = (
        torch.randn(shape, generator=rng, dtype=torch.float64)
        for shape in ((10_000, 16), (1, 16), (1,))
    )
    share = (layer(h, weight, bias) < -1).double().mean().item()
    return Reading("Share of 10 000 answers below -1", share, 0.25, 0.55)
