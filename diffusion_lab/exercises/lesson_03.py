"""Lesson 03: the posterior's variance in numbers and by the SNR, its mean, and a longer jump."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_core.process import q_posterior
from diffusion_core.schedules import NoiseSchedule, schedule_from_alpha_bars, vp_schedule

from .exercise import Exercise

DTYPES = (torch.float64, torch.float32)
ALMOST_NOISE = 1e-6  # the alpha_bar of a last step that only completes a schedule
THREE = NoiseSchedule([0.1, 0.2, 0.5, 1 - ALMOST_NOISE])
RATIO = (THREE.marginal_vars[2] / THREE.marginal_vars[3]).item()


def _jumps(generator: torch.Generator) -> list[tuple]:
    """Pairs alpha_bar_s > alpha_bar_t of several shapes; the first s of each is 0: clean data."""
    cases = []
    for dtype in DTYPES:
        for shape in ((6,), (2, 3), (1,)):
            before = 0.2 + 0.7 * torch.rand(shape, generator=generator, dtype=dtype)
            before.view(-1)[0] = 1
            share = 0.1 + 0.7 * torch.rand(shape, generator=generator, dtype=dtype)
            cases.append((before, before * share))
    return cases


def _ratios(generator: torch.Generator) -> list[tuple]:
    return [(a / (1 - a), b / (1 - b)) for a, b in _jumps(generator)]


def _steps(generator: torch.Generator) -> list[tuple]:
    """Few steps, so that rows t - 1, t and t + 1 differ; batches of 4, of 2 (B = D) and of 1."""
    cases = []
    for dtype in DTYPES:
        T = int(torch.randint(5, 15, (1,), generator=generator))
        inner = int(torch.randint(2, T, (1,), generator=generator))
        for t, size in ((1, 4), (inner, 2), (inner, 1), (T, 4)):
            x_t, x0 = torch.randn(2, size, 2, generator=generator, dtype=dtype)
            cases.append((vp_schedule(T), x_t, x0, t))
    return cases


def _with_jump(alpha_bar_s: float, alpha_bar_t: float) -> tuple[NoiseSchedule, int]:
    """Return a schedule that goes from s to t in one step, and the number of that step."""
    rows = [row for row in (alpha_bar_s, alpha_bar_t, ALMOST_NOISE) if row < 1]
    return schedule_from_alpha_bars(torch.tensor(rows, dtype=torch.float64)), len(rows) - 1


def _of_each_jump(
    read: Callable[[NoiseSchedule, int], float], alpha_bar_s: Tensor, alpha_bar_t: Tensor
) -> Tensor:
    pairs = zip(alpha_bar_s.flatten().tolist(), alpha_bar_t.flatten().tolist(), strict=True)
    numbers = [read(*_with_jump(*pair)) for pair in pairs]
    return alpha_bar_s.new_tensor(numbers).reshape(alpha_bar_s.shape)


def _var_from_snr(snr_before: Tensor, snr: Tensor) -> Tensor:
    alpha_bars = [1 / (1 + 1 / ratio.double()) for ratio in (snr_before, snr)]
    variance = _of_each_jump(lambda schedule, t: schedule.posterior_vars[t].item(), *alpha_bars)
    return variance.to(snr)


def _jump_weight(alpha_bar_s: Tensor, alpha_bar_t: Tensor) -> Tensor:
    zero, one = torch.zeros(1).double(), torch.ones(1).double()
    return _of_each_jump(
        lambda schedule, t: q_posterior(schedule, zero, one, t).mean.item(),
        alpha_bar_s,
        alpha_bar_t,
    )


def _mean(schedule: NoiseSchedule, x_t: Tensor, x0: Tensor, t: int) -> Tensor:
    return q_posterior(schedule, x_t, x0, t).mean


def _mean_by(row: int, power: float) -> Callable:
    """Return the mean with alpha_bar of row t + row beside x_0, and alpha_t to a power."""

    def mean(schedule: NoiseSchedule, x_t: Tensor, x0: Tensor, t: int) -> Tensor:
        of_x0 = schedule.alpha_bars[t + row].sqrt() * schedule.betas[t]
        of_x_t = schedule.alphas[t] ** power * schedule.marginal_vars[t - 1]
        return (of_x0 * x0 + of_x_t * x_t) / schedule.marginal_vars[t]

    return mean


EXERCISES = {
    "03.1": Exercise(
        truth=lambda: THREE.posterior_vars[3].item(),
        cases=lambda generator: [()],
        mistakes={
            "This is beta_2. You get it with alpha in the place of alpha_bar.": (
                lambda: THREE.betas[2].item()
            ),
            "This is beta_3, the variance of the step forward. Knowing x_0 leaves less.": (
                lambda: THREE.betas[3].item()
            ),
            "This is the ratio (1 - alpha_bar_2) / (1 - alpha_bar_3). The factor beta_3 is "
            "missing.": lambda: RATIO,
            "The ratio is upside down: the smaller number, with t - 1, stands above the line.": (
                lambda: THREE.betas[3].item() / RATIO
            ),
            "This is the standard deviation; the variance was asked for.": (
                lambda: THREE.posterior_vars[3].sqrt().item()
            ),
            "This is the posterior variance of t = 2. Row t of a table belongs to step t.": (
                lambda: THREE.posterior_vars[2].item()
            ),
        },
        hints=(
            "First multiply: alpha_bar_2 = 0.9 times 0.8, and alpha_bar_3 is half of it.",
            "Equation (8): (1 - alpha_bar_2) / (1 - alpha_bar_3) times beta_3.",
        ),
    ),
    "03.2": Exercise(
        truth=_var_from_snr,
        cases=_ratios,
        mistakes={
            "At t = 1 the SNR before is infinite, and infinity times 0 or over itself is NaN. "
            "Divide by the SNR before wherever it stands.": (
                lambda before, now: (before - now) / (before * (1 + before))
            ),
            "This is the variance of the step forward, beta_t. The factor "
            "(1 - alpha_bar_{t-1}) / (1 - alpha_bar_t) is missing.": (
                lambda before, now: (1 - now / before) / (1 + now)
            ),
            "beta_t is not 1 - SNR_t / SNR_{t-1}: it is 1 - alpha_bar_t / alpha_bar_{t-1}.": (
                lambda before, now: (1 - now / before) * (1 + now) / (1 + before)
            ),
            "The factor 1 / (1 + SNR_{t-1}) is missing.": (lambda before, now: 1 - now / before),
            "This is 1 - alpha_bar_{t-1}, the variance before x_t is known.": (
                lambda before, now: 1 / (1 + before) + 0 * now
            ),
            "This is the standard deviation; the variance was asked for.": (
                lambda before, now: ((1 - now / before) / (1 + before)).sqrt()
            ),
        },
        hints=(
            "Write alpha_bar and 1 - alpha_bar of both rows by their SNR, and put them into (8).",
            "1 - alpha_bar = 1 / (1 + SNR), and beta_t = 1 - alpha_bar_t / alpha_bar_{t-1}.",
            "What is left: 1 - SNR_t / SNR_{t-1}, divided by 1 + SNR_{t-1}.",
        ),
    ),
    "03.3": Exercise(
        truth=_mean,
        cases=_steps,
        mistakes={
            "Both mistakes are still there. At t = 1 the result should be x0.": _mean_by(0, 1.0),
            "One mistake is left, in the factor of x0: which row of alpha_bars is it?": (
                _mean_by(0, 0.5)
            ),
            "One mistake is left, in the factor of x_t: what stands there in (8), alpha or its "
            "root?": _mean_by(-1, 1.0),
            "The factors are swapped: the one with beta_t belongs to x0.": (
                lambda schedule, x_t, x0, t: _mean(schedule, x0, x_t, t)
            ),
            "The factor of x0 is right, and the one of x_t is missing.": (
                lambda schedule, x_t, x0, t: _mean(schedule, 0 * x_t, x0, t)
            ),
        },
        hints=(
            "Put in t = 1. Which factors should come out, and which do?",
            "Compare with (8) root by root and row by row: one root, one row.",
            "alpha_bars[t - 1].sqrt() beside x0, and alphas[t].sqrt() beside x_t.",
        ),
    ),
    "03.4": Exercise(
        truth=_jump_weight,
        cases=_jumps,
        mistakes={
            "alpha_bar_t beside x0 where alpha_bar_s belongs: the prior is that of x_s.": (
                lambda at_s, at_t: at_t.sqrt() * (1 - at_t / at_s) / (1 - at_t)
            ),
            "The root of alpha_bar_s is missing.": (
                lambda at_s, at_t: (1 - at_t / at_s) / (1 - at_t)
            ),
            "alpha_bar_s stands there without its root.": (
                lambda at_s, at_t: (at_s - at_t) / (1 - at_t)
            ),
            "alpha_bar_s - alpha_bar_t is not the noise of the jump. What takes x_s to x_t?": (
                lambda at_s, at_t: at_s.sqrt() * (at_s - at_t) / (1 - at_t)
            ),
            "This is the weight of x_t. That of x0 was asked for.": (
                lambda at_s, at_t: (at_t / at_s).sqrt() * (1 - at_s) / (1 - at_t)
            ),
            "This is the mean of x_s before x_t is known. What does x_t change?": (
                lambda at_s, at_t: at_s.sqrt() + 0 * at_t
            ),
        },
        hints=(
            "Only the likelihood changes: it is the jump from s to t instead of one step.",
            "The jump keeps alpha_bar_t / alpha_bar_s of the variance, and its noise has the rest.",
            "Put 1 - alpha_bar_t / alpha_bar_s in the place of beta_t, and s in that of t - 1.",
        ),
    ),
}
