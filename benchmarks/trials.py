"""What makes digits better, one change at a time: `python benchmarks/trials.py`.

Each network is lesson 06's but for what its name says, without labels, trained for the same number
of images, from the same seed, on the same batches. Then the error of v on digits that nobody
trained on, in all and by quarters of t, and the judge's numbers of digits drawn. At the end the
two networks that come with the course, drawn in the same way.
"""

import argparse
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from time_to_quality import Judge, errors_of_v

import diffusion_core as dc
from diffusion_core import data, nets, pretrained

SCHEDULE = dc.cosine_schedule(1000)


class ByLevels(torch.nn.Module):
    """A LevelUNet that answers v: its guess of x_0 and what this leaves for eps, joined."""

    def __init__(self, **options) -> None:
        super().__init__()
        self.net = nets.LevelUNet(SCHEDULE, **options)

    def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        x0_hat = self.net(x_t, t)
        return dc.v_target(SCHEDULE, x0_hat, dc.eps_from_x0(SCHEDULE, x_t, x0_hat, t), t)


def middle_t(mean: float, std: float, schedule: dc.NoiseSchedule, x0, rng) -> torch.Tensor:
    """Draw t for each of x0, as `draw_t` does, but so that its log SNR is nearly N(mean, std^2)."""
    log_snr = mean + std * torch.randn(len(x0), generator=rng, dtype=torch.float64)
    falling = -schedule.snr[1:].log()
    return 1 + torch.searchsorted(falling, -log_snr).clamp(max=schedule.T - 1)


def loss(model, x0: torch.Tensor, *, draw: Callable, generator: torch.Generator) -> torch.Tensor:
    """Return v_loss at times of draw(schedule, x0, generator)."""
    t, eps = draw(SCHEDULE, x0, generator), torch.randn(x0.shape, generator=generator)
    v_hat = model(dc.q_sample(SCHEDULE, x0, t, eps), t)
    return (v_hat - dc.v_target(SCHEDULE, x0, eps, t)).square().mean()


class Trial(NamedTuple):
    """What is tried: a network, how t is drawn, and how many digits are in a batch."""

    network: Callable[[], torch.nn.Module]
    draw: Callable = dc.draw_t
    batch: int = 32


def unet(**changes) -> torch.nn.Module:
    return nets.UNet(**{"scale_shift": True} | changes)


TRIALS = {
    "as lesson 06": Trial(nets.UNet),
    "scale_shift": Trial(unet),
    "batches of 16": Trial(unet, batch=16),
    "no folding": Trial(partial(unet, widths=(16, 32, 64), patch=1)),
    "log SNR N(0, 2^2)": Trial(unet, partial(middle_t, 0, 2)),
    "log SNR N(-1, 1.5^2)": Trial(unet, partial(middle_t, -1, 1.5)),
    "grey levels": Trial(partial(ByLevels, widths=(32, 64), patch=2, scale_shift=True)),
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
    shipped, levels = pretrained.load("mnist")[0], pretrained.load("bits")[0]
    for name, schedule, eps_model in (
        ("shipped, no label", SCHEDULE, dc.eps_model_from_v(SCHEDULE, shipped)),
        ("bits", levels.schedule, dc.eps_model_from_x0(levels.schedule, levels)),
    ):
        distance, share = judged(schedule, eps_model, seed=1)
        print(f"{name:21} recognised {share:.1%}, distance {distance:.2f} floors", flush=True)


if __name__ == "__main__":
    main()
