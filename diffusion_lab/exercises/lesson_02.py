"""Lesson 02: a draw of x_t, alpha_bar from the SNR, steps until pure noise, a variance."""

import math
from collections.abc import Callable
from functools import cache
from itertools import count

import torch
from torch import Tensor

from diffusion_core import mixtures, process, schedules

from .exercise import Exercise, draw_alpha_bars

DTYPES = (torch.float64, torch.float32)


def _noisy(x0: Tensor, alpha_bar_t: Tensor, eps: Tensor) -> Tensor:
    schedule = schedules.schedule_from_alpha_bars(alpha_bar_t)
    return process.q_sample(schedule, x0, torch.arange(1, len(x0) + 1), eps)


def _draws(generator: torch.Generator) -> list[tuple]:
    cases = []
    for dtype in DTYPES:
        for shape in ((3, 2), (2, 2), (1, 2), (6, 5)):
            x0, eps = torch.randn(2, *shape, generator=generator, dtype=dtype)
            cases.append((x0, draw_alpha_bars(shape[0], generator, dtype), eps))
    return cases


def _snrs(generator: torch.Generator) -> list[tuple]:
    """SNRs from 1e-9 to 1e9, and those of a schedule from t = 1 to T."""
    cases = [(schedules.linear_schedule(1000).snr[1:],)]
    for dtype in DTYPES:
        ends = torch.tensor([1e-9, 1.0, 1e9], dtype=dtype)
        powers = 18 * torch.rand(4, 3, generator=generator, dtype=dtype) - 9
        cases += [(ends,), (10**powers,)]
    return cases


@cache  # hundreds of schedules
def _steps_needed(beta: float) -> int:
    gaps = ((T, schedules.prior_gap(schedules.constant_schedule(T, beta))) for T in count(1))
    return next(T for T, gap in gaps if gap <= 0.01)


def _betas(generator: torch.Generator) -> list[tuple]:
    fresh = 0.03 + 0.1 * torch.rand(3, generator=generator, dtype=torch.float64)
    return [(beta,) for beta in [0.02, 0.1, 0.5, *fresh.tolist()]]


def _steps(beta: float, largest_alpha_bar: float) -> float:
    return math.log(largest_alpha_bar) / math.log(1 - beta)


def _variance_of_two_points() -> float:
    """The law of total variance, on the exact mixture after three steps."""
    points = mixtures.mixture(torch.tensor([[-2.0], [2.0]], dtype=torch.float64))
    x_3 = mixtures.diffuse(schedules.constant_schedule(3, 0.5), points, 3)
    return (x_3.weights * (x_3.means[:, 0] ** 2 + x_3.vars)).sum().item()


def _with(signal: Callable, noise: Callable) -> Callable:
    """A draw with other factors of x0 and eps, functions of a column of alpha_bar_t."""
    return lambda x0, alpha_bar_t, eps: (
        signal(alpha_bar_t[:, None]) * x0 + noise(alpha_bar_t[:, None]) * eps
    )


LIMIT = 1 - math.exp(-0.02 * math.log(2))  # the largest alpha_bar_T with a gap of 0.01 bits

EXERCISES = {
    "02.1": Exercise(
        truth=_noisy,
        cases=_draws,
        mistakes={
            "Both roots are missing: 1 - alpha_bar_t is a variance, and eps is multiplied by a "
            "standard deviation (section 2).": _with(lambda a: a, lambda a: 1 - a),
            "The noise is scaled by its variance, 1 - alpha_bar_t. Scale it by the standard "
            "deviation, which is the root.": _with(torch.sqrt, lambda a: 1 - a),
            "x0 is multiplied by alpha_bar_t. Formula (4) has its root there.": (
                _with(lambda a: a, lambda a: (1 - a).sqrt())
            ),
            "1 - sqrt(alpha_bar_t) is not sqrt(1 - alpha_bar_t): subtract first, then take the "
            "root.": _with(torch.sqrt, lambda a: 1 - a.sqrt()),
            "Signal and noise have changed places: at small t, alpha_bar_t is near 1, and x_t "
            "should be near x0.": _with(lambda a: (1 - a).sqrt(), torch.sqrt),
            "This is the mean of x_t. The noise is missing.": _with(torch.sqrt, torch.zeros_like),
            "The factors go along the wrong axis: alpha_bar_t has one number for each example, so "
            "give it the shape (B, 1).": lambda x0, alpha_bar_t, eps: (
                alpha_bar_t.sqrt() * x0 + (1 - alpha_bar_t).sqrt() * eps
            ),
            "alpha_bar_t is the product already. Do not multiply it up again.": (
                lambda x0, alpha_bar_t, eps: _noisy(x0, alpha_bar_t.cumprod(0), eps)
            ),
        },
        hints=(
            "Two factors are needed, one for x0 and one for eps. Formula (4) has both.",
            "Formula (4) gives a variance; eps is multiplied by its root. And a factor of shape "
            "(B,) does not fit (B, D): alpha_bar_t[:, None] has shape (B, 1).",
            "Return keep.sqrt() * x0 + (1 - keep).sqrt() * eps, with keep = alpha_bar_t[:, None].",
        ),
    ),
    "02.2": Exercise(
        truth=lambda snr: torch.sigmoid(snr.log()),
        cases=_snrs,
        relative=True,
        mistakes={
            "1 - 1 / (1 + snr) is right on paper, but for a small SNR it is a difference of two "
            "numbers near 1, and loses its digits (section 11).": lambda snr: 1 - 1 / (1 + snr),
            "Check the sign when you solve for alpha_bar: yours is negative for a large SNR.": (
                lambda snr: snr / (1 - snr)
            ),
            "This is 1 - alpha_bar, the share of the noise.": lambda snr: 1 / (1 + snr),
            "The SNR is a ratio of variances. There are no roots in it.": (
                lambda snr: snr.sqrt() / (1 + snr.sqrt())
            ),
            "This is the way from alpha_bar to the SNR, plus 1. Solve SNR (1 - alpha_bar) = "
            "alpha_bar for alpha_bar.": lambda snr: (1 + snr) / snr,
        },
        hints=(
            "Multiply SNR = alpha_bar / (1 - alpha_bar) by 1 - alpha_bar.",
            "Collect what holds alpha_bar on one side: alpha_bar (1 + SNR) = SNR.",
        ),
    ),
    "02.3": Exercise(
        truth=_steps_needed,
        cases=_betas,
        mistakes={
            "The number of steps is not whole: round it, in the right direction.": (
                lambda beta: _steps(beta, LIMIT)
            ),
            "One step too few: rounded down, the gap is still above 0.01.": (
                lambda beta: math.floor(_steps(beta, LIMIT))
            ),
            "One step too many: is the first T that is small enough T or T + 1?": (
                lambda beta: math.ceil(_steps(beta, LIMIT)) + 1
            ),
            "The gap is in bits, your logarithm in nats: a factor ln 2 is missing.": (
                lambda beta: math.ceil(_steps(beta, 1 - math.exp(-0.02)))
            ),
            "The 2 in 2 ln 2 is missing.": (
                lambda beta: math.ceil(_steps(beta, 1 - math.exp(-0.01 * math.log(2))))
            ),
            "You asked for alpha_bar_T <= 0.01. It is the gap that should be at most 0.01.": (
                lambda beta: math.ceil(_steps(beta, 0.01))
            ),
            "You solved for beta^T. What a step keeps is 1 - beta.": (
                lambda beta: math.ceil(math.log(LIMIT) / math.log(beta))
            ),
        },
        hints=(
            "First solve the gap for alpha_bar_T, then alpha_bar_T for T.",
            "The gap is 0.01 where alpha_bar_T = 1 - exp(-0.01 · 2 ln 2). A smaller alpha_bar_T "
            "has a smaller gap.",
            "T is at least ln(that alpha_bar_T) / ln(1 - beta). math.ceil rounds up.",
        ),
    ),
    "02.4": Exercise(
        truth=_variance_of_two_points,
        cases=lambda generator: [()],
        mistakes={
            "This is the variance of the noise alone. x_0 varies, too.": lambda: 1 - 0.5**3,
            "This is the variance of what is left of x_0. Noise was added.": lambda: 0.5**3 * 4,
            "The variance stays 1 only if it was 1 at the start. That of -2 and 2 is 4.": lambda: 1,
            "This is the standard deviation. Asked is the variance.": (
                lambda: math.sqrt(0.5**3 * 4 + 1 - 0.5**3)
            ),
            "A factor of x_0 comes squared into the variance: alpha_bar, not its root.": (
                lambda: math.sqrt(0.5**3) * 4 + 1 - 0.5**3
            ),
            "The three variances of the noise do not just add up: each step shrinks what came "
            "before it.": lambda: 0.5**3 * 4 + 3 * 0.5,
            "x_0 itself is shrunk by three steps: multiply its variance by alpha_bar_3.": (
                lambda: 4 + 1 - 0.5**3
            ),
            "After one step the variance is this. Take two more.": lambda: 0.5 * 4 + 0.5,
        },
        hints=(
            "What is alpha_bar_3? And what is the variance of a number that is -2 or 2?",
            "x_3 is a factor times x_0, plus independent noise. Variances of independent numbers "
            "add up, and a factor c counts as c².",
            "alpha_bar_3 · 4 + (1 - alpha_bar_3), with alpha_bar_3 = 0.5³.",
        ),
    ),
}
