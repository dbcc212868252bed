"""The two terms of a VAE, its decoder's variance, what weights stand for; the convolutional VAE.

Of a linear VAE all is known: log p(x) and the posterior follow from the joint Gaussian of (z, x).
"""

import math

import pytest
import torch
from oracles import assert_mean, initialised, normal, other_defaults, seeded
from torch import Tensor, nn
from torch.testing import assert_close

import diffusion_core as dc
from diffusion_core import nets

pytestmark = pytest.mark.usefixtures("untouched_global_rng")

DIM, LATENTS = 6, 3
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def linear_vae(seed: int = 0) -> nets.LinearVAE:
    """Return a linear VAE in float64, all of whose weights are random."""
    vae = nets.LinearVAE(DIM, LATENTS, seed=seed).double()
    with torch.no_grad():
        for i, weight in enumerate(vae.parameters()):
            weight.copy_(0.5 * normal(1, *weight.shape, seed=i + 1)[0])
    return vae


def joint(vae: nets.LinearVAE) -> tuple[Tensor, Tensor]:
    """Return mean and covariance of (z, x): z ~ N(0, I), x = W z + m + sigma eps."""
    W, m = vae.decoder.weight.detach(), vae.decoder.bias.detach()
    var = vae.log_decoder_var.detach().exp()
    eye = torch.eye(LATENTS, dtype=torch.float64)
    of_x = W @ W.T + var * torch.eye(DIM, dtype=torch.float64)
    cov = torch.cat([torch.cat([eye, W.T], 1), torch.cat([W, of_x], 1)])
    return torch.cat([torch.zeros(LATENTS, dtype=torch.float64), m]), cov


def marginal(vae: nets.LinearVAE) -> torch.distributions.MultivariateNormal:
    mean, cov = joint(vae)
    return torch.distributions.MultivariateNormal(mean[LATENTS:], cov[LATENTS:, LATENTS:])


def posterior_gap(vae: nets.LinearVAE, x: Tensor) -> Tensor:
    """Return KL(q(z | x) || p(z | x)), p by conditioning the joint Gaussian, (B,)."""
    mean, cov = joint(vae)
    gain = torch.linalg.solve(cov[LATENTS:, LATENTS:], cov[LATENTS:, :LATENTS]).T
    of_z = cov[:LATENTS, :LATENTS] - gain @ cov[LATENTS:, :LATENTS]
    q_mean, log_var = (part.detach() for part in vae.encode(x))
    q = torch.distributions.MultivariateNormal(q_mean, torch.diag_embed(log_var.exp()))
    p = torch.distributions.MultivariateNormal((x - mean[LATENTS:]) @ gain.T, of_z)
    return torch.distributions.kl_divergence(q, p)


# Row 59: log p(x) = ELBO + KL(q(z | x) || p(z | x)).


def test_row_59_the_elbo_is_log_p_less_the_distance_of_q_to_the_posterior():
    vae, x = linear_vae(), normal(5, DIM)
    terms = dc.exact_vae_terms(vae, x)
    log_p, gap = marginal(vae).log_prob(x), posterior_gap(vae, x)
    assert (gap > 0.1).all()
    assert_close((terms.elbo + gap).detach(), log_p, **EXACT)


def test_row_59_one_z_estimates_both_terms_without_bias():
    vae, x = linear_vae(), normal(1, DIM)
    terms = dc.vae_terms(vae, x.expand(20_000, -1), generator=seeded())
    exact = dc.exact_vae_terms(vae, x)
    assert_mean(terms.reconstruction.detach(), exact.reconstruction.item())
    assert_mean(-terms.elbo.detach(), -exact.elbo.item())
    assert_close(terms.kl, exact.kl.expand(20_000), **EXACT)


def test_row_59_the_kl_is_that_of_torch():
    vae, x = linear_vae(), normal(4, DIM)
    mean, log_var = vae.encode(x)
    q = torch.distributions.Normal(mean, (log_var / 2).exp())
    unit = torch.distributions.Normal(0.0, 1.0)
    wanted = torch.distributions.kl_divergence(q, unit).sum(1)
    assert_close(dc.vae_terms(vae, x, generator=seeded()).kl, wanted, **EXACT)


def test_row_59_the_loss_is_the_mean_of_images_in_nats_and_no_mean_over_pixels():
    vae, x = linear_vae(), normal(7, DIM)
    terms = dc.vae_terms(vae, x, generator=seeded(3))
    loss = dc.vae_loss(vae, x, generator=seeded(3))
    assert terms.reconstruction.shape == terms.kl.shape == (7,) and loss.shape == ()
    assert_close(loss, (terms.kl - terms.reconstruction).sum() / 7, **EXACT)
    images = nets.VAE()
    x = normal(2, 1, 28, 28, dtype=torch.float32).clamp(-1, 1)
    with torch.no_grad():
        images.decoder[-2].weight.zero_()  # so that x_hat is 0 everywhere
        images.decoder[-2].bias.zero_()
    found = dc.vae_terms(images, x, generator=seeded()).reconstruction
    unit = torch.distributions.Normal(0.0, images.log_decoder_var.detach().exp().sqrt())
    assert_close(found.detach(), unit.log_prob(x).sum((1, 2, 3)), rtol=1e-5, atol=1e-3)


# Row 60: the best decoder variance is the mean square of the errors of pixels.


def test_row_60_the_best_decoder_variance_is_the_mean_squared_error():
    vae, x = linear_vae(), normal(50, DIM)
    x_hat = vae.decode(dc.Gaussian(*_q(vae, x)).sample(generator=seeded(5)))
    mean_square = (x - x_hat).square().mean().detach()
    with torch.no_grad():
        vae.log_decoder_var.copy_(mean_square.log())
    loss = dc.vae_loss(vae, x, generator=seeded(5))
    (slope,) = torch.autograd.grad(loss, vae.log_decoder_var)
    assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-10)
    for factor in (0.5, 2.0):
        with torch.no_grad():
            vae.log_decoder_var.copy_((factor * mean_square).log())
        assert dc.vae_loss(vae, x, generator=seeded(5)) > loss


def test_row_60_training_finds_it():
    """Only the decoder's variance is free: its slope is 0 where it is the mean square."""
    vae, x = linear_vae(), normal(200, DIM)
    adam = torch.optim.Adam([vae.log_decoder_var], lr=0.2)
    for _ in range(60):
        adam.zero_grad()
        dc.vae_loss(vae, x, generator=seeded(5)).backward()
        adam.step()
    with torch.no_grad():
        x_hat = vae.decode(dc.Gaussian(*_q(vae, x)).sample(generator=seeded(5)))
    wanted = (x - x_hat).square().mean()
    assert_close(vae.log_decoder_var.detach().exp(), wanted, rtol=0.02, atol=0)


def _q(vae: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    mean, log_var = vae.encode(x)
    return mean, log_var.exp()


# Row 61: a |x - x_hat|^2 + b KL is b times -ELBO of a decoder of variance b / (2a).


@pytest.mark.parametrize("a, b", [(1 / DIM, 1.0), (1 / DIM, 1 / LATENTS), (0.5, 1.0), (1.0, 1e-6)])
def test_row_61_weights_are_a_decoder_variance(a, b):
    vae, x = linear_vae(), normal(9, DIM)
    with torch.no_grad():
        vae.log_decoder_var.fill_(math.log(dc.decoder_var_of(a, b)))
    weights = [w for name, w in vae.named_parameters() if name != "log_decoder_var"]
    loss = dc.weighted_vae_loss(vae, x, a, b, generator=seeded(2))
    found = torch.autograd.grad(loss, weights)
    wanted = torch.autograd.grad(b * dc.vae_loss(vae, x, generator=seeded(2)), weights)
    assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_row_61_a_kl_without_weight_is_not_asked_and_its_weight_counts_once():
    vae, x = linear_vae(), normal(9, DIM)
    kl = dc.vae_terms(vae, x, generator=seeded()).kl.mean()

    def value(b: float) -> Tensor:
        return dc.weighted_vae_loss(vae, x, 1.0, b, generator=seeded(2))

    assert_close(value(1.5) - value(0.0), 1.5 * kl, **EXACT)


# The convolutional VAE.


def images(n: int = 3) -> Tensor:
    return normal(n, 1, 28, 28, dtype=torch.float32).clamp(-1, 1)


def trained_like(seed: int = 0) -> nets.VAE:
    """Return a VAE none of whose weights is 0."""
    vae = nets.VAE(seed=seed)
    with torch.no_grad():
        for i, weight in enumerate(vae.parameters()):
            if weight.ndim == 4 and not weight.any():
                size = weight[0].numel() ** -0.5
                weight.copy_(size * normal(*weight.shape, seed=i, dtype=torch.float32))
    return vae


def test_shapes_and_a_seed_of_its_own():
    vae = trained_like()
    mean, log_var = vae.encode(images())
    assert mean.shape == log_var.shape == (3, 8, 4, 4)
    assert vae.decode(mean).shape == (3, 1, 28, 28)
    assert_close(vae(images()), vae.decode(mean), rtol=0, atol=0)
    again, other = nets.VAE(seed=1), nets.VAE(seed=2)
    assert_close(dict(nets.VAE(seed=1).state_dict()), dict(again.state_dict()), rtol=0, atol=0)
    assert not torch.equal(again.encoder[1].weight, other.encoder[1].weight)


def test_weights_do_not_depend_on_the_defaults():
    wanted = dict(nets.VAE().state_dict())
    linear = dict(nets.LinearVAE(4, 2).state_dict())
    with other_defaults():
        assert_close(dict(nets.VAE().state_dict()), wanted, rtol=0, atol=0)
        assert_close(dict(nets.LinearVAE(4, 2).state_dict()), linear, rtol=0, atol=0)


@pytest.mark.parametrize("place", [(0, 0), (0, 27), (27, 0), (27, 27), (13, 14)])
def test_every_pixel_reaches_the_latents_and_is_reached_by_them(place):
    vae, x = trained_like(), images(1)
    changed = x.clone()
    changed[0, 0, *place] += 1.0
    assert not torch.equal(vae.encode(x)[0], vae.encode(changed)[0])
    z = normal(1, 8, 4, 4, dtype=torch.float32).requires_grad_()
    vae.decode(z)[0, 0, *place].backward()
    assert z.grad.abs().max() > 0


def test_the_encoder_pads_with_background_and_the_decoder_crops_its_own_answer():
    vae, x = trained_like(), images(2)
    padded = torch.full((2, 1, 32, 32), -1.0)
    padded[:, :, 2:30, 2:30] = x
    mean, log_var = vae.encode(x)
    assert_close(torch.cat([mean, log_var], 1), vae.encoder(padded), rtol=0, atol=0)
    assert_close(vae.decode(mean), vae.decoder(mean)[:, :, 2:30, 2:30], rtol=0, atol=0)


def test_an_image_is_encoded_and_decoded_without_its_batch():
    vae, x = trained_like(), images(4)
    alone = torch.cat([vae(part) for part in x.split(1)])
    assert_close(vae(x), alone, rtol=1e-4, atol=1e-4)


def test_a_block_of_the_vae_begins_as_its_input():
    block = initialised(lambda: nets.vae._Residual(8))
    x = normal(2, 8, 4, 4, dtype=torch.float32)
    assert_close(block(x), x, rtol=0, atol=0)


def test_gradients_reach_every_weight():
    vae = trained_like()
    dc.vae_loss(vae, images(), generator=seeded()).backward()
    assert all(weight.grad.abs().max() > 0 for weight in vae.parameters())


def test_units_that_say_nothing_are_not_active():
    vae, x = linear_vae(), normal(300, DIM)
    assert dc.active_units(vae, x) == LATENTS
    with torch.no_grad():
        vae.encoder.weight[1] = 0.0
    assert dc.active_units(vae, x) == LATENTS - 1
    var = vae.encode(x)[0].var(0).sort().values
    assert dc.active_units(vae, x, threshold=var[-2].item() * 1.001) == 1


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_network_of_nan_is_named_and_not_its_images(part):
    vae = nets.VAE(seed=0)
    with torch.no_grad():
        list(getattr(vae, part).parameters())[-1][0] = torch.nan
    x = normal(2, 1, 28, 28, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"^(mean of vae\.encode\(x\)|vae\.decode\(z\)) must hold"):
        dc.vae_loss(vae, x, generator=seeded())
