"""Train a denoiser in the latents of the shipped VAE, on all of MNIST: `make train-latent`.

`--network unet` or `--network dit`: one each, on the same latents. The training images are encoded
once; each epoch sees a quarter of these latents. See epochs.py for how a run goes on after an
interrupt. At the end the averaged weights are written into the package as float16, with what made
them and the judge's numbers of decoded drawings. The network is told the digit, except one time in
ten.
"""

import torch
from epochs import about, choice_of, options_of, run_epochs
from train_mnist import labelled_loss, mixed_t

import diffusion_core as dc
from diffusion_core import checkpoints, data, judge, latents, pretrained

NETWORKS = {"unet": pretrained.latent_unet, "dit": pretrained.latent_dit}
SCALES = (1.0, 1.5, 2.0)  # of the guidance, tried on a first set; the best is measured on another
HIGHEST, LOWEST, CALLS = 20.0, 0.05, 12  # noise levels of the drawings, even in log SNR
PARTS = 4  # of the images, one an epoch


@torch.no_grad()
def drawn(model, vae, schedule: dc.NoiseSchedule, n: int, scale: float, seed: int) -> torch.Tensor:
    """Return n decoded drawings, each digit as often, by 2M."""
    device = next(model.parameters()).device
    y = torch.arange(n, device=device) % 10
    guided = dc.classifier_free(model, y, guidance_scale=scale)
    rng = torch.Generator().manual_seed(seed)
    z_T = torch.randn(n, model.in_channels, 4, 4, generator=rng).to(device)
    eps_model = dc.eps_model_from_v(schedule, guided)
    taus = dc.nearest_taus(schedule, dc.geometric_levels(HIGHEST, LOWEST, CALLS))
    *_, last = dc.sample_chain(dc.dpm_solver_2m(), schedule, eps_model, z_T, taus)
    return latents.from_latents(vae, last.x_t.cpu()).clamp(-1, 1)


def judged(model, vae, schedule, test: torch.Tensor, n: int) -> dict:
    """Return the judge's numbers of n drawings, at the scale that was best on fewer others."""
    network, _ = pretrained.load("judge")

    def verdict(n: int, scale: float, seed: int) -> judge.Verdict:
        return judge.judge_images(network, drawn(model, vae, schedule, n, scale, seed), test)

    tried = {scale: verdict(max(20, n // 4), scale, 1).frechet for scale in SCALES}
    best = min(tried, key=tried.get)
    found = verdict(n, best, 2)
    return {
        "samples": n,
        "guidance_scale": best,
        "confident": round(found.confident, 4),
        "shares": [round(share, 4) for share in found.shares.tolist()],
        "frechet": round(found.frechet, 4),
        "tried": {str(scale): round(frechet, 4) for scale, frechet in tried.items()},
    }


def main() -> None:
    chosen, name = choice_of("--network", NETWORKS, "unet")
    parser = options_of(__doc__, f"latent_{name}", chosen, epochs=60, batch=32)
    parser.add_argument("--images", type=int, default=60_000, help="of MNIST's training images")
    parser.add_argument("--samples", type=int, default=2000)
    options = parser.parse_args()
    schedule, (vae, about_vae) = dc.cosine_schedule(1000), pretrained.load("vae")
    (images, labels), (test, _) = data.mnist("train"), data.mnist("test")
    train, test = data.to_signed(images[: options.images]), data.to_signed(test)
    z = latents.to_latents(vae, train, generator=torch.Generator().manual_seed(0))

    def loss(model, z, y, *, generator) -> torch.Tensor:
        return labelled_loss(model, z, y, schedule=schedule, generator=generator, draw=mixed_t)

    model = run_epochs(options, NETWORKS[name](), loss, (z, labels[: options.images]), parts=PARTS)
    numbers = about(
        options,
        predicts="v",
        schedule="cosine_schedule(1000)",
        network=name,
        judge=judged(model, vae, schedule, test, options.samples),
        of_the_vae={key: about_vae.get(key) for key in ("frechet", "frechet_floor", "elbo")},
    )
    checkpoints.save(options.out, model, dtype=torch.float16, **numbers)
    print(f"{options.out}:", numbers)


if __name__ == "__main__":
    main()
