"""The normal distribution with independent coordinates, the only one a diffusion model needs."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .checks import (
    check_data,
    check_finite,
    check_floating,
    check_kinds,
    check_like,
    kind,
    number,
    require,
)


def standard_normal(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw eps ~ N(0, I) with the shape, dtype and device of `like`.

    The draw is made on the generator's own device and then moved, so one seed gives
    the same numbers wherever `like` lives.
    """
    check_kinds(like=like, generator=generator)
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
        check_normal(self)
        mean, std = self.mean, self.var.sqrt()
        if not _fits(std, mean):
            mean, std = torch.broadcast_tensors(mean, std)
        return mean + std * standard_normal(mean, generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log N(x; mean, var) for each coordinate, in nats; sum over all but the batch.

        log p = -[(x - mean)^2 / var + ln(2 pi var)] / 2. Shape: that of x.
        Raises ValueError where var is not positive: a point mass has no density.
        """
        check_data("x", x)
        fits = isinstance(self.mean, Tensor) and _fits(self.mean, x)
        check_like("x", x, "mean", self.mean.expand(x.shape) if fits else self.mean)
        check_density(self, x)
        return -0.5 * ((x - self.mean) ** 2 / self.var + (2 * math.pi * self.var).log())


def standard_gaussian(like: Tensor) -> Gaussian:
    """Return N(0, I), of the shape, dtype and device of `like`."""
    check_floating("like", like)
    return Gaussian(torch.zeros_like(like), torch.ones_like(like))


def kl_divergence(p: Gaussian, q: Gaussian) -> Tensor:
    """Return KL(p || q) for each coordinate, in nats; sum over all but the batch.

    KL = [var_p / var_q - 1 - ln(var_p / var_q) + (mean_p - mean_q)^2 / var_q] / 2.
    Raises ValueError where a variance is not positive.
    """
    check_density(p, getattr(p, "mean", p), "p")
    check_like("q.mean", getattr(q, "mean", q), "p.mean", p.mean)
    check_density(q, p.mean, "q")
    ratio = p.var / q.var
    return 0.5 * (ratio - 1 - ratio.log() + (p.mean - q.mean) ** 2 / q.var)


def _fits(x: Tensor, like: Tensor) -> bool:
    """Return whether x broadcasts to the shape of `like`."""
    sizes = zip(reversed(x.shape), reversed(like.shape), strict=False)
    return x.ndim <= like.ndim and all(size in (1, wanted) for size, wanted in sizes)


def check_normal(p: Gaussian) -> None:
    """Refuse a p that nothing can be drawn from: another mean than finite, a var below 0."""
    check_floating("mean", p.mean)
    check_floating("var", p.var)
    sizes = zip(reversed(p.mean.shape), reversed(p.var.shape), strict=False)
    ok = all(a == b or 1 in (a, b) for a, b in sizes)
    require(ok, "var", f"broadcast with mean, {kind(p.mean)}", p.var)
    if p.var.device != p.mean.device:
        raise TypeError(f"var must be like mean, on {p.mean.device}, got {kind(p.var)}")
    check_finite(p.mean, mean=p.mean)
    ok = number(((p.var >= 0) & (p.var < math.inf)).all())
    require(ok, "var", "hold finite numbers of at least 0", p.var)


def check_density(p: Gaussian, x: Tensor, name: str = "") -> None:
    """Refuse a p that has no density at an x: NaN or infinity in it, or a var that is 0."""
    if not isinstance(p, Gaussian):
        raise TypeError(f"{name} must be a Gaussian, got {kind(p)}")
    mean, var = (f"{name}.{part}".lstrip(".") for part in p._fields)
    for part, table in ((mean, p.mean), (var, p.var)):
        check_floating(part, table)
        require(_fits(table, x), part, f"be broadcastable to x, {tuple(x.shape)}", table)
        if table.device != x.device or torch.result_type(table, x) != x.dtype:
            raise TypeError(f"{part} must be like x, {x.dtype} on {x.device}, got {kind(table)}")
    check_finite(p.mean, **{mean: p.mean})
    if not number(((p.var > 0) & (p.var < math.inf)).all()):
        wanted = "positive for a density, and finite"
        raise ValueError(f"{var} must be {wanted}, got {p.var.min():.4g} to {p.var.max():.4g}")
