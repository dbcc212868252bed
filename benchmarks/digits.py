"""How good are the shipped digits, with a label and without? `python benchmarks/digits.py`

Two judges (the second is trained apart, when it is missing: some minutes) say of n digits:
recognised, as asked, the spread within a class in units of real test digits, the Frechet distance
in multiples of its floor, the rarest and the commonest class. Beside them two controls: real
training digits, and noise, which no judge should take for digits. Means over seeds; rarest and
commonest are those of the mean shares. "unlabelled": the network that was never told a label; "no
label", "auto": the one that may be told, without one. At the steps t of --interval only, "limited"
is guided by the label, "unlabelled" (at scale 1 it is alone) and "auto" away from a worse network.
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
    shares: torch.Tensor  # of the classes, (10,); last, as main() splits it off


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
    return Row(verdict.confident, *measured(x), verdict.shares)


def kinds(options, measured: Scale) -> dict[str, Callable[[int], torch.Tensor]]:
    """Return, by name, functions from a seed to n images."""

    def noise(seed: int) -> torch.Tensor:
        rng = torch.Generator().manual_seed(seed)
        return torch.randn(options.n, 1, 28, 28, generator=rng).clamp(-1, 1)

    network, schedule, _ = shipped()
    others = "mnist_weak", "mnist_unlabelled"
    weak, unlabelled = (pretrained.load(name)[0].to(dc.default_device()) for name in others)
    taus = dc.even_taus(schedule.T, options.steps)
    make, noisy = SOLVERS[options.solver][0], options.solver in NOISY

    def drawn(v_model: Callable[[torch.Tensor], Model], seed: int) -> torch.Tensor:
        return digits(options, make, taus, noisy, seed=seed, v_model=v_model)[0]

    def told(scale: float) -> Callable[[torch.Tensor], Model]:
        return partial(dc.classifier_free, network, guidance_scale=scale)

    def limited(scale: float, y: torch.Tensor) -> Model:
        return dc.limited(told(scale)(y), told(1.0)(y), *options.interval)

    def auto(better: Model, scale: float, y: torch.Tensor) -> Model:
        guided = dc.autoguided(better, weak, guidance_scale=scale)
        return dc.limited(guided, better, *options.interval)

    free = dc.v_model_from_x0(schedule, unlabelled)
    v_models = {"no label": told(0.0)}
    v_models |= {f"unlabelled {s:g}": partial(auto, free, s) for s in options.unlabelled}
    v_models |= {f"auto {scale:g}": partial(auto, network, scale) for scale in options.auto}
    v_models |= {f"scale {scale:g}": told(scale) for scale in options.scales}
    v_models |= {f"limited {scale:g}": partial(limited, scale) for scale in options.limited}
    made = {name: partial(drawn, v_model) for name, v_model in v_models.items()}
    return {"noise": noise, "real": measured.real} | made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=2000, help="digits in a set, at least 20")
    parser.add_argument("--batch", type=int, default=250, help="digits at once")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--solver", choices=SOLVERS, default="ancestral")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--scales", nargs="*", type=float, default=(1.0, 1.25, 1.5))
    parser.add_argument("--unlabelled", nargs="*", type=float, default=(1.0, 1.2), help="scales")
    parser.add_argument("--auto", nargs="*", type=float, default=(2.1,), help="scales")
    parser.add_argument("--limited", nargs="*", type=float, default=(1.25,), help="scales")
    parser.add_argument("--only", nargs="*", help="names of rows, all if not given")
    parser.add_argument("--interval", nargs=2, type=int, default=(300, 850))
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    measured = {name: Scale(options.n, network) for name, network in judges().items()}
    print(f"n = {options.n}, {options.seeds} seeds, {options.solver}, {options.steps} steps")
    columns = *Row._fields[:-1], "rarest", "commonest"
    print(f"{'':14} {'judge':8}" + "".join(f"{name:>12}" for name in columns))
    made_by = kinds(options, measured["shipped"])
    if unknown := set(options.only or ()) - made_by.keys():
        parser.error(f"--only must name some of {', '.join(made_by)}, got {', '.join(unknown)}")
    for what in options.only or made_by:
        sets = [made_by[what](seed) for seed in range(1, options.seeds + 1)]
        for name, scale in measured.items():
            *numbers, shares = zip(*(row(scale, x) for x in sets), strict=True)
            mean = torch.stack(shares).mean(0)
            means = *map(statistics.mean, numbers), mean.min().item(), mean.max().item()
            print(f"{what:14} {name:8}" + "".join(f"{m:12.3f}" for m in means), flush=True)


if __name__ == "__main__":
    main()
