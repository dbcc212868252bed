"""How good are the shipped digits, with a label and without? `python benchmarks/digits.py`

Two judges (the second is trained apart, when it is missing: some minutes) say of n digits:
recognised, as asked, the spread within a class in units of real test digits, the Frechet distance
in multiples of its floor, the rarest and the commonest class. Beside them two controls: real
training digits, and noise, which no judge should take for digits. Means over seeds. The rows
"limited" are guided at the steps t of --interval only, "auto" there away from a worse network.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from guidance import Scale
from solvers import NOISY, SOLVERS, digits, shipped

import diffusion_core as dc
from diffusion_core import checkpoints, judge, pretrained
from diffusion_core.nets import Classifier
from diffusion_core.predictions import Model

sys.path.append(str(Path(__file__).resolve().parent.parent / "scripts"))
import train_judge


class Row(NamedTuple):
    """What one judge says of one kind of digits."""

    recognised: float
    asked: float
    spread: float
    frechet: float
    rarest: float
    commonest: float


def judges() -> dict[str, Classifier]:
    """Return the shipped judge, and the second, which is trained first where it is missing."""
    if not train_judge.SECOND.exists():
        with torch.enable_grad():
            train_judge.main(["--second"])
    second = train_judge.second_judge()
    checkpoints.load(train_judge.SECOND, second)
    return {"shipped": pretrained.load("judge")[0], "second": second.eval()}


def row(measured: Scale, x: torch.Tensor) -> Row:
    """Return what a judge says of digits x (n, 1, 28, 28)."""
    verdict = judge.judge_images(measured.judge, x, measured.test)
    shares = verdict.shares
    return Row(verdict.confident, *measured(x), shares.min().item(), shares.max().item())


def kinds(options, measured: Scale) -> dict[str, Callable[[int], torch.Tensor]]:
    """Return, by name, functions from a seed to n images."""

    def noise(seed: int) -> torch.Tensor:
        rng = torch.Generator().manual_seed(seed)
        return torch.randn(options.n, 1, 28, 28, generator=rng).clamp(-1, 1)

    network, schedule, _ = shipped()
    weak = pretrained.load("mnist_weak")[0].to(dc.default_device())
    taus = dc.even_taus(schedule.T, options.steps)
    make, noisy = SOLVERS[options.solver][0], options.solver in NOISY

    def drawn(scale: float, seed: int) -> torch.Tensor:
        return digits(options, make, taus, noisy, scale=scale, seed=seed)[0]

    def within(guided: Callable[[torch.Tensor], Model], plain, seed: int) -> torch.Tensor:
        def v_model(y: torch.Tensor) -> Model:
            return dc.limited(guided(y), plain(y), *options.interval)

        return digits(options, make, taus, noisy, seed=seed, v_model=v_model)[0]

    def by_label(scale: float, seed: int) -> torch.Tensor:
        guided = partial(dc.classifier_free, network, guidance_scale=scale)
        return within(guided, lambda y: partial(network, y=y), seed)

    def by_weak(scale: float, seed: int) -> torch.Tensor:
        guided = dc.autoguided(network, weak, guidance_scale=scale)
        return within(lambda y: guided, lambda y: network, seed)

    made = {"noise": noise, "real": measured.real, "no label": partial(drawn, 0.0)}
    made |= {f"auto {scale:g}": partial(by_weak, scale) for scale in options.auto}
    made |= {f"scale {scale:g}": partial(drawn, scale) for scale in options.scales}
    return made | {f"limited {scale:g}": partial(by_label, scale) for scale in options.limited}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=2000, help="digits in a set, at least 20")
    parser.add_argument("--batch", type=int, default=250, help="digits at once")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--solver", choices=SOLVERS, default="ancestral")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--scales", nargs="*", type=float, default=(1.0, 1.25, 1.5))
    parser.add_argument("--auto", nargs="*", type=float, default=(2.1,), help="scales, no label")
    parser.add_argument("--limited", nargs="*", type=float, default=(1.25,), help="scales")
    parser.add_argument("--interval", nargs=2, type=int, default=(300, 850))
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    measured = {name: Scale(options.n, network) for name, network in judges().items()}
    print(f"n = {options.n}, {options.seeds} seeds, {options.solver}, {options.steps} steps")
    print(f"{'':12} {'judge':8}" + "".join(f"{name:>12}" for name in Row._fields))
    for what, made in kinds(options, measured["shipped"]).items():
        sets = [made(seed) for seed in range(1, options.seeds + 1)]
        for name, scale in measured.items():
            means = map(statistics.mean, zip(*(row(scale, x) for x in sets), strict=True))
            print(f"{what:12} {name:8}" + "".join(f"{m:12.3f}" for m in means), flush=True)


if __name__ == "__main__":
    main()
