"""Scaled latents: E z^2 = 1, a scale that is stored with the weights, and what scaling means."""

import math

import pytest
import torch
from oracles import assert_mean, normal, seeded
from torch.testing import assert_close

import diffusion_core as dc
from diffusion_core import checkpoints, nets

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

IMAGES = normal(40, 1, 28, 28, dtype=torch.float32).clamp(-1, 1)
S = dc.cosine_schedule(50)


def vae(seed: int = 0, size: float = 3.0) -> nets.VAE:
    """Return a VAE whose latents are of size `size`, more or less, each channel of its own."""
    net = nets.VAE(4, (8, 8, 8), seed=seed)
    with torch.no_grad():
        net.encoder[-1].bias[:4] = size * torch.tensor([0.1, 0.5, 1.0, 2.0])
        net.encoder[-1].bias[4:] = torch.tensor([-4.0, -2.0, 0.0, 1.0])
    return net


# Row 64: E z^2 = E mean^2 + E var, and 1 after scaling.


def test_row_64_the_second_moment_is_that_of_the_means_and_the_mean_variance():
    net = vae()
    x = IMAGES.repeat(20, 1, 1, 1)
    with torch.no_grad():
        mean, log_var = net.encode(x)
        wanted = (mean.square() + log_var.exp()).double().mean((0, 2, 3))
        scale = dc.measure_latent_scale(net, x, generator=seeded())
        z = dc.to_latents(net, x, generator=seeded(9))
    assert_close(scale, net.latent_scale, rtol=0, atol=0)
    assert_mean((z / scale[:, None, None]).square().mean((2, 3)), wanted)
    assert_close(scale.double() ** -2, wanted, rtol=0.05, atol=0)
    assert_close(dc.second_moments(z), torch.ones(4), rtol=0.05, atol=0)


def test_row_64_the_scale_comes_back_with_the_weights_and_is_each_vae_s_own(tmp_path):
    first, second = vae(), vae(seed=1, size=0.3)
    for i, net in enumerate((first, second)):
        dc.measure_latent_scale(net, IMAGES, generator=seeded())
        checkpoints.save(tmp_path / f"{i}.safetensors", net, dtype=torch.float16)
    assert (second.latent_scale / first.latent_scale > 1.1).any()
    for i, net in enumerate((first, second)):
        again = vae(seed=i)
        checkpoints.load(tmp_path / f"{i}.safetensors", again)
        assert_close(again.latent_scale, net.latent_scale, rtol=1e-3, atol=0)
        z = dc.to_latents(again, IMAGES, generator=seeded(4))
        assert_close(dc.second_moments(z), torch.ones(4), rtol=0.1, atol=0)


def test_a_scale_that_was_never_measured_is_refused():
    net = vae()
    with pytest.raises(ValueError, match="vae must have its latent_scale measured first"):
        dc.to_latents(net, IMAGES, generator=seeded())
    with pytest.raises(ValueError, match="vae must have its latent_scale measured first"):
        dc.from_latents(net, normal(2, 4, 4, 4, dtype=torch.float32))


def test_row_64_what_was_scaled_is_decoded_as_what_was_not():
    net = vae()
    dc.measure_latent_scale(net, IMAGES, generator=seeded())
    z = normal(3, 4, 4, 4, dtype=torch.float32)
    scaled = torch.stack([z[:, c] * net.latent_scale[c] for c in range(4)], 1)
    with torch.no_grad():
        assert_close(dc.from_latents(net, scaled), net.decode(z), rtol=1e-5, atol=1e-5)


def test_latents_of_many_images_come_in_parts_with_noise_of_their_own():
    net = vae()
    dc.measure_latent_scale(net, IMAGES, generator=seeded())
    z = dc.to_latents(net, IMAGES[:1].expand(1001, -1, -1, -1), generator=seeded())
    assert len(z) == 1001 and len(z.flatten(1).unique(dim=0)) == 1001
    assert not z.requires_grad


# Row 65: a scale s moves log SNR by 2 ln s, at every t.


@pytest.mark.parametrize("scale", [0.18215, 1.0, 5.49])
def test_row_65_log_snr_moves_by_twice_the_log_of_the_scale(scale):
    moved = dc.scaled_schedule(S, scale)
    shift = moved.snr[1:].log() - S.snr[1:].log()
    assert_close(shift, torch.full_like(shift, 2 * math.log(scale)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [0.3, 4.0])
def test_row_65_the_noisy_scaled_latent_is_a_noisy_latent_of_the_other_schedule(scale):
    """By the marginals of a mixture: x_t of scale * z, divided by c_t, is z_t."""
    data = dc.mixture(normal(3, 2), 0.2)
    scaled = dc.mixture(scale * data.means, scale**2 * 0.2)
    moved, z = dc.scaled_schedule(S, scale), normal(6, 2, seed=3)
    for t in (1, 20, 50):
        bar = S.alpha_bars[t]
        c = (scale**2 * bar + 1 - bar).sqrt()
        wanted = dc.diffuse(S, scaled, t).log_prob(c * z) + 2 * c.log()
        assert_close(dc.diffuse(moved, data, t).log_prob(z), wanted, rtol=1e-8, atol=1e-8)


def test_row_65_the_same_sampler_then_draws_the_same_samples():
    scale, T = 4.0, S.T
    data = dc.mixture(normal(3, 2), 0.2)
    scaled = dc.mixture(scale * data.means, scale**2 * 0.2)
    moved = dc.scaled_schedule(S, scale)
    c_T = (scale**2 * S.alpha_bars[T] + 1 - S.alpha_bars[T]).sqrt()
    x_T = normal(5, 2, seed=4)
    *_, x = dc.sample_chain(dc.ddim_step, S, dc.mixture_eps_model(S, scaled), x_T)
    *_, z = dc.sample_chain(dc.ddim_step, moved, dc.mixture_eps_model(moved, data), x_T / c_T)
    assert_close(x.x_t, scale * z.x_t, rtol=1e-6, atol=1e-6)
