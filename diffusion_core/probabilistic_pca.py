"""Probabilistic PCA: the linear VAE at its best, whose ELBO is log p(x) for every x."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .checks import (
    check_count,
    check_data,
    check_finite,
    check_floating,
    check_like,
    check_numbers,
    kind,
    require,
    without_autocast,
)
from .gaussian import kl_divergence, standard_gaussian
from .nets import LinearVAE
from .vae_losses import VaeTerms, posterior_of


class PPCA(NamedTuple):
    """p(x) = N(mean, weight weight^T + var I): mean (d,), weight (d, k), var ()."""

    mean: Tensor
    weight: Tensor
    var: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x) of rows x (B, d), in nats, (B,): exact, as p is a Gaussian."""
        _check_ppca(self)
        check_data("x", x)
        require(x.ndim == 2, "x", "have shape (B, d)", x)
        check_like("mean", self.mean.expand(len(x), -1), "x", x)
        check_finite(self.weight.T @ self.weight / self.var, weight=self.weight, var=self.var)
        law = torch.distributions.LowRankMultivariateNormal(
            self.mean, self.weight, self.var.expand_as(self.mean)
        )
        return check_finite(law.log_prob(x), x=x, **self._asdict())


def probabilistic_pca(x: Tensor, latent_dim: int, *, decoder_var: float | None = None) -> PPCA:
    """Return the likeliest PPCA of rows x (n, d), in closed form, in float64.

    weight_i = sqrt(lambda_i - var) u_i for the largest eigenvalues lambda_i of the covariance, 0
    where lambda_i <= var; var is decoder_var, or the mean of the eigenvalues left out.
    Raises ValueError where x varies in latent_dim directions only and no decoder_var is given.
    Source: Tipping and Bishop (1999), equations 7 and 8.
    """
    values, vectors, mean = _spectrum(x, latent_dim)
    if decoder_var is None:
        require(latent_dim < x.shape[1], "latent_dim", f"be less than {x.shape[1]}", latent_dim)
        var = values[latent_dim:].mean()
        enough = bool(var > 1e-12 * values[0])
        require(enough, "x", f"vary in more than {latent_dim} directions", x)
    else:
        check_numbers(0, math.inf, decoder_var=decoder_var)
        var = values.new_tensor(decoder_var)
    lengths = (values[:latent_dim] - var).clamp(min=0).sqrt()
    return PPCA(mean, vectors[:, :latent_dim] * lengths, var)


def optimal_linear_vae(model: PPCA) -> LinearVAE:
    """Return the LinearVAE, in float64, whose q(z | x) is the posterior of a PPCA.

    q(z | x) = N(M^-1 W^T (x - mean), var M^-1), M = W^T W + var I, diagonal as W's columns are
    orthogonal. Raises ValueError for a weight whose columns are not.
    """
    _check_ppca(model)
    mean, weight, var = (part.detach().double() for part in model)
    gram = weight.T @ weight
    apart = gram - torch.diag(gram.diagonal())
    orthogonal = bool(apart.abs().max() <= 1e-6 * gram.diagonal().max())
    require(orthogonal, "model.weight", "have orthogonal columns", weight)
    scales = gram.diagonal() + var  # of M
    vae = LinearVAE(*weight.shape).double()
    with torch.no_grad():
        vae.encoder.weight.copy_(weight.T / scales[:, None])
        vae.encoder.bias.copy_(-(vae.encoder.weight @ mean))
        vae.log_var.copy_((var / scales).log())
        vae.decoder.weight.copy_(weight)
        vae.decoder.bias.copy_(mean)
        vae.log_decoder_var.copy_(var.log())
    return vae


def exact_vae_terms(vae: LinearVAE, x: Tensor) -> VaeTerms:
    """Return the two terms of a LinearVAE's ELBO of rows x (B, d), without drawing a z.

    E_q |x - W z - m|^2 = |x - W mean - m|^2 + sum_j s_j^2 |w_j|^2, w_j the columns of W.
    """
    if not isinstance(vae, LinearVAE):
        raise TypeError(f"vae must be a nets.LinearVAE, got {kind(vae)}")
    check_floating("x", x)
    with without_autocast(x):
        q = posterior_of(vae, x)
        spread = q.var @ vae.decoder.weight.square().sum(0)
        errors = (x - vae.decode(q.mean)).square().sum(1) + spread
    var = vae.log_decoder_var.exp()
    reconstruction = -0.5 * (errors / var + x.shape[1] * (2 * math.pi * var).log())
    check_finite(reconstruction, x=x)
    return VaeTerms(reconstruction, kl_divergence(q, standard_gaussian(q.mean)).sum(1))


def pca_kl(x: Tensor, latent_dim: int, decoder_var: float) -> Tensor:
    """Return the mean KL of each unit of the best linear VAE of this variance, float64 (k,).

    max(0, ln(lambda_i / decoder_var) / 2) nats, lambda_i the largest eigenvalues of the covariance
    of rows x (n, d): a unit whose direction varies less than the decoder's noise is not used.
    Source: Lucas et al. (2019), section 4.
    """
    check_numbers(0, math.inf, decoder_var=decoder_var)
    values, _, _ = _spectrum(x, latent_dim)
    return 0.5 * (values[:latent_dim].clamp(min=decoder_var) / decoder_var).log()


def _spectrum(x: Tensor, latent_dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return eigenvalues, the largest first, eigenvectors as columns, and the mean, in float64."""
    check_data("x", x)
    require(x.ndim == 2 and len(x) > 1, "x", "have shape (n, d), n at least 2", x)
    check_count("latent_dim", latent_dim)
    d = x.shape[1]
    require(latent_dim <= d, "latent_dim", f"be at most {d}, as x has {d} columns", latent_dim)
    rows = x.detach().double()
    mean = rows.mean(0)
    covariance = check_finite((rows - mean).T @ (rows - mean) / len(rows), x=x)
    values, vectors = torch.linalg.eigh(covariance)
    values = values.flip(0).clamp(min=0)
    vectors = vectors.flip(1)
    highest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return values, vectors * highest.sign(), mean


def _check_ppca(model: PPCA) -> None:
    if not isinstance(model, PPCA):
        raise TypeError(f"model must be a PPCA, got {kind(model)}")
    for name, part, ndim in zip(model._fields, model, (1, 2, 0), strict=True):
        ok = isinstance(part, Tensor) and part.is_floating_point() and not part.is_meta
        if not ok:
            raise TypeError(f"{name} must be a floating-point torch.Tensor, got {kind(part)}")
        require(part.ndim == ndim and part.numel(), name, f"have {ndim} axes", part)
        alike = part.dtype == model.mean.dtype and part.device == model.mean.device
        require(alike, name, f"be like mean, {kind(model.mean)}", part)
        check_finite(part, **{name: part})
    rows = len(model.mean)
    require(model.weight.shape[0] == rows, "weight", f"have {rows} rows, as mean", model.weight)
    require(bool(model.var > 0), "var", "be positive", model.var)
