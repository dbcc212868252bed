"""Questions to the exhibits 7 to 12 of lesson 14 that do not find their mistakes.

Each takes a function in the place of an exhibit, as the instruments that find them do.
"""

from collections.abc import Callable
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

from diffusion_core import metrics
from diffusion_core.decoders import gaussian_decoder
from diffusion_core.elbo import ElboTerms, elbo_terms
from diffusion_core.mixtures import Mixture, mixture_eps_model
from diffusion_core.predictions import x0_from_eps
from diffusion_core.process import p_step
from diffusion_core.schedules import linear_schedule, vp_schedule

from . import ledgers, walks
from .readings import ONE, Reading


def many_steps(step: Callable) -> Reading:
    """Measure the variance of samples of N(0, 1) after 500 steps."""
    variance = walks.variance_after(step, vp_schedule(500))
    return Reading("Variance of the samples after 500 steps", variance, 0.9, 1.1)


def at_t_1(step: Callable) -> Reading:
    """Measure how far the noise moves the last step, to clean data."""
    both = [step(vp_schedule(50), ONE, ONE, 1, z * ONE).item() for z in (0, 1)]
    return Reading("Effect of z in the step from t = 1", abs(both[1] - both[0]), high=0.001)


def means(step: Callable) -> Reading:
    """Compare the mean of each step with the package's."""
    schedule, off = vp_schedule(50), []
    for t in range(2, 51):
        mean = p_step(schedule, ONE, x0_from_eps(schedule, ONE, ONE / 2, t), t).mean
        off.append(abs((step(schedule, ONE, ONE / 2, t, 0 * ONE) - mean).item()))
    return Reading("Largest error of a step's mean", max(off), high=0.001)


def whole_walk(step: Callable) -> Tensor:
    """Return samples (n, 2) of NINE, by 50 steps with the exact denoiser."""
    schedule, rng = vp_schedule(50), torch.Generator().manual_seed(0)
    perfect, x = mixture_eps_model(schedule, walks.NINE), walks.standard(rng, 2)
    for t in range(schedule.T, 0, -1):
        x = step(schedule, x, perfect(x, t), t, walks.standard(rng, 2))
    return x


def nine_at_the_end(step: Callable) -> Reading:
    """Measure the energy distance of the samples to real points, against the floor."""
    real = walks.real(walks.NINE)
    ratio = metrics.times_floor(metrics.energy_distance, [whole_walk(step)], real).mean
    return Reading("Energy distance at the end, in multiples of the floor", ratio, high=3.0)


def beyond(step: Callable) -> Reading:
    """Measure how far samples lie outside [-1, 1], where the data is."""
    off = max(whole_walk(step).abs().max().item() - 1, 0.0)
    return Reading("Farthest of a sample outside [-1, 1]", off, high=0.001)


def empty_modes(samples: Tensor, data: Mixture) -> int:
    """Count the modes of a mixture without a sample near them."""
    return sum(not share for share in metrics.mode_coverage(samples, data.means, radius=0.2).shares)


def all_nine(step: Callable) -> Reading:
    """Count the modes of NINE without a sample."""
    return Reading(
        "Modes of nine without a sample", empty_modes(whole_walk(step), walks.NINE), 0, 0
    )


def not_finite(step: Callable) -> Reading:
    """Count the coordinates that are NaN or infinite."""
    count = (~walks.long_walk(step).isfinite()).sum().item()
    return Reading("Coordinates that are NaN or infinite", count, 0, 0)


def ring_mean(step: Callable) -> Reading:
    """Measure how far the mean of the samples of RING is from the exact one."""
    exact = walks.RING.weights @ walks.RING.means
    off = (walks.long_walk(step).mean(0) - exact).norm().item()
    return Reading("Distance of the samples' mean from the exact one", off, high=0.25)


def all_eight(step: Callable) -> Reading:
    """Count the modes of RING without a sample."""
    empty = empty_modes(walks.long_walk(step), walks.RING)
    return Reading("Modes of eight without a sample", empty, 0, 0)


def start(stops_of: Callable) -> Reading:
    """Read the first stop of a walk from T = 50."""
    return Reading("The first stop of a walk from T = 50", stops_of(50, 10)[0], 50, 50)


def rises(stops_of: Callable) -> Reading:
    """Count the stops that are not below the one before."""
    count = sum(s >= t for t, s in pairwise(stops_of(50, 10)))
    return Reading("Stops that do not fall", count, 0, 0)


def number_of(stops_of: Callable) -> Reading:
    """Count the strides between stops."""
    return Reading("Strides between the stops, of 10", len(stops_of(50, 10)) - 1, 10, 10)


def shape(bound_of: Callable) -> Reading:
    """Count the numbers that come out for 200 examples."""
    found = bound_of(ledgers.ledger(ledgers.short_schedule(), 200)).numel()
    return Reading("Numbers for 200 examples", found, 200, 200)


def one_nat(bound_of: Callable) -> Reading:
    """Measure how much a nat more of L_0 moves the bound."""
    terms = ledgers.ledger(ledgers.short_schedule(), 200)
    moved = bound_of(terms._replace(recon=terms.recon + 1)) - bound_of(terms)
    return Reading("Change of the bound by a nat more of L_0", moved.mean().item(), -1.01, -0.99)


@cache
def long_ledger() -> ElboTerms:
    """Return the terms for 100 of the x_0 ~ N(0, 1), with 600 steps, which end in noise."""
    schedule = linear_schedule(600)
    perfect, rng = mixture_eps_model(schedule, walks.BELL), torch.Generator().manual_seed(1)
    options = {"variances": schedule.betas, "generator": rng}
    x = ledgers.bell_points(100)
    return elbo_terms(schedule, perfect, x, decoder=gaussian_decoder, **options)


def with_noise(bound_of: Callable) -> Reading:
    """Measure how far a bound lies above the exact log-likelihood, on average, with 600 steps."""
    schedule = linear_schedule(600)
    exact = ledgers.exact_model(schedule).log_prob(ledgers.bell_points(100))[:, 0]
    excess = (bound_of(long_ledger()) - exact).mean().item()
    return Reading("ELBO minus exact log-likelihood with 600 steps", excess, -0.5, 0.5)


def negative(probs_of: Callable) -> Reading:
    """Count the probabilities below 0."""
    return Reading("Probabilities below 0", (probs_of(0.2, 0.1) < 0).sum().item(), 0, 0)


def likeliest(probs_of: Callable) -> Reading:
    """Read the likeliest level: 51/255 = 0.2."""
    return Reading(
        "The likeliest level for the mean 0.2", probs_of(0.2, 0.05).argmax().item(), 51, 51
    )


def mean_level(probs_of: Callable) -> Reading:
    """Measure the mean of the levels, weighted by their probabilities."""
    levels, probs = torch.linspace(0, 1, 256, dtype=torch.float64), probs_of(0.5, 0.1)
    mean = ((probs * levels).sum() / probs.sum()).item()
    return Reading("Weighted mean of the levels for the mean 0.5", mean, 0.49, 0.51)
