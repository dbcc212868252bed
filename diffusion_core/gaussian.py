"""The normal distribution with independent coordinates, the only one a diffusion model needs."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .checks import check_alike, check_data, check_like, number


def standard_normal(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw eps ~ N(0, I) with the shape, dtype and device of `like`.

    The draw is made on the generator's own device and then moved, so one seed gives
    the same numbers wherever `like` lives.
    """
    device = (generator or like).device
    eps = torch.randn(like.shape, generator=generator, dtype=like.dtype, device=device)
    return eps.to(like.device)


class Gaussian(NamedTuple):
    """N(mean, var), coordinates independent; `var` is a variance, broadcastable to `mean`."""

    mean: Tensor
    var: Tensor

    def sample(self, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw x = mean + sqrt(var) eps, eps ~ N(0, I); gradients reach mean and var.

        Source: Kingma and Welling (2014), section 2.4.
        """
        mean, std = self.mean, self.var.sqrt()
        if not _fits(std, mean):
            mean, std = torch.broadcast_tensors(mean, std)
        return mean + std * standard_normal(mean, generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log N(x; mean, var) for each coordinate, in nats; sum over all but the batch.

        log p = -[(x - mean)^2 / var + ln(2 pi var)] / 2. Shape: that of x.
        Raises ValueError where var is not positive: a point mass has no density.
        """
        check_alike(x=x)
        mean = self.mean.expand(x.shape) if _fits(self.mean, x) else self.mean
        check_like("x", x, "mean", mean)
        _check_positive("var", self.var)
        return -0.5 * ((x - self.mean) ** 2 / self.var + (2 * math.pi * self.var).log())


def kl_divergence(p: Gaussian, q: Gaussian) -> Tensor:
    """Return KL(p || q) for each coordinate, in nats; sum over all but the batch.

    KL = [var_p / var_q - 1 - ln(var_p / var_q) + (mean_p - mean_q)^2 / var_q] / 2.
    Raises ValueError where a variance is not positive.
    """
    check_data("p.mean", p.mean)
    check_like("q.mean", q.mean, "p.mean", p.mean)
    _check_positive("p.var", p.var)
    _check_positive("q.var", q.var)
    ratio = p.var / q.var
    return 0.5 * (ratio - 1 - ratio.log() + (p.mean - q.mean) ** 2 / q.var)


def _fits(x: Tensor, like: Tensor) -> bool:
    """Return whether x broadcasts to the shape of `like`."""
    sizes = zip(reversed(x.shape), reversed(like.shape), strict=False)
    return x.ndim <= like.ndim and all(size in (1, wanted) for size, wanted in sizes)


def _check_positive(name: str, var: Tensor) -> None:
    if not number((var > 0).all()):
        raise ValueError(f"{name} must be positive for a density, got {var.min():.4g}")
