"""Lesson 02: a variance, steps until pure noise, alpha_bar from the SNR, betas from a wish."""

import math
from functools import cache
from itertools import count

import torch
from torch import Tensor

from diffusion_core import mixtures, schedules

from .exercise import Exercise

DTYPES = (torch.float64, torch.float32)


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


def _before(alpha_bars: Tensor) -> Tensor:
    """Return alpha_bar_0 to alpha_bar_{T-1}."""
    return torch.cat([alpha_bars.new_ones(1), alpha_bars[:-1]])


def _clipped(betas: Tensor) -> Tensor:
    return betas.clamp(max=0.999)


def _betas_for(alpha_bars: Tensor) -> Tensor:
    """By the fall from one row to the next, over what was there; no gradient is asked for."""
    before = _before(alpha_bars)
    return _clipped((before - alpha_bars) / before).detach()


def _wishes(generator: torch.Generator) -> list[tuple]:
    """Falling curves; T = 1 among them, and a beta above 0.999 or one far below 0.0001."""
    cases = []
    for dtype in DTYPES:
        for T in (1, 2, 5, 30):
            keep = 0.5 + 0.5 * torch.rand(T, generator=generator, dtype=dtype)
            keep[-1] = 1e-4
            cases.append((keep.cumprod(0),))
        time = torch.arange(1, 41, dtype=dtype) / 40
        cases.append(((time * 1.57).cos() ** 2,))  # cosine's curve, nearly
    small = torch.full((400,), 0.99, dtype=torch.float64)
    small[0] = 1 - 1e-6
    return [*cases, (small.cumprod(0),)]


LIMIT = 1 - math.exp(-0.02 * math.log(2))  # the largest alpha_bar_T with a gap of 0.01 bits

EXERCISES = {
    "02.1": Exercise(
        truth=_variance_of_two_points,
        cases=lambda generator: [()],
        mistakes={
            "This is the variance of the noise alone. x_0 varies, too.": lambda: 1 - 0.5**3,
            "This is the variance of what is left of x_0. Noise was added.": lambda: 0.5**3 * 4,
            "2 is the standard deviation of x_0, its variance is 4.": lambda: (
                0.5**3 * 2 + 1 - 0.5**3
            ),
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
        ),
    ),
    "02.2": Exercise(
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
            "For m = 1 the gap is -ln(1 - alpha_bar_T) / (2 ln 2). A smaller alpha_bar_T has a "
            "smaller gap.",
            "With a constant beta, alpha_bar_T = (1 - beta)^T. Take logarithms on both sides: both "
            "are negative, so dividing by one turns the inequality.",
        ),
    ),
    "02.3": Exercise(
        truth=lambda snr: torch.sigmoid(snr.log()),
        cases=_snrs,
        relative=True,
        mistakes={
            "1 - 1 / (1 + snr) is right on paper, but for a small SNR it is a difference of two "
            "numbers near 1, and loses its digits (section 9).": lambda snr: 1 - 1 / (1 + snr),
            "Check the sign when you solve for alpha_bar: yours is negative for a large SNR.": (
                lambda snr: snr / (1 - snr)
            ),
            "This is 1 - alpha_bar, the share of the noise.": lambda snr: 1 / (1 + snr),
            "The SNR is a ratio of variances. There are no roots in it.": (
                lambda snr: snr.sqrt() / (1 + snr.sqrt())
            ),
            "The logistic function gives alpha_bar for ln SNR. You gave it the SNR.": torch.sigmoid,
            "This is the root of alpha_bar, the factor of x_0. Leave the root out.": (
                lambda snr: (snr / (1 + snr)).sqrt()
            ),
            "This is the way from alpha_bar to the SNR, plus 1. Solve SNR (1 - alpha_bar) = "
            "alpha_bar for alpha_bar.": lambda snr: (1 + snr) / snr,
        },
        hints=(
            "Multiply SNR = alpha_bar / (1 - alpha_bar) by 1 - alpha_bar.",
            "Collect what holds alpha_bar on one side: alpha_bar (1 + SNR) = SNR.",
        ),
    ),
    "02.4": Exercise(
        truth=_betas_for,
        cases=_wishes,
        mistakes={
            "beta_1 is missing: before step 1 stands alpha_bar_0 = 1.": (
                lambda wish: _clipped(1 - wish[1:] / wish[:-1])
            ),
            "beta_1 is 0 in yours. Step 1 takes alpha_bar from 1 to the first number.": (
                lambda wish: torch.cat([0 * wish[:1], _clipped(1 - wish[1:] / wish[:-1])])
            ),
            "beta_1 compares with alpha_bar_0 = 1, not with the last number.": (
                lambda wish: _clipped(1 - wish / wish.roll(1))
            ),
            "There is a row too many: return beta_1 to beta_T. The package adds row 0.": (
                lambda wish: torch.cat([0 * wish[:1], _betas_for(wish)])
            ),
            "Some of your betas are above 0.999.": lambda wish: 1 - wish / _before(wish),
            "Cut only at 0.999: a small beta stays as it is.": (
                lambda wish: _betas_for(wish).clamp(min=1e-4)
            ),
            "Those are the alphas, what a step keeps. A beta is what it replaces.": (
                lambda wish: (wish / _before(wish)).clamp(min=0.001)
            ),
            "Those are the alphas, what a step keeps, and some are above 0.999. A beta is what it "
            "replaces.": lambda wish: _clipped(wish / _before(wish)),
            "The ratio is upside down: alpha_bar falls, so the later one goes on top.": (
                lambda wish: _clipped(1 - _before(wish) / wish)
            ),
            "That is how much alpha_bar falls. beta_t is the share: divide by what was there.": (
                lambda wish: _clipped(_before(wish) - wish)
            ),
            "That is the fall divided by what is left after the step. Divide by what was there "
            "before it.": lambda wish: _clipped((_before(wish) - wish) / wish),
            "1 - alpha_bar_t is the noise of all steps up to t. beta_t is that of one.": (
                lambda wish: _clipped(1 - wish)
            ),
            "-ln(1 - beta) is beta only where beta is small. Solve exactly.": (
                lambda wish: _clipped((_before(wish) / wish).log())
            ),
            "There is a root too many: q_step itself takes the root of 1 - beta_t.": (
                lambda wish: _clipped(1 - (wish / _before(wish)).sqrt())
            ),
            "You cut the wished alpha_bars. It is the betas that may not be above 0.999.": (
                lambda wish: 1 - wish.clamp(min=0.001) / _before(wish.clamp(min=0.001))
            ),
        },
        hints=(
            "One step multiplies alpha_bar by alpha_t = 1 - beta_t. From what to what?",
            "alpha_t is the ratio of two neighbours, the later one above. Of which neighbour is "
            "alpha_1 made?",
            "Make a second row, shifted by one, with alpha_bar_0 in front: torch.cat joins rows, "
            "and .clamp(max=...) cuts.",
        ),
    ),
}
