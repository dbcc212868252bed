"""How good are digits after some minutes of training, ours and a peer's? One run for both.

Lesson 06's network, the same without `gain`, or with a law of each pixel (grey levels; a spike at
black, one at white and a slab between), and diffusers' UNet2DModel of as many parameters, all
without labels: the same loss, optimizer, batches, average of the weights, drawing and judge. The
learning rate of each is the best of three by the error of v on digits not trained on, after one
minute each. Then each trains from each seed; the clock stands still while it draws. A constant
learning rate, so that every moment is an end. Frechet distance as a multiple of its floor, the
share recognised, images seen: means over seeds, and the standard deviation of the distance.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial

import torch
from mnist import BATCH, SIZES, Diffusers  # adds the scripts' folder to the path
from train_bits import in_parts

import diffusion_core as dc
from diffusion_core import data, judge, nets, pretrained
from diffusion_core.nets.weights import drawn_from

SCHEDULE = dc.cosine_schedule(1000)
RATES = (1e-3, 2e-3, 4e-3)
WARMUP = 100  # steps over which the learning rate rises
SIZE = SIZES["0.3 M, lesson 06"]


class AsV(torch.nn.Module):
    """An x0_model that answers v."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return dc.v_model_from_x0(SCHEDULE, self.net)(x_t, t)


def by_law(network: Callable, seed: int) -> torch.nn.Module:
    """Return a network of lesson 06's size that answers with a law of each pixel, read as v."""
    return AsV(network(SCHEDULE, widths=SIZE[0], patch=2, scale_shift=True, seed=seed))


def peer(seed: int) -> torch.nn.Module:
    """Return diffusers' network, its weights drawn from seed."""
    with drawn_from(seed):
        return Diffusers(SIZE[1])


BUILD = {
    "lesson 06": lambda seed: nets.UNet(widths=SIZE[0], gain=True, seed=seed),
    "lesson 06 without gain": lambda seed: nets.UNet(widths=SIZE[0], seed=seed),
    "spike and slab": partial(by_law, nets.SpikeSlabUNet),
    "grey levels": partial(by_law, nets.LevelUNet),
    "diffusers": peer,
}


class Run:
    """A network in training, to be trained on for some seconds more."""

    def __init__(self, build: Callable, lr: float, x0: torch.Tensor, seed: int) -> None:
        self.model = build(seed).to(dc.default_device())
        self.ema = dc.EMA(self.model, decay=0.997)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=lr, fused=True)
        rng = torch.Generator().manual_seed(seed)
        self.loss = partial(dc.v_loss, SCHEDULE, generator=rng)
        self.batches = data.minibatches(x0, BATCH, generator=rng)
        self.steps = 0

    def rate(self, _: float) -> float:
        """Return the share of the learning rate in the next step: it rises, then stays."""
        self.steps += 1
        return min(1.0, self.steps / WARMUP)

    def go_on(self, seconds: float) -> None:
        """Train for so long."""
        options = {"ema": self.ema, "optimizer": self.optimizer, "rate": self.rate}
        dc.train(self.model, self.loss, self.batches, seconds=seconds, **options)


@torch.no_grad()
def errors_of_v(schedule: dc.NoiseSchedule, model, x0: torch.Tensor) -> torch.Tensor:
    """Return the square error of v of each of x0 (B, ...), t from 1 to T, by noise of one seed."""
    rng = torch.Generator().manual_seed(5)
    t = torch.linspace(1, schedule.T, len(x0)).long()
    eps = torch.randn(x0.shape, generator=rng)
    v = in_parts(model)(dc.q_sample(schedule, x0, t, eps), t)
    return (v - dc.v_target(schedule, x0, eps, t)).square().flatten(1).mean(1)


class Judge:
    """Draws n digits by steps at the same SNRs, whatever the schedule; says how good they are."""

    def __init__(self, schedule: dc.NoiseSchedule, n: int, steps: int) -> None:
        self.n, evenly = n, dc.even_taus(schedule.T, steps)
        self.noise_levels = schedule.snr[evenly[:-1]].rsqrt()
        self.network = pretrained.load("judge")[0]
        train, self.test = (data.to_signed(data.mnist(split)[0]) for split in ("train", "test"))
        rng = torch.Generator().manual_seed(2)
        self.floor = judge.frechet_floor(self.network, train, self.test, n, generator=rng)

    def __call__(self, schedule: dc.NoiseSchedule, eps_model, seed: int) -> tuple[float, float]:
        """Return the Frechet distance in floors and the share recognised."""
        rng = torch.Generator().manual_seed(1000 + seed)
        taus = dc.nearest_taus(schedule, self.noise_levels)
        options = {"eta": 1.0, "clip": (-1, 1), "generator": rng}
        drawn = []
        for x_T in torch.randn(self.n, 1, 28, 28, generator=rng).split(250):
            *_, last = dc.sample_chain(dc.ddim_step, schedule, eps_model, x_T, taus, **options)
            drawn.append(last.x_t)
        verdict = judge.judge_images(self.network, torch.cat(drawn), self.test)
        return verdict.frechet / self.floor, verdict.confident


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, nargs="+", default=(1, 3, 5))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--n", type=int, default=2000, help="digits drawn")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--only", nargs="*", choices=BUILD, default=tuple(BUILD))
    options = parser.parse_args()
    x0 = data.to_signed(data.mnist("train")[0])
    x0, apart = x0[:-2000], x0[-2000:]
    judged = Judge(SCHEDULE, options.n, options.steps)
    for name in options.only:
        build, errors = BUILD[name], {}
        for lr in RATES:
            run = Run(build, lr, x0, seed=0)
            run.go_on(60.0)
            errors[lr] = errors_of_v(SCHEDULE, run.ema.model, apart).mean().item()
        lr = min(errors, key=errors.get)
        millions = sum(p.numel() for p in run.model.parameters()) / 1e6
        tried = ", ".join(f"{rate:g}: {error:.4f}" for rate, error in errors.items())
        print(f"{name}, {millions:.2f} M; error of v by learning rate: {tried}", flush=True)
        runs = [Run(build, lr, x0, seed) for seed in range(1, options.seeds + 1)]
        before = 0.0
        for minutes in options.minutes:
            rows = []
            for seed, run in enumerate(runs, start=1):
                run.go_on(60 * (minutes - before))
                eps_model = dc.eps_model_from_v(SCHEDULE, run.ema.model)
                rows.append((*judged(SCHEDULE, eps_model, seed), run.steps * BATCH))
            before = minutes
            distances, shares, images = zip(*rows, strict=True)
            spread = statistics.stdev(distances) if len(rows) > 1 else 0.0
            print(
                f"  {minutes:g} min: {statistics.mean(images):8,.0f} images, distance "
                f"{statistics.mean(distances):.2f} +- {spread:.2f} floors, recognised "
                f"{statistics.mean(shares):.1%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
