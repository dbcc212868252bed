"""The evidence lower bound of a diffusion model, term by term, as numbers."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .checks import check_count, check_data, check_finite, check_kinds, like_input, require
from .decoders import Decoder, decoded
from .gaussian import Gaussian, kl_divergence, standard_gaussian
from .predictions import Model, x0_from_eps
from .process import p_step, q_marginal, q_posterior, q_sample, q_step
from .schedules import NoiseSchedule
from .tables import probabilities, reverse_vars


class ElboTerms(NamedTuple):
    """-ELBO(x0) = prior + steps.sum(1) + recon, in nats for each example.

    prior (B,): L_T. steps (B, T+1): column t is the KL of the step t -> t-1, the paper's L_{t-1};
    columns 0 and 1 are 0. recon (B,): L_0 = -E log p(x_0 | x_1).
    """

    prior: Tensor
    steps: Tensor
    recon: Tensor


class ElboEstimate(NamedTuple):
    """The mean of -ELBO over examples, in nats, and its standard error."""

    mean: float
    std_error: float


def elbo_terms(
    schedule: NoiseSchedule,
    eps_model: Model,
    x0: Tensor,
    *,
    decoder: Decoder,
    variances: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> ElboTerms:
    """Return every term of -ELBO(x_0), the steps with one draw x_t ~ q(x_t | x_0) each.

    -ELBO = KL(q(x_T | x_0) || N(0, I)) - E log p(x_0 | x_1)
    + sum_{t=2..T} E KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)).
    `variances`: the sigma_t^2 of p for t >= 2, schedule.posterior_vars (default), betas or
    any table; p(x_0 | x_1) = decoder(x_0, N(x0_hat, beta_1 I), x_1).
    x0 (B, ...); float64 x0 gives float64 terms. Source: Ho et al. (2020), equation 5.
    """
    prior = _prior(schedule, x0)
    reverse = _reverse(schedule, eps_model, variances)
    steps = x0.new_zeros(len(x0), schedule.T + 1)
    with torch.no_grad():
        for t in range(2, schedule.T + 1):
            times = torch.full((len(x0),), t, device=x0.device)
            steps[:, t] = _step_kl(schedule, reverse, x0, times, generator)
        recon = _recon(schedule, reverse, x0, decoder, generator)
    return ElboTerms(prior, steps, recon)


def elbo_estimate(
    schedule: NoiseSchedule,
    eps_model: Model,
    x0: Tensor,
    *,
    decoder: Decoder,
    probs: Tensor,
    draws: int = 4,
    variances: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> ElboEstimate:
    """Estimate the mean of -ELBO over x_0 with few network calls: `draws` + 1 for each example.

    sum_t L_{t-1} is estimated by the mean of L_{t-1} / (probs_t) over t drawn from probs (T+1,).
    x0 (B, ...), B >= 2; the standard error is that over the examples. Raises ValueError where
    probs does not sum to 1 over 2..T. Source: Nichol and Dhariwal (2021), section 3.3.
    """
    check_count("draws", draws)
    check_kinds(schedule=schedule)
    probs = probabilities(schedule, probs)
    total = _prior(schedule, x0)
    require(len(x0) >= 2, "x0", "hold at least two examples, for a standard error", x0)
    reverse = _reverse(schedule, eps_model, variances)
    with torch.no_grad():
        total = total + _recon(schedule, reverse, x0, decoder, generator)
        device = (generator or probs).device
        for _ in range(draws):
            t = torch.multinomial(probs.to(device), len(x0), replacement=True, generator=generator)
            kl = _step_kl(schedule, reverse, x0, t.to(x0.device), generator)
            total = total + kl / (draws * probs[t.cpu()].to(kl))
    return ElboEstimate(total.mean().item(), (total.std() / math.sqrt(len(total))).item())


def log_ratio(
    schedule: NoiseSchedule,
    eps_model: Model,
    states: Tensor,
    *,
    decoder: Decoder,
    variances: Tensor | None = None,
) -> Tensor:
    """Return log p(x_{0:T}) - log q(x_{1:T} | x_0), shape (B,), in nats, of whole trajectories.

    states (T+1, B, ...) as from `q_trajectory`. The mean over q is ELBO(x_0).
    Source: Ho et al. (2020), equation 3.
    """
    _check_states(schedule, states)
    steps = range(1, schedule.T + 1)
    forward = sum(_log_prob(states[t], q_step(schedule, states[t - 1], t)) for t in steps)
    log_p = _log_p(schedule, eps_model, states, decoder=decoder, variances=variances)
    return check_finite(log_p - forward, states=states)


def log_ratio_telescoped(
    schedule: NoiseSchedule, eps_model: Model, states: Tensor, **options
) -> Tensor:
    """Return the numbers of `log_ratio`, options as there, with q written backwards by Bayes' rule.

    q(x_{1:T} | x_0) = q(x_T | x_0) prod_{t=2..T} q(x_{t-1} | x_t, x_0): the step that turns the
    ELBO into one KL for each t. Source: Ho et al. (2020), appendix A.
    """
    _check_states(schedule, states)
    backward = _log_prob(states[-1], q_marginal(schedule, states[0], schedule.T))
    for t in range(2, schedule.T + 1):
        q = q_posterior(schedule, states[t], states[0], t)
        backward = backward + _log_prob(states[t - 1], q)
    return check_finite(_log_p(schedule, eps_model, states, **options) - backward, states=states)


def _check_states(schedule: NoiseSchedule, states: Tensor) -> None:
    """Refuse what are no trajectories (T+1, B, ...) of finite numbers."""
    check_kinds(schedule=schedule)
    check_data("states", states)
    ok = states.ndim > 1 and len(states) == schedule.T + 1
    require(ok, "states", f"have {schedule.T + 1} rows (T+1, B, ...)", states)


def _log_prob(x: Tensor, p: Gaussian) -> Tensor:
    return p.log_prob(x).flatten(1).sum(1)


def _log_p(schedule, eps_model, states: Tensor, *, decoder: Decoder, variances=None) -> Tensor:
    """Return log p(x_{0:T}) of trajectories."""
    reverse = _reverse(schedule, eps_model, variances)
    total = _log_prob(states[-1], standard_gaussian(states[0]))
    for t in range(schedule.T, 0, -1):
        with torch.no_grad():
            p = reverse(states[t], torch.full((states.shape[1],), t, device=states.device))
        total = total + (
            _log_prob(states[t - 1], p) if t > 1 else decoded(decoder, states[0], p, states[1])
        )
    return total


def _reverse(schedule, eps_model: Model, variances: Tensor | None) -> Callable[..., Gaussian]:
    """Return (x_t, t) -> p(x_{t-1} | x_t); at t = 1 its variance is beta_1, not the table's."""
    check_kinds(eps_model=eps_model)
    variances = reverse_vars(schedule, variances).clone()
    variances[1] = schedule.betas[1]

    def reverse(x_t: Tensor, t: Tensor) -> Gaussian:
        x0_hat = x0_from_eps(schedule, x_t, like_input(eps_model(x_t, t), x_t), t)
        return p_step(schedule, x_t, x0_hat, t, variances=variances)

    return reverse


def _prior(schedule: NoiseSchedule, x0: Tensor) -> Tensor:
    """Return L_T = KL(q(x_T | x_0) || N(0, I)) for each example."""
    check_kinds(schedule=schedule)
    check_data("x0", x0)
    require(x0.ndim > 1, "x0", "have shape (B, ...), two axes or more", x0)
    return (
        kl_divergence(q_marginal(schedule, x0, schedule.T), standard_gaussian(x0)).flatten(1).sum(1)
    )


def _step_kl(schedule, reverse: Callable, x0: Tensor, t: Tensor, generator) -> Tensor:
    """Return KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) for each example, t (B,) in 2..T."""
    check_kinds(generator=generator)
    x_t = q_sample(schedule, x0, t, generator=generator)
    p = reverse(x_t, t)
    return kl_divergence(q_posterior(schedule, x_t, x0, t), p).flatten(1).sum(1)


def _recon(schedule, reverse: Callable, x0: Tensor, decoder: Decoder, generator) -> Tensor:
    """Return -log p(x_0 | x_1) for each example, with one draw of x_1."""
    check_kinds(generator=generator)
    x_1 = q_sample(schedule, x0, 1, generator=generator)
    p = reverse(x_1, x0.new_ones(len(x0), dtype=torch.int64))
    decoder = partial(decoded, decoder)  # its answer is looked at
    return -decoder(x0, p, x_1)
