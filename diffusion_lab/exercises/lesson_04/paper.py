"""Exercises 04.1 and 04.2, for paper: the prior term, and the weight of the error of x_0."""

import math
from itertools import product

import torch
from torch import Tensor

from diffusion_core.elbo_weights import eps_weights
from diffusion_core.gaussian import Gaussian, kl_divergence
from diffusion_core.process import q_marginal
from diffusion_core.schedules import schedule_from_alpha_bars

from ..exercise import Exercise

DTYPES = (torch.float64, torch.float32)
SHAPES = ((6,), (2, 3), (1,))
ALMOST_NOISE = 1e-6  # the alpha_bar of a last step that only completes a schedule


def _prior_term() -> float:
    schedule = schedule_from_alpha_bars(torch.tensor([0.25], dtype=torch.float64))
    x0 = torch.full((1, 1), 2.0, dtype=torch.float64)
    standard = Gaussian(torch.zeros_like(x0), torch.ones_like(x0))
    return kl_divergence(q_marginal(schedule, x0, 1), standard).item()


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
            "This is the value for x_0^2 = 1, as in the table of section 6; here x_0 = 2.": (
                lambda: _prior_term() - 0.25 * (2**2 - 1) / 2
            ),
        },
        hints=(
            "Which Gaussian is q(x_T | x_0)? Write down its mean and its variance.",
            "The bracket of (17) has three parts: one with x_0, and two with the variance alone.",
        ),
    ),
    "04.2": Exercise(
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
            "Write alpha_t and beta_t with alpha_bar_{t-1} and alpha_bar_t; much of it cancels.",
        ),
    ),
}
