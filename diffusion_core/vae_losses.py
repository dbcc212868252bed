"""The two terms of a VAE's ELBO, and the loss of any weights of them."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .checks import (
    check_alike,
    check_data,
    check_finite,
    check_like,
    check_numbers,
    kind,
    like_input,
    require,
)
from .decoders import gaussian_decoder
from .gaussian import Gaussian, kl_divergence, standard_gaussian


class VaeTerms(NamedTuple):
    """The two terms of a VAE's ELBO, each (B,), in nats per image.

    reconstruction: E_q log p(x | z); kl: KL(q(z | x) || N(0, I)). elbo is their difference.
    """

    reconstruction: Tensor
    kl: Tensor

    @property
    def elbo(self) -> Tensor:
        """The bound on log p(x), (B,)."""
        return self.reconstruction - self.kl


def vae_terms(vae: nn.Module, x: Tensor, *, generator: torch.Generator | None = None) -> VaeTerms:
    """Return E_q log N(x; decode(z), sigma^2 I), from one z each, and KL(q(z | x) || N(0, I)).

    vae: of encode(x) -> mean, log_var, decode(z) -> x_hat and log_decoder_var = log sigma^2, as
    nets.VAE and nets.LinearVAE are. x: (B, ...). Sums over pixels and latents, no mean.
    Source: Kingma and Welling (2014), equation 10.
    """
    x_hat, kl = _through(vae, x, generator)
    p = Gaussian(x_hat, vae.log_decoder_var.exp())
    return VaeTerms(gaussian_decoder(x, p), kl)


def vae_loss(vae: nn.Module, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Return -ELBO in nats per image, the mean over a batch x (B, ...): see `vae_terms`."""
    return -vae_terms(vae, x, generator=generator).elbo.mean()


def weighted_vae_loss(
    vae: nn.Module,
    x: Tensor,
    error_weight: float,
    kl_weight: float,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the mean over images of a |x - x_hat|^2 + b KL, whatever a and b are.

    |x - x_hat|^2 is the sum over pixels, KL that over latents, so a mean over the d pixels is
    a = 1/d. Up to a constant it is b times -ELBO of a decoder whose variance is b / (2a):
    `decoder_var_of`. x: (B, ...) -> a scalar; log_decoder_var is not asked.
    """
    check_numbers(0, math.inf, "[)", error_weight=error_weight, kl_weight=kl_weight)
    x_hat, kl = _through(vae, x, generator)
    errors = (x - x_hat).square().flatten(1).sum(1)
    return check_finite((error_weight * errors + kl_weight * kl).mean(), x=x)


def decoder_var_of(error_weight: float, kl_weight: float) -> float:
    """Return b / (2a), the decoder's variance that weights a |x - x_hat|^2 + b KL stand for."""
    check_numbers(0, math.inf, error_weight=error_weight, kl_weight=kl_weight)
    return kl_weight / (2 * error_weight)


def _through(vae: nn.Module, x: Tensor, generator: torch.Generator | None) -> tuple:
    """Return x_hat, like x, decoded from one z of q(z | x), and the KL (B,) of each."""
    q = posterior_of(vae, x)
    x_hat = like_input(vae.decode(q.sample(generator=generator)), x)
    check_like("vae.decode(z)", x_hat, "x", x)
    return x_hat, kl_divergence(q, standard_gaussian(q.mean)).flatten(1).sum(1)


def posterior_of(vae: nn.Module, x: Tensor) -> Gaussian:
    """Return q(z | x) of a VAE, of images x (B, ...)."""
    parts = ("encode", "decode", "log_decoder_var")
    if not all(hasattr(vae, part) for part in parts):
        raise TypeError(f"vae must have {', '.join(parts)}, got {kind(vae)}")
    check_data("x", x)
    mean, log_var = (like_input(part, x) for part in vae.encode(x))
    check_alike(**{"mean of vae.encode(x)": mean, "log_var of vae.encode(x)": log_var})
    told = {"x": x, "mean of vae.encode(x)": mean, "log_var of vae.encode(x)": log_var}
    return Gaussian(check_finite(mean, **told), check_finite(log_var.exp(), **told))


def active_units(vae: nn.Module, x: Tensor, *, threshold: float = 0.01) -> int:
    """Return how many latents of a VAE say anything of images x (B, ...).

    Those whose mean of q(z | x) has a variance over x above the threshold; of one that is not used
    it is 0. Source: Burda et al. (2016), section 5.
    """
    check_numbers(0, math.inf, "[)", threshold=threshold)
    with torch.no_grad():
        means = posterior_of(vae, x).mean
        require(len(x) > 1, "x", "hold at least two examples (B, ...)", x)
        return int((means.flatten(1).var(0) > threshold).sum())
