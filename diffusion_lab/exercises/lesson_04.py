"""Lesson 04: the prior term, the KL of two Gaussians, the weight of x_0, the variance to choose."""

import math
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from diffusion_core.elbo_weights import best_variances, eps_weights
from diffusion_core.gaussian import Gaussian, kl_divergence
from diffusion_core.process import q_marginal
from diffusion_core.schedules import NoiseSchedule, schedule_from_alpha_bars

from .exercise import Exercise

DTYPES = (torch.float64, torch.float32)
SHAPES = ((6,), (2, 3), (1,))
ALMOST_NOISE = 1e-6  # the alpha_bar of a last step that only completes a schedule


def _prior_term() -> float:
    schedule = schedule_from_alpha_bars(torch.tensor([0.25], dtype=torch.float64))
    x0 = torch.full((1, 1), 2.0, dtype=torch.float64)
    standard = Gaussian(torch.zeros_like(x0), torch.ones_like(x0))
    return kl_divergence(q_marginal(schedule, x0, 1), standard).item()


def _kl(mean_p: Tensor, var_p: Tensor, mean_q: Tensor, var_q: Tensor) -> Tensor:
    return kl_divergence(Gaussian(mean_p, var_p), Gaussian(mean_q, var_q))


def _pairs(generator: torch.Generator) -> list[tuple]:
    cases = []
    for dtype, shape in product(DTYPES, SHAPES):
        mean_p, mean_q = torch.randn(2, *shape, generator=generator, dtype=dtype)
        var_p, var_q = 0.3 + torch.rand(2, *shape, generator=generator, dtype=dtype)
        cases.append((mean_p, 2 * var_p, mean_q, var_q))
    return cases


def _half_kl(of_log: float, power: float) -> Callable:
    """Return the KL with a factor before the logarithm and var_q to a power under the square."""

    def kl(mean_p: Tensor, var_p: Tensor, mean_q: Tensor, var_q: Tensor) -> Tensor:
        ratio = var_p / var_q
        return 0.5 * (ratio - 1 + of_log * ratio.log() + (mean_p - mean_q) ** 2 / var_q**power)

    return kl


def _ratios(generator: torch.Generator) -> list[tuple]:
    cases = []
    for dtype, shape in product(DTYPES, SHAPES):
        before = 0.3 + 0.65 * torch.rand(shape, generator=generator, dtype=dtype)
        now = before * (0.1 + 0.7 * torch.rand(shape, generator=generator, dtype=dtype))
        cases.append((before / (1 - before), now / (1 - now)))
    return cases


def _x0_weight(snr_before: Tensor, snr: Tensor) -> Tensor:
    """The weight of eps by the package, times |eps - eps_hat|^2 / |x_0 - x0_hat|^2 = SNR_t."""
    weights = []
    for pair in zip(snr_before.flatten().tolist(), snr.flatten().tolist(), strict=True):
        rows = [ratio / (1 + ratio) for ratio in pair]
        schedule = schedule_from_alpha_bars([*rows, ALMOST_NOISE])
        weights.append((eps_weights(schedule)[0] * schedule.snr)[2].item())
    return snr.new_tensor(weights).reshape(snr.shape)


def _best(schedule: NoiseSchedule, errors: Tensor, t: int) -> Tensor:
    tables = [torch.full_like(schedule.betas, error) for error in errors.tolist()]
    return torch.stack([best_variances(schedule, table)[t] for table in tables]).to(errors)


def _nu_of(variance: Tensor, schedule: NoiseSchedule, t: int) -> Tensor:
    """Return where a variance lies between the two usual ones, on a logarithmic scale."""
    low, high = schedule.posterior_vars[t], schedule.betas[t]
    return (variance / low).log() / (high / low).log()


def _nu(schedule: NoiseSchedule, errors: Tensor, t: int) -> Tensor:
    return _nu_of(_best(schedule, errors.double(), t), schedule, t).to(errors)


def _linear_nu(schedule: NoiseSchedule, errors: Tensor, t: int) -> Tensor:
    low, high = schedule.posterior_vars[t], schedule.betas[t]
    return (_best(schedule, errors, t) - low) / (high - low)


def _nu_with(error_factor: Callable[[NoiseSchedule, int], Tensor]) -> Callable:
    """Return nu with another factor of the error in the best variance."""
    return lambda s, errors, t: _nu_of(s.posterior_vars[t] + error_factor(s, t) * errors, s, t)


def _measured(generator: torch.Generator) -> list[tuple]:
    cases = []
    for dtype in DTYPES:
        T = int(torch.randint(5, 12, (1,), generator=generator))
        betas = 0.05 + 0.2 * torch.rand(T, generator=generator, dtype=torch.float64)
        inner = int(torch.randint(3, T, (1,), generator=generator))
        for t, size in ((2, 4), (inner, 1), (T, 3)):
            errors = 0.2 + 0.7 * torch.rand(size, generator=generator, dtype=dtype)
            cases.append((NoiseSchedule(betas), errors, t))
    return cases


EXERCISES = {
    "04.1": Exercise(
        truth=_prior_term,
        cases=lambda generator: [()],
        mistakes={
            "This is in bits; nats were asked for.": lambda: _prior_term() / math.log(2),
            "The factor 1/2 before the bracket is missing.": lambda: 2 * _prior_term(),
            "The logarithm has the wrong sign.": lambda: _prior_term() + math.log(0.75),
            "x_0 stands in the formula with its square.": lambda: _prior_term() - 0.25,
            "The logarithm is of 1 - alpha_bar_T, the variance of x_T, and not of alpha_bar_T.": (
                lambda: _prior_term() + 0.5 * (math.log(0.75) - math.log(0.25))
            ),
            "The logarithm is missing.": lambda: _prior_term() + 0.5 * math.log(0.75),
        },
        hints=(
            "Which Gaussian is q(x_T | x_0)? Write down its mean and its variance.",
            "Equation (17): 0.25 times 4, less 0.25, less ln 0.75; then half of it.",
        ),
    ),
    "04.2": Exercise(
        truth=_kl,
        cases=_pairs,
        mistakes={
            "Both mistakes are still there. Two equal Gaussians give 0; try two that differ only "
            "in variance.": _half_kl(1, 0.5),
            "One mistake is left, in the last part: what divides the square, a variance or a "
            "standard deviation?": _half_kl(-1, 0.5),
            "One mistake is left: the sign of the logarithm. It makes the result negative for "
            "some pairs.": _half_kl(1, 1),
            "This is KL(q || p): the two Gaussians are swapped.": lambda *p: _kl(*p[2:], *p[:2]),
            "The square is divided by var_p; the one to divide by is that of q.": (
                lambda m, v, n, w: _kl(m, v, m, w) + (m - n) ** 2 / (2 * v)
            ),
            "The factor 1/2 is missing.": lambda *case: 2 * _kl(*case),
        },
        hints=(
            "A divergence is never below 0. For which ratio does the colleague's become negative?",
            "Compare with (15), sign by sign, and look for a root that does not belong there.",
            "Minus ratio.log(), and var_q without its root.",
        ),
    ),
    "04.3": Exercise(
        truth=_x0_weight,
        cases=_ratios,
        mistakes={
            "The factor 1/2 is missing.": lambda before, now: before - now,
            "The sign is wrong: the SNR falls with t, and a weight is positive.": (
                lambda before, now: (now - before) / 2
            ),
            "This is the weight of the error of eps. How does it follow from that of x_0?": (
                lambda before, now: _x0_weight(before, now) / now
            ),
            "The error of eps is SNR_t times that of x_0: you divided by it.": (
                lambda before, now: _x0_weight(before, now) / now**2
            ),
            "The error is squared, so its factor is SNR_t and not the root.": (
                lambda before, now: _x0_weight(before, now) / now.sqrt()
            ),
            "This has sigma_t^2 = beta_t; the posterior variance was asked for.": (
                lambda before, now: _x0_weight(before, now) * (1 + now) / (1 + before)
            ),
        },
        hints=(
            "The same x_t: which error of x_0 belongs to which error of eps?",
            "|eps - eps_hat|^2 = SNR_t |x_0 - x0_hat|^2. Put it into (16).",
            "Write beta_t as 1 - alpha_bar_t / alpha_bar_{t-1}: half of a difference is left.",
        ),
    ),
    "04.4": Exercise(
        truth=_nu,
        cases=_measured,
        mistakes={
            "This is nu on the scale of the variances, not of their logarithms.": _linear_nu,
            "This is 1 - nu: nu = 1 belongs to beta_t.": lambda *case: 1 - _nu(*case),
            "The error needs its factor beta_t^2 / (alpha_t (1 - alpha_bar_t)).": (
                _nu_with(lambda s, t: torch.ones(()).double())
            ),
            "In the factor of the error, alpha_t and not alpha_bar_t stands below the line.": (
                _nu_with(lambda s, t: s.betas[t] ** 2 / (s.alpha_bars[t] * s.marginal_vars[t]))
            ),
            "In the factor of the error, beta_t is squared.": (
                _nu_with(lambda s, t: s.betas[t] / (s.alphas[t] * s.marginal_vars[t]))
            ),
            "This is the best variance itself; nu was asked for.": _best,
        },
        hints=(
            "First the best variance, from the error, by (23).",
            "Then solve log best = nu log beta + (1 - nu) log posterior for nu.",
            "nu = log(best / posterior) / log(beta / posterior).",
        ),
    ),
}
