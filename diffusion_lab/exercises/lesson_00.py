"""Lesson 00: how far a noisy picture spreads, and digits mixed with noise."""

import math
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


def _std_of_state() -> float:
    """The root of the variances of both parts: q_marginal scales a spread as it does x_0."""
    schedule = schedule_from_alpha_bars(torch.tensor([KEPT], dtype=torch.float64))
    part = q_marginal(schedule, torch.full((1,), SPREAD, dtype=torch.float64), 1)
    return math.hypot(part.mean.item(), part.var.sqrt().item())


EXERCISES = {
    "00.1": Exercise(
        truth=_std_of_state,
        cases=lambda generator: [()],
        mistakes={
            "That is the noise alone. The digit's part is added to it.": lambda: (1 - KEPT) ** 0.5,
            "That is the digit's part alone. The noise is added to it.": lambda: KEPT**0.5 * SPREAD,
            "You added standard deviations. What adds up for independent parts?": (
                lambda: KEPT**0.5 * SPREAD + (1 - KEPT) ** 0.5
            ),
            "This is the variance; the standard deviation was asked for.": (
                lambda: KEPT * SPREAD**2 + 1 - KEPT
            ),
            "That would be so for data of variance 1. These have a smaller one.": lambda: 1.0,
            "0.5 is a standard deviation, and stands where a variance belongs.": (
                lambda: (KEPT * SPREAD + 1 - KEPT) ** 0.5
            ),
            "The factors in the formula are roots; you multiplied by what stands under them.": (
                lambda: ((KEPT * SPREAD) ** 2 + (1 - KEPT) ** 2) ** 0.5
            ),
            "You multiplied by what stands under the roots, and added standard deviations.": (
                lambda: KEPT * SPREAD + 1 - KEPT
            ),
            "The digit is not shrunk in your number. Multiply it by its factor first.": (
                lambda: (SPREAD**2 + 1 - KEPT) ** 0.5
            ),
            "The noise has variance 1 in your number. What is its factor?": (
                lambda: (KEPT * SPREAD**2 + 1) ** 0.5
            ),
            "That is the variance of the noise alone. Add the digit's, and take the root.": (
                lambda: 1 - KEPT
            ),
            "That is the variance of the digit's part alone. Add the noise's, and take the root.": (
                lambda: KEPT * SPREAD**2
            ),
        },
        hints=(
            "x_t has two parts. Multiplying numbers by c multiplies their variance by c^2.",
            "The digit's part has variance 0.36 * 0.25. What has the noise, and what do both have?",
        ),
    ),
    "00.2": Exercise(
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
            "more axes of length 1, with None for each: a tensor x of shape (B,) becomes (B, 1) by "
            "x[:, None].",
        ),
    ),
}
