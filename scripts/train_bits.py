"""Train a network for the fewest bits per pixel, on all of MNIST: `make train-bits`.

See epochs.py for how it goes on after an interrupt. At the end the averaged weights are written
into the package as float16, with what made them and the bits that all test images cost; the hash
in pretrained.py must then be renewed.
"""

import math
from functools import partial

import torch
from epochs import about, options_of, run_epochs

import diffusion_core as dc
from diffusion_core import checkpoints, data, nets, pretrained

AT_ONCE = 500  # images in one call of the network


def loss(model, x0, y, *, schedule: dc.NoiseSchedule, generator) -> torch.Tensor:
    """Return the bound in nats per pixel; the labels y are not told."""
    return dc.bound_loss(schedule, model.posterior, x0, generator=generator)


def in_parts(model):
    """Return a function of batches that calls model with some examples at a time."""
    return lambda *batch: torch.cat(
        [model(*part) for part in zip(*(x.split(AT_ONCE) for x in batch), strict=True)]
    )


def bits(model: nets.LevelUNet, x0: torch.Tensor, *, draws: int = 8, few: int = 16) -> dict:
    """Return the estimated bound on images in bits per pixel, and its standard error.

    t is drawn by the importance that the terms of the first `few` images show.
    """
    schedule, last = model.schedule, in_parts(lambda x0, x_1: model.decoder(x0, None, x_1))
    eps_model = dc.eps_model_from_x0(schedule, in_parts(model))
    options = {"decoder": lambda x0, p, x_1: last(x0, x_1)}
    options["generator"] = torch.Generator().manual_seed(0)
    probs = dc.importance(dc.elbo_terms(schedule, eps_model, x0[:few], **options))
    estimate = dc.elbo_estimate(schedule, eps_model, x0, probs=probs, draws=draws, **options)
    pixels = x0[0].numel()
    return {
        "bits_per_pixel": round(dc.bits_per_dim(estimate.mean, pixels), 4),
        "std_error": round(estimate.std_error / (pixels * math.log(2)), 4),
        "test_images": len(x0),
        "draws": draws,
    }


def main() -> None:
    parser = options_of(__doc__, "bits", epochs=12, batch=16)
    parser.add_argument("--test-images", type=int, default=10_000)
    options = parser.parse_args()
    images, labels = data.mnist("train")
    model = pretrained.bits_unet()
    bound = partial(loss, schedule=model.schedule)
    model = run_epochs(options, model, bound, (data.to_signed(images), labels))
    test = data.to_signed(data.mnist("test")[0])[: options.test_images]
    numbers = about(
        options,
        predicts="grey levels",
        schedule=f"log_snr_schedule({model.schedule.T})",
        bits=bits(model, test.to(dc.default_device())),
    )
    checkpoints.save(options.out, model, dtype=torch.float16, **numbers)
    print(f"{options.out}:", numbers)


if __name__ == "__main__":
    main()
