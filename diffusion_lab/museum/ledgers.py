"""What the exhibits on likelihood are measured with: an exact log-likelihood, and a sum.

Every instrument takes a function in the place of its exhibit, and repeats exactly.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_core.decoders import gaussian_decoder
from diffusion_core.elbo import ElboTerms, elbo_terms
from diffusion_core.gaussian import Gaussian
from diffusion_core.mixtures import mixture_eps_model
from diffusion_core.predictions import x0_from_eps
from diffusion_core.process import p_step
from diffusion_core.schedules import NoiseSchedule, linear_schedule

from .readings import ONE, Reading, quiet
from .walks import BELL


def short_schedule() -> NoiseSchedule:
    """Return a schedule with a large L_T, which a bound must not forget."""
    return quiet(lambda: linear_schedule(50))


def ledger(schedule: NoiseSchedule, n: int) -> ElboTerms:
    """Return the terms of the ELBO for n of the x_0 ~ N(0, 1), with the exact denoiser."""
    perfect, rng = mixture_eps_model(schedule, BELL), torch.Generator().manual_seed(1)
    options = {"variances": schedule.betas, "generator": rng}
    return elbo_terms(schedule, perfect, bell_points(n), decoder=gaussian_decoder, **options)


def bell_points(n: int) -> Tensor:
    """Return n draws x_0 ~ N(0, 1), (n, 1), the same ones each time."""
    return torch.randn(n, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def exact_model(schedule: NoiseSchedule) -> Gaussian:
    """Return p(x_0) of the model in the ledger, exactly: its steps are linear in x_t."""
    perfect, variance = mixture_eps_model(schedule, BELL), 1.0
    for t in range(schedule.T, 0, -1):
        x0_hat = x0_from_eps(schedule, ONE, perfect(ONE, t), t)
        kept, var = p_step(schedule, ONE, x0_hat, t, variances=schedule.betas)
        variance = kept.item() ** 2 * variance + var.item()
    return Gaussian(0 * ONE, variance * ONE)


def above_exact(bound_of: Callable[[ElboTerms], Tensor]) -> Reading:
    """Measure how far a bound lies above the exact log-likelihood, on average.

    The model is exact here, so the bound should meet it: 0.1 is five standard errors.
    """
    schedule = short_schedule()
    exact = exact_model(schedule).log_prob(bell_points(4000))[:, 0]
    excess = (bound_of(ledger(schedule, 4000)) - exact).mean().item()
    return Reading("ELBO minus exact log-likelihood, in nats, on average", excess, -0.1, 0.1)


def sum_of_levels(probs_of: Callable[[float, float], Tensor]) -> Reading:
    """Add up the probabilities of all 256 levels, for a mean in their middle and one at an end."""
    sums = [probs_of(mean, 0.1).sum().item() for mean in (0.5, 0.0)]
    worst = max(sums, key=lambda total: abs(total - 1))
    return Reading("Sum of the probabilities of the 256 levels", worst, 1 - 1e-6, 1 + 1e-6)
