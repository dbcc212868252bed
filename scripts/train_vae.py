"""Train the VAE in whose latents lesson 12 diffuses, on all of MNIST: `make train-vae`.

An epoch sees a sixth of the images; see epochs.py for how a run goes on after an interrupt. At the
end the decoder's variance is set to its best, the scale of the latents is measured on the training
images, and both are stored with the averaged weights, as float16, with what made them: the two
terms of the ELBO on the test images, and the Frechet distance of reconstructions.
"""

import math

import torch
from epochs import about, options_of, run_epochs

import diffusion_core as dc
from diffusion_core import checkpoints, data, judge, latents, pretrained
from diffusion_core.vae_losses import posterior_of

AT_ONCE = 500  # images in one call
PIXELS = 28 * 28
PARTS = 6  # of the images, one an epoch
SETTLED = 10_000  # training images on which the decoder's variance is set at the end
KL_WEIGHT = 0.25  # with less than 1, sharper pictures of more latents, for a lower ELBO


def loss(vae, x, y, *, generator) -> torch.Tensor:
    """Return -ELBO in nats per pixel, less of its KL; the labels y are not told."""
    terms = dc.vae_terms(vae, x, generator=generator)
    return (KL_WEIGHT * terms.kl - terms.reconstruction).mean() / PIXELS


@torch.no_grad()
def mean_square(vae, x: torch.Tensor) -> float:
    """Return the mean square of the errors of pixels: the best variance of the decoder."""
    rng, total = torch.Generator().manual_seed(0), 0.0
    for part in x.split(AT_ONCE):
        z = posterior_of(vae, part).sample(generator=rng)
        total += (part - vae.decode(z)).square().sum().item()
    return total / x.numel()


@torch.no_grad()
def described(vae, train: torch.Tensor, test: torch.Tensor, n: int) -> dict:
    """Return the ELBO of test images in nats per image, and what reconstructions are like."""
    rng = torch.Generator().manual_seed(1)
    parts = [dc.vae_terms(vae, x, generator=rng) for x in test.split(AT_ONCE)]
    reconstruction, kl = (torch.cat(column).mean().item() for column in zip(*parts, strict=True))
    network, _ = pretrained.load("judge")
    floor = judge.frechet_floor(network, train, test, n, generator=rng)
    x = train[torch.randperm(len(train), generator=rng)[:n]]
    again = latents.from_latents(vae, latents.to_latents(vae, x, generator=rng))
    moments = latents.second_moments(latents.to_latents(vae, test, generator=rng))
    found = {
        "kl_weight": KL_WEIGHT,
        "elbo": reconstruction - kl,
        "reconstruction": reconstruction,
        "kl": kl,
        "decoder_std": vae.log_decoder_var.exp().sqrt().item(),
        "frechet": judge.judge_images(network, again, test).frechet,
        "frechet_floor": floor,
    }
    found = {name: round(number, 4) for name, number in found.items()}
    second_moments = [round(m, 4) for m in moments.tolist()]
    return found | {"reconstructions": n, "second_moments_on_test_images": second_moments}


def main() -> None:
    parser = options_of(__doc__, "vae", epochs=12, batch=64)
    parser.add_argument("--reconstructions", type=int, default=2000)
    options = parser.parse_args()
    (images, labels), (test, _) = data.mnist("train"), data.mnist("test")
    train, test = data.to_signed(images), data.to_signed(test)
    vae = run_epochs(options, pretrained.mnist_vae(), loss, (train, labels), parts=PARTS)
    vae = vae.cpu().eval()
    vae.log_decoder_var.data.fill_(math.log(mean_square(vae, train[:SETTLED])))
    latents.measure_latent_scale(vae, train, generator=torch.Generator().manual_seed(0))
    numbers = about(options, **described(vae, train, test, options.reconstructions))
    checkpoints.save(options.out, vae, dtype=torch.float16, **numbers)
    print(f"{options.out}:", numbers)


if __name__ == "__main__":
    main()
