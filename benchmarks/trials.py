"""What makes digits better, one change at a time: `python benchmarks/trials.py`.

Each network is lesson 06's without `gain`, but for what its name says, without labels, trained for
the same number of images, from the same seed, on the same batches. Then the error of v on digits
that nobody trained on, in all and by quarters of t, and the judge's numbers of digits drawn. At the
end the two networks that come with the course, drawn in the same way.
"""

import argparse
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from time_to_quality import BUILD, SCHEDULE, Judge, errors_of_v
from train_mnist import middle_t

import diffusion_core as dc
from diffusion_core import data, nets, pretrained


def loss(model, x0: torch.Tensor, *, draw: Callable, generator: torch.Generator) -> torch.Tensor:
    """Return v_loss at times of draw(schedule, x0, generator)."""
    t = draw(SCHEDULE, x0, generator)
    return dc.v_loss(SCHEDULE, model, x0, t=t, generator=generator)


class Trial(NamedTuple):
    """What is tried: a network, how t is drawn, and how many digits are in a batch."""

    network: Callable[[], torch.nn.Module]
    draw: Callable = dc.draw_t
    batch: int = 32


def unet(**changes) -> torch.nn.Module:
    return nets.UNet(**{"scale_shift": True} | changes)


TRIALS = {
    "nothing": Trial(nets.UNet),
    "gain": Trial(partial(nets.UNet, gain=True)),
    "scale_shift": Trial(unet),
    "batches of 16": Trial(unet, batch=16),
    "no folding": Trial(partial(unet, widths=(16, 32, 64), patch=1)),
    "log SNR N(0, 2^2)": Trial(unet, partial(middle_t, mean=0, std=2)),
    "log SNR N(-1, 1.5^2)": Trial(unet, partial(middle_t, mean=-1, std=1.5)),
    "grey levels": Trial(partial(BUILD["grey levels"], seed=0)),
    "spike and slab": Trial(partial(BUILD["spike and slab"], seed=0)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=80_000)
    parser.add_argument("--n", type=int, default=1000, help="digits drawn")
    parser.add_argument("--only", nargs="*", choices=TRIALS, default=tuple(TRIALS))
    options = parser.parse_args()
    x0 = data.to_signed(data.mnist("train")[0])
    x0, apart = x0[:-2000], x0[-2000:]
    judged = Judge(SCHEDULE, options.n, steps=50)
    for name in options.only:
        trial, rng = TRIALS[name], torch.Generator().manual_seed(0)
        model = trial.network()
        ema = dc.EMA(model, decay=0.997 ** (trial.batch / 32))
        batches = data.minibatches(x0, trial.batch, generator=rng)
        wanted = partial(loss, draw=trial.draw, generator=rng)
        steps = math.ceil(options.images / trial.batch)
        history = dc.train(model, wanted, batches, steps=steps, lr=4e-3, ema=ema)
        errors = errors_of_v(SCHEDULE, ema.model, apart)
        distance, share = judged(SCHEDULE, dc.eps_model_from_v(SCHEDULE, ema.model), seed=1)
        print(
            f"{name:21} {steps * trial.batch / history.seconds:4.0f} images/s, error of v "
            f"{errors.mean():.4f} ({', '.join(f'{e.mean():.4f}' for e in errors.chunk(4))}), "
            f"recognised {share:.1%}, distance {distance:.2f} floors",
            flush=True,
        )
    shipped, bits = pretrained.load("mnist")[0], pretrained.load("bits")[0]
    for name, schedule, eps_model in (
        ("shipped, no label", SCHEDULE, dc.eps_model_from_v(SCHEDULE, shipped)),
        ("bits", bits.schedule, dc.eps_model_from_x0(bits.schedule, bits)),
    ):
        distance, share = judged(schedule, eps_model, seed=1)
        print(f"{name:21} recognised {share:.1%}, distance {distance:.2f} floors", flush=True)


if __name__ == "__main__":
    main()
