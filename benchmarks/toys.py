"""How good are the samples on each toy? `python benchmarks/toys.py`

Trains lesson 05's network on each toy as the lesson does, and prints the distance of 2 000 samples
to 2 000 real points as a multiple of the floor: mean and standard deviation over 5 seeds. The exact
denoiser stands beside it. The aim for the network is at most 2.
"""

import time
from functools import partial

import torch

import diffusion_core as dc
from diffusion_core import metrics, toys
from diffusion_core.nets import MLP

SEEDS, N = 5, 2000
DISTANCES = {"sliced W": metrics.sliced_wasserstein, "energy": metrics.energy_distance}


def learn(toy: str, schedule: dc.NoiseSchedule) -> tuple[dc.EMA, float]:
    """Train as in lesson 05; return the averaged network and the seconds."""
    rng = torch.Generator().manual_seed(0)
    model = MLP()
    ema = dc.EMA(model, decay=0.998)
    batches = (toys.toy_2d(toy, 512, generator=rng) for _ in iter(int, 1))
    loss = partial(dc.eps_loss, schedule, generator=rng)
    history = dc.train(model, loss, batches, steps=4000, lr=2e-3, ema=ema)
    return ema, history.seconds


def draw(schedule: dc.NoiseSchedule, eps_model) -> list[torch.Tensor]:
    """Return one cloud of samples for each seed."""
    clouds = []
    for seed in range(SEEDS):
        rng = torch.Generator().manual_seed(100 + seed)
        x_T = torch.randn(N, 2, generator=rng)
        *_, last = dc.sample_chain(dc.ddpm_step, schedule, eps_model, x_T, generator=rng)
        clouds.append(last.x_t)
    return clouds


def main() -> None:
    schedule = dc.vp_schedule(200)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {SEEDS} seeds")
    print("toy              guide     train s   " + "   ".join(f"{d:>16s}" for d in DISTANCES))
    for toy in toys.TOYS:
        centres, std = toys.toy_centres(toy)
        exact = dc.mixture_eps_model(schedule, dc.mixture(centres, std**2))
        ema, seconds = learn(toy, schedule)
        for guide, model in {"learned": ema.model, "exact": exact}.items():
            clouds = draw(schedule, model)
            real = partial(toys.toy_2d, toy, generator=torch.Generator().manual_seed(1))
            scores = [
                metrics.times_floor(distance, clouds, real) for distance in DISTANCES.values()
            ]
            columns = [f"{score.mean:.2f} +- {score.std:.2f}" for score in scores]
            trained = f"{seconds:7.1f}" if guide == "learned" else " " * 7
            print(f"{toy:16s} {guide:8s}  {trained}   " + "   ".join(f"{c:>16s}" for c in columns))


if __name__ == "__main__":
    start = time.monotonic()
    main()
    print(f"{time.monotonic() - start:.0f} s in all")
