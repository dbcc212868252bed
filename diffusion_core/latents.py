"""From images to the latents that diffusion sees, and back: scaled, so that E z^2 = 1."""

import torch
from torch import Tensor, nn

from .checks import (
    check_data,
    check_finite,
    check_kinds,
    check_numbers,
    kind,
    require,
    without_autocast,
)
from .schedules import NoiseSchedule, schedule_from_alpha_bars
from .vae_losses import posterior_of

AT_ONCE = 500  # images in one call of the VAE


@torch.no_grad()
def measure_latent_scale(
    vae: nn.Module, x: Tensor, *, generator: torch.Generator | None = None
) -> Tensor:
    """Set vae.latent_scale = 1 / sqrt(E z^2) of each channel, and return it, (C,).

    z (B, C, ...) is drawn from q(z | x) of training images x (B, ...). vae: a nets.VAE, or what
    else has a buffer latent_scale (C,): what stores the weights stores it.
    Source: Rombach et al. (2022), appendix G.
    """
    z = _drawn(vae, x, generator)
    scale = second_moments(z).rsqrt()
    vae.latent_scale.copy_(check_finite(scale, x=x))
    return scale


@torch.no_grad()
def to_latents(vae: nn.Module, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Return latent_scale * z, z ~ q(z | x): what diffusion is trained on, (B, C, ...).

    x: (B, ...). Raises ValueError for a VAE whose scale was never measured.
    """
    z = _drawn(vae, x, generator)
    return z * _scale(vae, z)


@torch.no_grad()
def from_latents(vae: nn.Module, z: Tensor) -> Tensor:
    """Return decode(z / latent_scale) of scaled latents z (B, C, ...), (B, ...).

    Raises ValueError for a VAE whose scale was never measured.
    """
    _check_vae(vae)
    check_data("z", z)
    channels = len(vae.latent_scale)
    fits = z.ndim > 1 and z.shape[1] == channels
    require(fits, "z", f"have shape (B, {channels}, ...)", z)
    parts = (z / _scale(vae, z)).split(AT_ONCE)
    with without_autocast(z):
        x = torch.cat([vae.decode(part) for part in parts])
    return check_finite(x, z=z, **{"vae.decode(z)": x})


def second_moments(z: Tensor) -> Tensor:
    """Return E z^2 of each channel of latents z (B, C, ...): (C,)."""
    check_data("z", z)
    require(z.ndim > 1, "z", "have shape (B, C, ...)", z)
    return check_finite(z.square().transpose(0, 1).flatten(1).mean(1), z=z)


def scaled_schedule(schedule: NoiseSchedule, scale: float) -> NoiseSchedule:
    """Return the schedule that z sees when scale * z is diffused by `schedule`.

    SNR_t is multiplied by scale^2, so log SNR rises by 2 ln scale at every t: x_t / c_t is z
    diffused by the new one, c_t^2 = scale^2 alpha_bar_t + 1 - alpha_bar_t.
    """
    check_kinds(schedule=schedule)
    check_numbers(0, torch.inf, scale=scale)
    kept = scale**2 * schedule.alpha_bars[1:]
    return schedule_from_alpha_bars(kept / (kept + schedule.marginal_vars[1:]))


def _drawn(vae: nn.Module, x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return z ~ q(z | x), without the scale, some images at a time."""
    _check_vae(vae)
    check_kinds(generator=generator)
    check_data("x", x)
    with without_autocast(x):
        qs = [posterior_of(vae, part) for part in x.split(AT_ONCE)]
    return torch.cat([q.sample(generator=generator) for q in qs])


def _scale(vae: nn.Module, z: Tensor) -> Tensor:
    """Return the scale of each channel, as it multiplies z (B, C, ...)."""
    scale = vae.latent_scale
    wanted = "have its latent_scale measured first, by measure_latent_scale"
    require(bool((scale > 0).all()), "vae", wanted, scale.tolist())
    return scale.view(-1, *[1] * (z.ndim - 2))


def _check_vae(vae: nn.Module) -> None:
    if not isinstance(getattr(vae, "latent_scale", None), Tensor):
        raise TypeError(f"vae must have a latent_scale, as nets.VAE has, got {kind(vae)}")
