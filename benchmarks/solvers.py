"""Quality against calls of the network: `python benchmarks/solvers.py`, then with --digits.

1. Toys with the exact denoiser, so that only the solver errs: the energy distance of clouds of
   2 000 samples to fresh real points, as a multiple of that between two real clouds; mean and
   standard deviation over fresh clouds. Grids and start levels are fixed here beforehand, none is
   the best of many. Beside it DDPM in 1 000 steps, which is as good as its schedule.
2. With --digits: the shipped network, judged: 10 and 20 calls of 2M, 100 steps of DDIM, 100
   ancestral ones, Frechet distances as multiples of the floor at the same n; mean and standard
   deviation over --clouds sets of digits.

The rows go to the table that lesson 09 draws, those of the part that ran in the place of older
ones.
"""

import argparse
import csv
import re
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

import diffusion_core as dc
from diffusion_core import data, judge, metrics, pretrained, toys
from diffusion_core.progress import progress_bar
from diffusion_lab.measured import TABLES

TABLE = TABLES / "solvers.csv"
TOYS = ("moons", "eight_gaussians")
HIGHEST, LOWEST = 20.0, 0.05  # of the noise levels; q(x_T) is N(0, I) to 0.002 bits a dimension
CALLS = (5, 10, 20)
CENTRES = 200  # of a curve: its components overlap, and the exact denoiser takes milliseconds
ANCESTRAL = partial(dc.ddim_step, eta=1.0)


class Row(NamedTuple):
    """One line of the table: score in multiples of the floor, std over clouds (0 for one)."""

    data: str
    solver: str
    grid: str
    calls: int
    n: int
    clouds: int
    score: float
    std: float
    confident: float | str = ""


class Counted:
    """An eps_model that counts its calls."""

    def __init__(self, eps_model: dc.predictions.Model) -> None:
        self.eps_model, self.calls = eps_model, 0

    def __call__(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.eps_model(x_t, t)


def even_in_time(highest: float, lowest: float, count: int) -> torch.Tensor:
    """Return the noise levels of evenly spaced times of the VP curve, from highest to lowest."""
    wanted = torch.tensor([highest, lowest], dtype=torch.float64).square().log1p()
    first, last = (-0.1 + (0.01 + 39.8 * wanted).sqrt()) / 19.9  # 0.1 time + 9.95 time^2 = wanted
    time = torch.linspace(first, last, count, dtype=torch.float64)
    return torch.expm1(0.1 * time + 9.95 * time**2).sqrt()


# By name: a fresh step, and how many levels so many calls can visit.
SOLVERS: dict[str, tuple[Callable, Callable[[int], int]]] = {
    "2M": (dc.dpm_solver_2m, lambda calls: calls),
    "Heun": (lambda: dc.heun_step, lambda calls: (calls + 1) // 2),
    "DDIM": (lambda: dc.ddim_step, lambda calls: calls),
    "ancestral": (lambda: ANCESTRAL, lambda calls: calls),
    "predictor-corrector": (lambda: dc.predictor_corrector_step, lambda calls: (calls + 1) // 2),
}
NOISY = {"ancestral", "predictor-corrector", "DDPM"}
GRIDS = {"log SNR": dc.geometric_levels, "Karras": dc.karras_levels, "VP time": even_in_time}


def drawn(make: Callable, schedule, eps_model, options, noisy: bool) -> list[torch.Tensor]:
    """Return clouds of samples, each from its own seed."""
    clouds = []
    for seed in range(options.clouds):
        rng = torch.Generator().manual_seed(1000 + seed)
        x_T = torch.randn(options.n, 2, generator=rng, dtype=torch.float64)
        extra = {"generator": rng} if noisy else {}
        *_, last = dc.sample_chain(make(), schedule, eps_model, x_T, **extra)
        clouds.append(last.x_t)
    return clouds


def toy_rows(options) -> Iterator[Row]:
    """Yield a row for each toy, solver, grid and number of calls, then DDPM's for each toy."""
    for toy in options.toys:
        means, std = toys.toy_centres(toy, CENTRES)
        exact = dc.mixture(means, std**2)
        real = partial(exact.sample, generator=torch.Generator().manual_seed(1))
        floor = metrics.floor(metrics.energy_distance, real, options.n).mean

        def row(name, grid, schedule, make, toy=toy, exact=exact, real=real, floor=floor):
            counted = Counted(dc.mixture_eps_model(schedule, exact))
            clouds = drawn(make, schedule, counted, options, name in NOISY)
            found = [metrics.energy_distance(x, real(len(x))).item() / floor for x in clouds]
            mean, std = statistics.mean(found), statistics.stdev(found)
            calls = counted.calls // options.clouds
            return Row(toy, name, grid, calls, options.n, options.clouds, mean, std)

        for name, (make, levels_of) in SOLVERS.items():
            for grid, levels in GRIDS.items():
                for calls in options.calls:
                    grown = levels(options.highest, options.lowest, levels_of(calls))
                    yield row(name, grid, dc.schedule_from_noise_levels(grown), make)
        if options.ddpm:
            yield row("DDPM", "vp_schedule", dc.vp_schedule(1000), lambda: dc.ddpm_step)


def shipped() -> tuple[torch.nn.Module, dc.NoiseSchedule, float]:
    """Return the shipped network, the schedule it was made for, and its guidance_scale."""
    model, about = pretrained.load("mnist")
    name, T = re.fullmatch(r"(\w+)\((\d+)\)", about["schedule"]).groups()
    return (
        model.to(dc.default_device()),
        getattr(dc, name)(int(T)),
        about["judge"]["guidance_scale"],
    )


def digits(
    options,
    make: Callable,
    taus: list[int],
    noisy: bool,
    *,
    scale: float | None = None,
    seed: int = 1,
    v_model: Callable[[torch.Tensor], dc.predictions.Model] | None = None,
) -> tuple[torch.Tensor, int]:
    """Return options.n digits, each class as often, and the calls of eps_model for each.

    v_model(y) answers for labels y; if not given, it is the shipped network guided by scale.
    """
    model, schedule, usual = shipped()
    scale = usual if scale is None else scale
    v_model = v_model or partial(dc.classifier_free, model, guidance_scale=scale)
    device, rng = next(model.parameters()).device, torch.Generator().manual_seed(seed)
    parts, extra = [], {"clip": (-1, 1)} | ({"generator": rng} if noisy else {})
    labels = (torch.arange(options.n) % 10).split(options.batch)
    with progress_bar(total=options.n, unit="digits") as bar:
        for y in labels:
            counted = Counted(dc.eps_model_from_v(schedule, v_model(y.to(device))))
            x_T = torch.randn(len(y), 1, 28, 28, generator=rng).to(device)
            *_, last = dc.sample_chain(make(), schedule, counted, x_T, taus, **extra)
            parts.append(last.x_t.cpu())
            bar.update(len(y))
    return torch.cat(parts), counted.calls


def digit_rows(options) -> Iterator[Row]:
    """Yield a row for 10 calls of each solver, 20 of 2M, 100 of DDIM, and 100 ancestral ones."""
    _, schedule, _ = shipped()
    network, _ = pretrained.load("judge")
    train, test = (data.to_signed(data.mnist(split)[0]) for split in ("train", "test"))
    rng = torch.Generator().manual_seed(2)
    floor = judge.frechet_floor(network, train, test, options.n, generator=rng)

    def log_snr(steps: int) -> list[int]:
        levels = dc.geometric_levels(options.highest, options.lowest, steps)
        return dc.nearest_taus(schedule, levels)

    todo = [("2M", "log SNR", log_snr(steps)) for steps in (10, 20)]
    todo += [("DDIM", "log SNR", log_snr(10)), ("Heun", "log SNR", log_snr(5))]
    todo += [("DDIM", "even t", dc.even_taus(schedule.T, n)) for n in (10, 100)]
    todo += [("ancestral", "even t", dc.even_taus(schedule.T, 100))]
    for name, grid, taus in todo:
        scores, confident = [], []
        for seed in range(1, options.clouds + 1):
            x, calls = digits(options, SOLVERS[name][0], taus, name in NOISY, seed=seed)
            verdict = judge.judge_images(network, x, test)
            scores.append(verdict.frechet / floor)
            confident.append(verdict.confident)
        mean, std = statistics.mean(scores), statistics.stdev(scores)
        sure = round(statistics.mean(confident), 4)
        yield Row("digits", name, grid, calls, options.n, options.clouds, mean, std, sure)


def written(path: Path, fresh: list[NamedTuple]) -> None:
    """Write rows to the table, in the place of older ones with the same first cell."""
    old = list(csv.reader(path.open(encoding="utf-8")))[1:] if path.exists() else []
    new = [[f"{x:.4g}" if isinstance(x, float) else str(x) for x in row] for row in fresh]
    kept = [row for row in old if row[0] not in {row[0] for row in new}]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([fresh[0]._fields, *kept, *new])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--digits", action="store_true", help="the shipped network, not the toys")
    parser.add_argument("--n", type=int, default=2000, help="samples in a cloud, or digits")
    parser.add_argument("--batch", type=int, default=250, help="digits at once")
    parser.add_argument("--clouds", type=int, help="12 of a toy, 3 of digits, if not given")
    parser.add_argument("--toys", nargs="+", choices=toys.TOYS, default=TOYS)
    parser.add_argument("--calls", nargs="+", type=int, default=CALLS)
    parser.add_argument("--highest", type=float, default=HIGHEST)
    parser.add_argument("--lowest", type=float, default=LOWEST)
    parser.add_argument("--ddpm", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=Path, default=TABLE)
    options = parser.parse_args()
    options.clouds = options.clouds or (3 if options.digits else 12)
    torch.set_grad_enabled(False)
    start, rows = time.monotonic(), []
    for row in digit_rows(options) if options.digits else toy_rows(options):
        rows.append(row)
        print(
            f"{row.data:16} {row.solver:20} {row.grid:12} {row.calls:5} calls  "
            f"{row.score:6.2f} +- {row.std:.2f} x floor  {row.confident}",
            flush=True,
        )
    written(options.out, rows)
    print(f"{options.out}: {len(rows)} rows, {time.monotonic() - start:.0f} s in all")


if __name__ == "__main__":
    main()
