"""Exhibits 11 and 12, on likelihood: a bound from its ledger, and the shares of grey levels."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.special import ndtr

from diffusion_core.elbo import ElboTerms

from ...museum import exhibits, mended
from ..exercise import Exercise


def _ledgers(generator: torch.Generator) -> list[tuple]:
    """Return ledgers of several sizes; the last terms may be negative, as for densities."""
    cases = []
    for dtype in (torch.float64, torch.float32):
        for B, T in ((4, 6), (5, 4), (1, 3)):
            prior = 0.2 + torch.rand(B, generator=generator, dtype=dtype)
            steps = torch.rand(B, T + 1, generator=generator, dtype=dtype)
            steps[:, :2] = 0
            recon = torch.randn(B, generator=generator, dtype=dtype) - 2
            cases.append((ElboTerms(prior, steps, recon),))
    return cases


def _bound(prior: float, steps: float, recon: float) -> Callable[[ElboTerms], Tensor]:
    """Return a bound with these factors of the three kinds of terms."""
    return lambda terms: prior * terms.prior + steps * terms.steps.sum(1) + recon * terms.recon


def _normals(generator: torch.Generator) -> list[tuple]:
    mean, std = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
    return [(0.5, 0.1), (0.02, 0.05), (mean, 0.01 + 0.2 * std), (0.97, 0.3)]


def _binned(half: float, *, open_ends: bool = True) -> Callable[[float, float], Tensor]:
    """Return the shares of bins of another half width."""

    def probs(mean: float, std: float) -> Tensor:
        levels = torch.linspace(0, 1, 256, dtype=torch.float64)
        upper, lower = (levels + half - mean) / std, (levels - half - mean) / std
        if open_ends:
            upper[-1], lower[0] = torch.inf, -torch.inf
        return ndtr(upper) - ndtr(lower)

    return probs


def _equal_bins(mean: float, std: float) -> Tensor:
    edges = torch.linspace(0, 1, 257, dtype=torch.float64)
    edges[0], edges[-1] = -torch.inf, torch.inf
    return ndtr((edges - mean) / std).diff()


def _density(mean: float, std: float) -> Tensor:
    z = (torch.linspace(0, 1, 256, dtype=torch.float64) - mean) / std
    return (-(z**2) / 2).exp() / (std * math.sqrt(2 * math.pi))


EXERCISES = {
    "14.11": Exercise(
        truth=mended.lower_bound,
        cases=_ledgers,
        mistakes={
            "This is the exhibit itself: L_T, the prior term, is left out.": exhibits.lower_bound,
            "L_0, the reconstruction, is missing.": _bound(-1, -1, 0),
            "The sign is wrong: the terms add up to -ELBO.": _bound(1, 1, 1),
            "L_0 has the wrong sign: `recon` is -log p already.": _bound(-1, -1, 1),
            "L_T has the wrong sign: a KL is a cost, so it lowers the bound.": _bound(1, -1, -1),
            "The steps are averaged. Their sum is asked for.": lambda terms: (
                -terms.prior - terms.steps.mean(1) - terms.recon
            ),
            "The examples are averaged. Each x_0 has a bound of its own.": lambda terms: _bound(
                -1, -1, -1
            )(terms).mean(),
            "The examples are added up. The answer has a number for each.": lambda terms: _bound(
                -1, -1, -1
            )(terms).sum(),
            "The steps of all examples are added up. Each x_0 has its own row.": lambda terms: (
                -terms.prior - terms.steps.sum() - terms.recon
            ),
        },
        hints=(
            "The bound is too high, so a cost is missing. Which kinds of terms has a ledger?",
            "The docstring of ElboTerms says what adds up to -ELBO.",
            "A ledger has three fields, and the exhibit reads two.",
        ),
    ),
    "14.12": Exercise(
        truth=mended.level_probs,
        cases=_normals,
        mistakes={
            "This is the exhibit itself: its bins are 2/255 wide, and the levels lie 1/255 "
            "apart.": exhibits.level_probs,
            "The bins are right, but the two at the ends do not take in what lies beyond.": (
                _binned(1 / 510, open_ends=False)
            ),
            "256 levels from 0 to 1 have 255 gaps. So the width is 1/255, not 1/256.": (
                _binned(1 / 512)
            ),
            "1/256 to either side makes bins 1/128 wide. The levels lie 1/255 apart.": (
                _binned(1 / 256)
            ),
            "These are 256 equal parts of [0, 1]. A bin has its level in the middle, the first and "
            "the last, too.": _equal_bins,
            "The bins are half as wide as they should be. They leave gaps.": _binned(1 / 1020),
            "This is a density. A share is an integral of it over a bin.": _density,
            "Dividing by the sum makes it 1, but the bins still overlap: the shares are blurred.": (
                lambda mean, std: (
                    exhibits.level_probs(mean, std) / exhibits.level_probs(mean, std).sum()
                )
            ),
            "The width is right, but std is used as a variance.": lambda mean, std: (
                mended.level_probs(mean, std**0.5)
            ),
        },
        hints=(
            "The sum is 2. How far apart are the levels, and how wide are the bins?",
            "The levels lie 1/255 apart. A bin reaches half of that to either side.",
            "So what is half a width, if a whole one is 1/255?",
        ),
    ),
}
