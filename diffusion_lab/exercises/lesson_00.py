"""Lesson 00: digits mixed with noise, and what is left of a digit."""

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_core.process import q_marginal, q_sample
from diffusion_core.schedules import schedule_from_alpha_bars

from .exercise import Exercise, draw_alpha_bars

KEPT, SPREAD = 0.36, 0.5  # alpha_bar_t, and the standard deviation of the pixels of x_0


def _dissolve(x0: Tensor, alpha_bar_t: Tensor, eps: Tensor) -> Tensor:
    schedule = schedule_from_alpha_bars(alpha_bar_t)
    return q_sample(schedule, x0, torch.arange(1, len(x0) + 1), eps)


def _pictures(generator: torch.Generator) -> list[tuple]:
    """Batches of (B, 1, H, W) pictures, one of them with B = H = W."""
    cases = []
    for dtype in (torch.float64, torch.float32):
        for shape in ((5, 1, 4, 6), (3, 1, 3, 3), (1, 1, 2, 2)):
            x0, eps = torch.randn(2, *shape, generator=generator, dtype=dtype)
            cases.append((x0, draw_alpha_bars(shape[0], generator, dtype), eps))
    return cases


def _with(signal: Callable, noise: Callable) -> Callable:
    """A mixture with other factors of x0 and eps, functions of alpha_bar_t (B, 1, 1, 1)."""

    def mixed(x0: Tensor, alpha_bar_t: Tensor, eps: Tensor) -> Tensor:
        keep = alpha_bar_t[:, None, None, None]
        return signal(keep) * x0 + noise(keep) * eps

    return mixed


def _signal_std() -> float:
    schedule = schedule_from_alpha_bars(torch.tensor([KEPT], dtype=torch.float64))
    return q_marginal(schedule, torch.full((1,), SPREAD, dtype=torch.float64), 1).mean.item()


EXERCISES = {
    "00.1": Exercise(
        truth=_dissolve,
        cases=_pictures,
        mistakes={
            "Both roots are missing. The shares alpha_bar_t and 1 - alpha_bar_t are of the "
            "variance; pictures are multiplied by the roots.": _with(lambda a: a, lambda a: 1 - a),
            "The noise is multiplied by 1 - alpha_bar_t. The formula in section 4 has its root.": (
                _with(torch.sqrt, lambda a: 1 - a)
            ),
            "The digit is multiplied by alpha_bar_t. The formula in section 4 has its root.": (
                _with(lambda a: a, lambda a: (1 - a).sqrt())
            ),
            "1 - sqrt(alpha_bar_t) is not sqrt(1 - alpha_bar_t): subtract first, then take the "
            "root.": _with(torch.sqrt, lambda a: 1 - a.sqrt()),
            "Digit and noise have changed places: where alpha_bar_t is near 1, the result should "
            "be near x0.": _with(lambda a: (1 - a).sqrt(), torch.sqrt),
            "The noise is right, but the digit is left whole. It fades by sqrt(alpha_bar_t).": (
                _with(torch.ones_like, lambda a: (1 - a).sqrt())
            ),
            "The numbers of alpha_bar_t go along the columns of a picture. Each belongs to one "
            "picture: give it the shape (B, 1, 1, 1).": lambda x0, alpha_bar_t, eps: (
                alpha_bar_t.sqrt() * x0 + (1 - alpha_bar_t).sqrt() * eps
            ),
        },
        hints=(
            "Two factors, one for the digits and one for the noise. Section 4 has both.",
            "alpha_bar_t has shape (B,), a batch of pictures (B, 1, H, W). Give alpha_bar_t three "
            "more axes of length 1.",
            "With keep = alpha_bar_t[:, None, None, None]: keep.sqrt() * x0 + "
            "(1 - keep).sqrt() * eps.",
        ),
    ),
    "00.2": Exercise(
        truth=_signal_std,
        cases=lambda generator: [()],
        mistakes={
            "You multiplied by alpha_bar_t. The digit is multiplied by its root.": (
                lambda: KEPT * SPREAD
            ),
            "This is the factor of the digit. Now apply it to 0.5.": lambda: KEPT**0.5,
            "You took the factor of the noise, sqrt(1 - alpha_bar_t).": (
                lambda: (1 - KEPT) ** 0.5 * SPREAD
            ),
            "You took 1 - alpha_bar_t. What is left of the digit is sqrt(alpha_bar_t).": (
                lambda: (1 - KEPT) * SPREAD
            ),
            "This is the variance of what is left; the standard deviation was asked for.": (
                lambda: KEPT * SPREAD**2
            ),
            "This is the standard deviation of x_t as a whole, with the noise in it.": (
                lambda: (KEPT * SPREAD**2 + 1 - KEPT) ** 0.5
            ),
        },
        hints=(
            "Multiplying numbers by c multiplies their standard deviation by c, too.",
            "The digit is multiplied by the root of 0.36.",
        ),
    ),
}
