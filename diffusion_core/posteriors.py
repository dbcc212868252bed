"""The exact answer to a linear inverse problem: a mixture, given a measurement of x_0."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .checks import (
    check_alike,
    check_count,
    check_data,
    check_finite,
    check_kinds,
    check_like,
    check_numbers,
    kind,
    require,
    without_autocast,
)
from .gaussian import standard_normal
from .measurements import Measure
from .mixtures import Mixture, check_mixture


class FullMixture(NamedTuple):
    """sum_k weights_k N(means_k, covs_k): means (K, D), covs (K, D, D), weights (K,)."""

    means: Tensor
    covs: Tensor
    weights: Tensor

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw n samples (n, D): a component by its weight, then its Gaussian."""
        check_count("n", n)
        check_kinds(generator=generator)
        _check_full(self)
        values, vectors = torch.linalg.eigh(self.covs)  # singular ones have no Cholesky root
        roots = vectors * values.clamp(min=0).sqrt()[:, None]
        device = (generator or self.means).device
        picks = torch.multinomial(self.weights.to(device), n, replacement=True, generator=generator)
        means, roots = (table[picks.to(table.device)] for table in (self.means, roots))
        z = standard_normal(means, generator)[..., None]
        with without_autocast(means):
            x = means + (roots @ z)[..., 0]
        return check_finite(x, covs=self.covs)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x), shape (B,), in nats, for x (B, D) in the mixture's dtype.

        log p(x) = logsumexp_k [log w_k + log N(x; m_k, C_k)], with exact derivatives.
        Raises ValueError where a covariance is singular: such a mixture has no density.
        """
        _check_full(self)
        check_data("x", x)
        dim = self.means.shape[1]
        check_like("x", x, f"examples of {dim} numbers", self.means[:1].expand(len(x), dim))
        roots, failed = torch.linalg.cholesky_ex(self.covs)
        require(not failed.any(), "covs", "be positive definite for a density", self.covs)
        rest = (x[:, None] - self.means)[..., None]
        with without_autocast(x):
            parts = self.weights.log() + _log_normal(roots, rest)
        return check_finite(parts.logsumexp(1), x=x, covs=self.covs)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return the mean (D,) and the covariance (D, D) of the whole mixture."""
        _check_full(self)
        with without_autocast(self.means):
            mean = self.weights @ self.means
            apart = self.means - mean
            within = (self.weights[:, None, None] * self.covs).sum(0)
            cov = within + (self.weights[:, None] * apart).T @ apart
        return mean, check_finite(cov, means=self.means, covs=self.covs)


def condition(data: Mixture, measure: Measure, y: Tensor, noise_var: float = 0.0) -> FullMixture:
    """Return p(x_0 | y) exactly, for data of this mixture and y = A x_0 + noise of this variance.

    With S_k = v_k A A^T + noise_var I and G_k = v_k A^T S_k^-1 component k has the mean
    m_k + G_k (y - A m_k), the covariance v_k (I - G_k A) and a weight in proportion to
    w_k N(y; A m_k, S_k). measure(x0) = A x0, (B, D) -> (B, M), must be linear; y (M,).
    Raises ValueError for one that is not, and where an S_k is singular: points without noise.
    """
    check_mixture(data)
    check_kinds(measure=measure)
    check_numbers(0, math.inf, "[)", noise_var=noise_var)
    with without_autocast(data.means):
        a, seen = _matrix(data, measure, y)
        return _conditioned(data, a, y - seen, noise_var)


def _conditioned(data: Mixture, a: Tensor, rest: Tensor, noise_var: float) -> FullMixture:
    """Return p(x_0 | y) for A (M, D) and what is left of y beside each component, (K, M)."""
    eye = torch.eye(max(a.shape), dtype=a.dtype, device=a.device)
    var, rest = data.vars[:, None, None], rest[..., None]
    spread = var * (a @ a.T) + noise_var * eye[: len(a), : len(a)]
    roots, failed = torch.linalg.cholesky_ex(spread)
    steps = roots.diagonal(dim1=1, dim2=2).square()
    whole = steps.amin(1) > 8 * torch.finfo(a.dtype).eps * steps.amax(1)
    wanted = "be positive where rows of A depend on each other, or variances are 0"
    require(bool((whole & (failed == 0)).all()), "noise_var", wanted, noise_var)
    gain = var * torch.cholesky_solve(a.expand(len(roots), *a.shape), roots).mT
    means = check_finite(data.means + (gain @ rest)[..., 0], y=rest, means=data.means)
    covs = var * (eye[: a.shape[1], : a.shape[1]] - gain @ a)
    weights = (data.weights.log() + _log_normal(roots, rest)).softmax(0)
    check_finite(weights, y=rest, means=data.means)
    return FullMixture(means, (covs + covs.mT) / 2, weights)


def _log_normal(roots: Tensor, rest: Tensor) -> Tensor:
    """Return log N(rest; 0, R R^T), (..., K), for roots R (K, M, M) and rest (..., K, M, 1)."""
    white = torch.linalg.solve_triangular(roots, rest, upper=False)
    log_det = roots.diagonal(dim1=1, dim2=2).log().sum(1)
    half = 0.5 * roots.shape[1] * math.log(2 * math.pi)
    return -0.5 * white.square().sum((-2, -1)) - log_det - half


def _matrix(data: Mixture, measure: Measure, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return A (M, D) and A m_k (K, M); refuse a measure that is not linear, or a y unlike it."""
    check_data("y", y)
    eye = torch.eye(data.means.shape[1], dtype=data.means.dtype, device=data.means.device)
    columns, seen = measure(eye), measure(data.means)
    for rows, x in ((columns, data.means.T), (seen, data.means)):
        check_like("measure(x0)", rows, f"y, {kind(y)}, for each of {len(x)}", y.expand(len(x), -1))
    require(y.ndim == 1 and y.dtype == data.means.dtype, "y", f"be like {kind(data.means[0])}", y)
    size = columns.abs().max() * data.means.abs().max() * data.means.shape[1]
    close = (seen - data.means @ columns).abs().max() <= 1e-4 * size
    require(bool(close), "measure(x0)", "be linear in x0", seen)
    return columns.T, seen


def _check_full(data: FullMixture) -> None:
    """Refuse a mixture of other than means (K, D), symmetric covs (K, D, D), weights of sum 1."""
    means, covs, weights = data
    check_data("means", means)
    require(means.ndim == 2, "means", "have shape (K, D)", means)
    check_alike(means=means[:, 0], weights=weights)
    check_mixture(Mixture(means, torch.zeros_like(weights), weights))  # looks at the other two
    check_data("covs", covs)
    require(covs.shape == (*means.shape, means.shape[1]), "covs", "have shape (K, D, D)", covs)
    if covs.dtype != means.dtype or covs.device != means.device:
        raise TypeError(f"covs must be like means, {kind(means)}, got {kind(covs)}")
    size = covs.abs().amax()
    even = (covs - covs.mT).abs().amax() <= 1e-6 * size
    ok = even and torch.linalg.eigvalsh(covs / size.clamp(min=1e-300)).amin() >= -1e-6
    require(bool(ok), "covs", "be symmetric, without negative eigenvalues", covs)
