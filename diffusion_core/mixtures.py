"""Exact ground truth: mixtures of isotropic Gaussians stay such mixtures when diffused.

A finite data set is the mixture whose components have variance 0.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .checks import (
    check_alike,
    check_count,
    check_data,
    check_finite,
    check_kinds,
    check_t,
    kind,
    number,
    numbers,
    require,
    without_autocast,
)
from .distances import squared_distances
from .gaussian import standard_normal
from .predictions import Model
from .schedules import NoiseSchedule


class Mixture(NamedTuple):
    """sum_k weights_k N(means_k, vars_k I): means (K, D), vars (K,) >= 0, weights (K,)."""

    means: Tensor
    vars: Tensor
    weights: Tensor

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw n samples (n, D): a component by its weight, then its Gaussian."""
        check_count("n", n)
        check_kinds(generator=generator)
        check_mixture(self)
        device = (generator or self.means).device
        picks = torch.multinomial(self.weights.to(device), n, replacement=True, generator=generator)
        means, variances = (table[picks.to(table.device)] for table in (self.means, self.vars))
        return means + variances.sqrt()[:, None] * standard_normal(means, generator)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x), shape (B,), in nats, for x (B, D) or images (B, ...) of D numbers.

        log p(x) = logsumexp_k [log w_k - |x - m_k|^2 / (2 v_k) - (D / 2) ln(2 pi v_k)].
        Its derivatives of any order are exact, also those by torch.func. In the mixture's dtype.
        Raises ValueError where a variance is 0: such a mixture has no density.
        """
        return component_log_probs(self, x).logsumexp(1)

    def score(self, x: Tensor) -> Tensor:
        """Return grad_x log p(x), shape and dtype of x: sum_k p(k | x) (m_k - x) / v_k."""
        parts = component_log_probs(self, x).softmax(1) / self.vars
        flat = x.reshape(len(x), -1).to(self.means)
        with without_autocast(x):
            pull = parts @ self.means - parts.sum(1, keepdim=True) * flat
        return check_finite(pull.reshape(x.shape).to(x), x=x, means=self.means)


def mixture(means: Tensor, var: Tensor | float = 0.0, weights: Tensor | None = None) -> Mixture:
    """Return the mixture with component means (K, ...), one variance or (K,), weights (K,).

    Means of more than two dimensions (a set of images) are flattened; weights default to equal
    and are divided by their sum. All is cast to the dtype of means, on their device.
    Raises ValueError for a negative variance or weight.
    """
    check_data("means", means)
    means = means.reshape(len(means), -1)
    variances = _cast("var", var, means)
    variances = variances.expand(len(means)) if variances.ndim == 0 else variances
    weights = means.new_ones(len(means)) if weights is None else _cast("weights", weights, means)
    for name, values in (("var", variances), ("weights", weights)):
        if values.shape != (len(means),):
            raise ValueError(f"{name} must have shape ({len(means)},), got {tuple(values.shape)}")
        if not number(((values >= 0) & (values < math.inf)).all()):
            found = f"{values.min():.4g} to {values.max():.4g}"
            raise ValueError(f"{name} must be finite and at least 0, got {found}")
    if not 0 < number(weights.sum()) < math.inf:
        raise ValueError(f"weights must have a positive, finite sum, got {weights.sum():.4g}")
    return Mixture(means, variances, weights / weights.sum())


def _cast(name: str, values: object, means: Tensor) -> Tensor:
    values = numbers(name, values)
    real = not values.is_complex() and values.is_meta <= means.is_meta
    require(real, name, f"be real numbers for {means.device}", values)
    return values.to(means)


def check_mixture(data: Mixture) -> None:
    """Refuse what is no mixture with means (K, D), variances >= 0 and weights of sum 1 (K,)."""
    if not isinstance(data, Mixture):
        raise TypeError(f"data must be a Mixture, got {kind(data)}")
    check_data("means", data.means)
    require(data.means.ndim == 2, "means", "have shape (K, D)", data.means)
    for name, table in (("vars", data.vars), ("weights", data.weights)):
        check_alike(means=data.means[:, 0], **{name: table})
        if not number(((table >= 0) & (table < math.inf)).all()):
            found = f"{table.min():.4g} to {table.max():.4g}"
            raise ValueError(f"{name} must be finite and at least 0, got {found}")
    eps = max(torch.finfo(dtype).eps for dtype in (data.weights.dtype, torch.float32))
    off = (data.weights.sum() - 1).abs()
    require(number(off <= len(data.weights) * eps), "weights", "have sum 1", data.weights.sum())


def diffuse(schedule: NoiseSchedule, data: Mixture, t: int) -> Mixture:
    """Return q(x_t) for data of this mixture: means times sqrt(alpha_bar_t), variances
    alpha_bar_t var_k + 1 - alpha_bar_t. t in 0..T, one integer.
    """
    check_kinds(schedule=schedule)
    check_mixture(data)
    check_count("t", t, lowest=0)
    check_t(t, data.means, schedule.T)
    scale, noise_var = schedule.alpha_bars[t].item(), schedule.marginal_vars[t].item()
    return Mixture(math.sqrt(scale) * data.means, scale * data.vars + noise_var, data.weights)


def mixture_eps_model(schedule: NoiseSchedule, data: Mixture) -> Model:
    """Return the optimal eps_model for data of this mixture: E[eps | x_t], exactly.

    E[eps | x_t] = -sqrt(1 - alpha_bar_t) grad log q(x_t). No network can have a smaller
    mean squared error. x_t (B, ...) and t, an integer or (B,), in 1..T.
    """

    check_kinds(schedule=schedule)
    check_mixture(data)
    dim, device = data.means.shape[1], data.means.device

    def eps_at(x_t: Tensor, step: int) -> Tensor:
        score = diffuse(schedule, data, step).score(x_t)
        return -schedule.marginal_vars[step].sqrt().item() * score

    def eps_model(x_t: Tensor, t: Tensor | int) -> Tensor:
        check_data("x_t", x_t)
        fits = x_t[0].numel() == dim and x_t.device == device
        require(fits, "x_t", f"hold {dim} numbers for each example, on {device}", x_t)
        return by_step(eps_at, x_t, check_t(t, x_t, schedule.T, lowest=1))

    return eps_model


def by_step(answer: Callable[[Tensor, int], Tensor], x_t: Tensor, t: Tensor | int) -> Tensor:
    """Return answer(x_t, t) for one t, else for all examples of each t, in their own order."""
    steps = [t] if isinstance(t, int) else t.unique().tolist()
    if len(steps) == 1:
        return answer(x_t, steps[0])
    rows = [(t == step).nonzero()[:, 0].to(x_t.device) for step in steps]
    parts = [answer(x_t[of_step], step) for of_step, step in zip(rows, steps, strict=True)]
    return torch.cat(parts)[torch.cat(rows).argsort()]


def mixture_reverse(schedule: NoiseSchedule, data: Mixture, x_t: Tensor, t: int) -> Mixture:
    """Return q(x_{t-1} | x_t) exactly, for data of this mixture and one state x_t (D,).

    A mixture again: component k has the weight p(k | x_t), and with its prior N(m, P I) of x_{t-1}
    the mean (beta_t m + sqrt(alpha_t) P x_t) / (beta_t + alpha_t P) and the variance
    P beta_t / (beta_t + alpha_t P). t in 1..T; at t = 1 the variances of points stay 0.
    In the dtype of data. Raises ValueError for t outside 1..T or an x_t of another shape.
    """
    check_kinds(schedule=schedule)
    check_mixture(data)
    check_data("x_t", x_t)
    check_count("t", t)
    check_t(t, x_t, schedule.T, lowest=1)
    if x_t.shape != data.means.shape[1:] or x_t.device != data.means.device:
        wanted = f"{tuple(data.means.shape[1:])} on {data.means.device}"
        raise ValueError(f"x_t must be {wanted}, got {kind(x_t)}")
    before = diffuse(schedule, data, t - 1)
    weights = component_log_probs(diffuse(schedule, data, t), x_t[None])[0].softmax(0)
    check_finite(weights, x_t=x_t, means=data.means)
    alpha, beta = schedule.alphas[t].item(), schedule.betas[t].item()
    total = beta + alpha * before.vars
    pulled = beta * before.means + math.sqrt(alpha) * before.vars[:, None] * x_t.to(before.means)
    return Mixture(pulled / total[:, None], before.vars * beta / total, weights)


def component_log_probs(data: Mixture, x: Tensor) -> Tensor:
    """Return log w_k + log N(x; m_k, v_k I), shape (B, K), in the mixture's dtype."""
    check_mixture(data)
    if isinstance(x, Tensor) and x.device != data.means.device:
        raise TypeError(f"x must be on the mixture's device {data.means.device}, got {x.device}")
    check_data("x", x)
    dim = data.means.shape[1]
    x = x.reshape(len(x), -1)
    if x.shape[1] != dim:
        raise ValueError(f"x must hold {dim} numbers for each example, got {x.shape[1]}")
    if not number((data.vars > 0).all()):
        raise ValueError("data must have positive variances for a density: diffuse it first")
    constants = data.weights.log() - 0.5 * dim * (2 * math.pi * data.vars).log()
    return constants - squared_distances(x.to(data.means), data.means) / (2 * data.vars)
