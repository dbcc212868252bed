"""Lesson 01: noises that merge, a draw that gradients pass through, and its slope."""

import torch
from torch import Tensor

from .exercise import Exercise

DTYPES = (torch.float64, torch.float32)


def _positive(*shape: int, **options) -> Tensor:
    return 0.05 + 4 * torch.rand(*shape, **options)


def _stds(generator: torch.Generator) -> list[tuple]:
    pairs = []
    for dtype in DTYPES:
        first, second = _positive(2, 5, generator=generator, dtype=dtype)
        pairs += [
            (first, second),
            (first, 0 * second),
            (first[:4].view(2, 2), first[1:].view(2, 2)),
        ]
    return pairs


def _draws(generator: torch.Generator) -> list[tuple]:
    """Batches of 5 points, of 2 (B = D) and of one; gradients must reach mean and var."""
    return [
        (
            torch.randn(size, 2, generator=generator, dtype=dtype).requires_grad_(),
            _positive(size, generator=generator, dtype=dtype).requires_grad_(),
            torch.randn(size, 2, generator=generator, dtype=dtype),
        )
        for dtype in DTYPES
        for size in (5, 2, 1)
    ]


def _slopes(generator: torch.Generator) -> list[tuple]:
    return [(var.detach(), eps[:, 0].clone()) for _, var, eps in _draws(generator)]


def _merge_std(sigma1: Tensor, sigma2: Tensor) -> Tensor:
    return torch.hypot(sigma1, sigma2)


def _reparameterize(mean: Tensor, var: Tensor, eps: Tensor) -> Tensor:
    return mean + var.sqrt()[:, None] * eps


def _slope_of_var(var: Tensor, eps: Tensor) -> Tensor:
    """By autograd, so that the formula that is asked for stands nowhere."""
    var = var.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad((var.sqrt() * eps).sum(), var)
    return slope


EXERCISES = {
    "01.1": Exercise(
        truth=_merge_std,
        cases=_stds,
        mistakes={
            "You added the standard deviations. Variances add: see the triangle in section 8.": (
                lambda sigma1, sigma2: sigma1 + sigma2
            ),
            "This is the variance of the sum. Its standard deviation is the root of that.": (
                lambda sigma1, sigma2: sigma1**2 + sigma2**2
            ),
            "You took the root of the sum, but did not square first: a variance is sigma^2.": (
                lambda sigma1, sigma2: (sigma1 + sigma2).sqrt()
            ),
            "You averaged the two variances. The noises are added, so the variances are, too.": (
                lambda sigma1, sigma2: ((sigma1**2 + sigma2**2) / 2).sqrt()
            ),
            "You subtracted the variances. Noise that is added never makes the spread smaller.": (
                lambda sigma1, sigma2: (sigma1**2 - sigma2**2).abs().sqrt()
            ),
        },
        hints=(
            "Which quantity of two independent noises adds up?",
            "Go from standard deviations to variances, add, and go back.",
            "Equation (2): the root of sigma1 squared plus sigma2 squared.",
        ),
    ),
    "01.2": Exercise(
        truth=_reparameterize,
        cases=_draws,
        mistakes={
            "var is a variance, and it multiplies eps. Equation (1) has the standard deviation.": (
                lambda mean, var, eps: mean + var[:, None] * eps
            ),
            "The root covers eps too, which is often negative. Only var stands under the root.": (
                lambda mean, var, eps: mean + (var[:, None] * eps).sqrt()
            ),
            "There is no eps in your draw: all points sit at a fixed distance from their mean.": (
                lambda mean, var, eps: mean + var[:, None].sqrt() + 0 * eps
            ),
            "eps is divided by the standard deviation. A large variance should spread the draws.": (
                lambda mean, var, eps: mean + eps / var[:, None].sqrt()
            ),
            "eps is added as it is, so every point has variance 1. Where does var go?": (
                lambda mean, var, eps: mean + eps
            ),
            "The mean is stretched along with eps. Equation (1) shifts after it stretches.": (
                lambda mean, var, eps: var[:, None].sqrt() * (mean + eps)
            ),
        },
        hints=(
            "One mistake shows in the draws, the other only when backward() is called.",
            "no_grad() cuts the path that the gradient should take. And what is the root of var?",
            "Return mean + var[:, None].sqrt() * eps, outside of no_grad().",
        ),
    ),
    "01.3": Exercise(
        truth=_slope_of_var,
        cases=_slopes,
        mistakes={
            "This is the slope by sigma. Go on by the chain rule: what is the slope of sqrt(v)?": (
                lambda var, eps: eps + 0 * var
            ),
            "The factor 1/2 is missing: the slope of sqrt(v) is 1 / (2 sqrt(v)).": (
                lambda var, eps: eps / var.sqrt()
            ),
            "The root is missing: you divided by 2 v where 2 sqrt(v) belongs.": (
                lambda var, eps: eps / (2 * var)
            ),
            "You multiplied by sqrt(v). Its slope has sqrt(v) below the line.": (
                lambda var, eps: eps * var.sqrt() / 2
            ),
            "The sign is wrong: a larger variance moves a positive eps to the right.": (
                lambda var, eps: -eps / (2 * var.sqrt())
            ),
            "eps is missing: every draw has a slope of its own.": (
                lambda var, eps: 1 / (2 * var.sqrt()) + 0 * eps
            ),
        },
        hints=(
            "mu does not depend on v, and eps does not either.",
            "sqrt(v) is v to the power 1/2. What is the slope of a power?",
            "The slope of sqrt(v) is 1 / (2 sqrt(v)); eps multiplies it.",
        ),
    ),
}
