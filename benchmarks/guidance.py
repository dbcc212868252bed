"""Accuracy against variety of guided digits: `python benchmarks/guidance.py`.

The shipped network at seven guidance scales, by 2M in 12 calls: the share of digits that the judge
takes for what was asked, the spread within a class in units of as many real test digits of the same
labels, and the Frechet distance to the test images in multiples of its floor at the same n. Mean
and standard deviation over seeds. The first row is of real training digits, as a ceiling. No scale
is chosen afterwards: the one that is printed by itself at the end is named beforehand, --printed.

The rows go to the table that lesson 10 draws, those of the scales that ran in the place of older
ones. A table holds one n: for another give another --out, or run all scales.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from solvers import digits, shipped, written

import diffusion_core as dc
from diffusion_core import data, judge, pretrained
from diffusion_core.nets import Classifier
from diffusion_lab.measured import TABLES

TABLE = TABLES / "guidance.csv"
SCALES = (0.0, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
PRINTED = 1.5
HIGHEST, LOWEST, CALLS = 20.0, 0.05, 12  # noise levels, even in log SNR, as in solvers.py
ASKED, SPREAD, FRECHET = 0.98, 0.9, 2.0  # what the printed scale should meet, all three at once


class Row(NamedTuple):
    """One line of the table: means over seeds, and their standard deviations (0 for one seed)."""

    scale: str
    n: int
    seeds: int
    asked: float
    asked_std: float
    spread: float
    spread_std: float
    frechet: float
    frechet_std: float


class Scale:
    """Measures sets of n digits, each class as often, beside real ones."""

    def __init__(self, n: int, network: Classifier | None = None) -> None:
        self.judge = network or pretrained.load("judge")[0]
        (train, self.train_labels), (test, labels) = map(data.mnist, ("train", "test"))
        self.train, self.test = data.to_signed(train), data.to_signed(test)
        rng = torch.Generator().manual_seed(2)
        self.floor = judge.frechet_floor(self.judge, self.train, self.test, n, generator=rng)
        self.y = torch.arange(n) % 10
        self.spread = judge.in_class_spread(self.test[picked(labels, self.y, rng)], self.y)

    def __call__(self, x: torch.Tensor) -> tuple[float, float, float]:
        """Return the share as asked, the spread and the Frechet distance of digits x (n, ...)."""
        frechet = judge.judge_images(self.judge, x, self.test).frechet / self.floor
        spread = judge.in_class_spread(x, self.y) / self.spread
        return judge.as_asked(self.judge, x, self.y), spread, frechet

    def real(self, seed: int) -> torch.Tensor:
        """Return n real training digits of the same labels."""
        rng = torch.Generator().manual_seed(100 + seed)
        return self.train[picked(self.train_labels, self.y, rng)]


def picked(labels: torch.Tensor, y: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Return places (n,) of different images whose labels are y."""
    order = torch.randperm(len(labels), generator=rng)
    places = torch.empty_like(y)
    for label in y.unique():
        of_label = order[labels[order] == label]
        places[y == label] = of_label[: int((y == label).sum())]
    return places


def rows(options) -> Iterator[Row]:
    """Yield a row for real digits, then one for each scale."""
    measured = Scale(options.n)
    _, schedule, _ = shipped()
    taus = dc.nearest_taus(schedule, dc.geometric_levels(HIGHEST, LOWEST, options.calls))

    def row(name: str, sets: Iterator[torch.Tensor]) -> Row:
        columns = list(zip(*map(measured, sets), strict=True))
        stds = [statistics.stdev(c) if len(c) > 1 else 0.0 for c in columns]
        means = map(statistics.mean, columns)
        cells = [cell for pair in zip(means, stds, strict=True) for cell in pair]
        return Row(name, options.n, options.seeds, *cells)

    def drawn(scale: float, seed: int) -> torch.Tensor:
        return digits(options, dc.dpm_solver_2m, taus, False, scale=scale, seed=seed)[0]

    seeds = range(1, options.seeds + 1)
    yield row("real", map(measured.real, seeds))
    for scale in options.scales:
        yield row(f"{scale:g}", (drawn(scale, seed) for seed in seeds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=2000, help="digits in a set, at least 20")
    parser.add_argument("--batch", type=int, default=250, help="digits at once")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=CALLS, help="noise levels that are visited")
    parser.add_argument("--scales", nargs="+", type=float, default=SCALES)
    parser.add_argument("--printed", type=float, default=PRINTED)
    parser.add_argument("--out", type=Path, default=TABLE)
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    start, done = time.monotonic(), []
    for row in rows(options):
        done.append(row)
        print(
            f"{row.scale:>5}  as asked {row.asked:.3f} +- {row.asked_std:.3f}  spread "
            f"{row.spread:.3f} +- {row.spread_std:.3f} x real  Frechet {row.frechet:.2f} +- "
            f"{row.frechet_std:.2f} x floor",
            flush=True,
        )
    for row in done:
        if row.scale == f"{options.printed:g}":
            ok = row.asked >= ASKED and row.spread >= SPREAD and row.frechet <= FRECHET
            aims = f"at least {ASKED} as asked, {SPREAD} x real and at most {FRECHET:g} x floor"
            print(f"scale {row.scale}, n = {row.n}: {aims}: {'met' if ok else 'not met'}")
    written(options.out, done)
    print(f"{options.out}: {len(done)} rows, {time.monotonic() - start:.0f} s in all")


if __name__ == "__main__":
    main()
