"""What training makes small: Algorithm 1 up to the error, and the two terms of a VAE."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .checks import (
    check_alike,
    check_data,
    check_finite,
    check_kinds,
    check_like,
    check_numbers,
    kind,
    like_input,
    require,
)
from .decoders import gaussian_decoder
from .gaussian import Gaussian, kl_divergence, standard_gaussian, standard_normal
from .nets import LevelPosterior
from .nets.levels import check_images_on_levels
from .predictions import v_target
from .process import q_sample
from .schedules import NoiseSchedule


def draw_t(schedule: NoiseSchedule, x0: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw t uniformly from 1..T, T included, one for each example: int64 (B,)."""
    check_alike(schedule=schedule, x0=x0)
    check_kinds(generator=generator)
    require(not x0.is_meta, "x0", "hold numbers", x0)
    device = (generator or x0).device
    t = torch.randint(1, schedule.T + 1, (len(x0),), generator=generator, device=device)
    return t.to(x0.device)


def eps_loss(
    schedule: NoiseSchedule,
    model: nn.Module,
    x0: Tensor,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return L_simple = E |eps - model(x_t, t)|^2 / d on one batch: lines 2 to 5 of Algorithm 1.

    x0 (B, ...) -> a scalar. Source: Ho et al. (2020), equation 14.
    """
    check_kinds(**{"model(x_t, t)": model})
    t, eps = draw_t(schedule, x0, generator), standard_normal(x0, generator)
    return _mean_square(model(q_sample(schedule, x0, t, eps), t), eps)


def v_loss(
    schedule: NoiseSchedule,
    model: nn.Module,
    x0: Tensor,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return E |v - model(x_t, t)|^2 / d on one batch, for a network that predicts v.

    As |v - v_hat|^2 = |eps - eps_hat|^2 / alpha_bar_t, it is eps_loss with more weight on large t.
    x0 (B, ...) -> a scalar. Source: Salimans and Ho (2022), section 4.
    """
    check_kinds(**{"model(x_t, t)": model})
    t, eps = draw_t(schedule, x0, generator), standard_normal(x0, generator)
    return _mean_square(model(q_sample(schedule, x0, t, eps), t), v_target(schedule, x0, eps, t))


def bound_loss(
    schedule: NoiseSchedule,
    posterior: Callable[[Tensor, Tensor], LevelPosterior],
    x0: Tensor,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return an estimate of (-ELBO - L_T) / d in nats for images on grey levels, x0 (B, 1, H, W).

    L_{t-1} = (SNR_{t-1} - SNR_t) |x_0 - x0_hat|^2 / 2 for sigma_t^2 = posterior_vars_t, and
    L_0 = -log P(x_0 | x_1). t is drawn in proportion to alpha_bar_t, at evenly spaced places of
    its distribution in random order, and each term divided by its probability.
    posterior: a LevelUNet's. Source: Kingma et al. (2021), equation 11.
    """
    check_alike(schedule=schedule, x0=x0)
    check_kinds(posterior=posterior, generator=generator)
    check_images_on_levels("x0", x0)
    probs = schedule.alpha_bars[1:] / schedule.alpha_bars[1:].sum()
    options = {"generator": generator, "device": (generator or probs).device}
    places = torch.randperm(len(x0), **options) + torch.rand(1, dtype=torch.float64, **options)
    t = 1 + torch.searchsorted(probs.cumsum(0), places.cpu() / len(x0)).clamp(max=schedule.T - 1)
    x_t = q_sample(schedule, x0, t, generator=generator)
    known = posterior(x_t, t.to(x0.device))
    require(isinstance(known, LevelPosterior), "posterior(x_t, t)", "be a LevelPosterior", known)
    weights = (schedule.snr[(t - 1).clamp(min=1)] - schedule.snr[t]) / 2 / probs[t - 1]
    errors = (x0 - known.mean).square().flatten(1).sum(1)
    steps = weights.to(errors) * errors  # 0 at t = 1
    last = torch.where(t == 1, 1 / probs[0], 0.0).to(errors)
    return (steps - last * known.log_prob(x0)).mean() / x0[0].numel()


def _mean_square(output: Tensor, target: Tensor) -> Tensor:
    place = target.shape, target.device
    fits = isinstance(output, Tensor) and (output.shape, output.device) == place
    require(fits, "model(x_t, t)", f"have shape {tuple(target.shape)} on {target.device}", output)
    return check_finite(nn.functional.mse_loss(output, target), **{"model(x_t, t)": output})


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
    return Gaussian(check_finite(mean, x=x), check_finite(log_var.exp(), x=x))


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
