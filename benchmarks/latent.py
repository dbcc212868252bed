"""What diffusion in latents costs, and how good it is: `python benchmarks/latent.py`.

Cost in one run, rounds alternating so that a noisy machine disturbs all: milliseconds of a training
step (a batch of 64) and of a sample with its decoding, for the shipped pixel network, one without
the stem that folds 2 x 2 pixels, the U-Net and the transformer in latents. Quality of each shipped
one: 2M in 12 calls, told the digit, each at the scale that was best on a first set, measured on
others; the share as asked, the spread in a class in units of real digits', the Frechet distance in
multiples of its floor at the same n. Beside them real training digits, and reconstructions of them.

The rows go to the table that lesson 12 draws, those that ran in the place of older ones.
"""

import argparse
import csv
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from guidance import Scale
from solvers import digits, shipped, written

import diffusion_core as dc
from diffusion_core import latents, nets, pretrained
from diffusion_lab.measured import TABLES, measured

sys.path.append(str(Path(__file__).resolve().parent.parent / "scripts"))
import train_latent

TABLE = TABLES / "latent.csv"
SCALES = (1.0, 1.5, 2.0, 2.5, 3.0)
CHEAPER, FRECHET, RECONSTRUCTED = 4.0, 1.5, 1.5  # the aims: times; of the pixels'; of the floor
TAUS = dc.nearest_taus(
    dc.cosine_schedule(1000),
    dc.geometric_levels(train_latent.HIGHEST, train_latent.LOWEST, train_latent.CALLS),
)
LATENT = {"latents, U-Net": "latent_unet", "latents, transformer": "latent_dit"}
PARTS = ("cost", "real", "reconstructions", "pixels", *LATENT)


class Row(NamedTuple):
    """One line of the table: costs of one image, quality over seeds; empty where none is."""

    network: str
    latent: str = ""
    parameters: int | str = ""
    step_ms: float | str = ""
    sample_ms: float | str = ""
    scale: str = ""
    n: int | str = ""
    seeds: int | str = ""
    asked: float | str = ""
    spread: float | str = ""
    frechet: float | str = ""
    frechet_std: float | str = ""


class Costed(NamedTuple):
    """A network with the shape of what it denoises, and what makes images of that."""

    model: torch.nn.Module
    shape: tuple[int, ...]
    decode: Callable[[torch.Tensor], torch.Tensor] = lambda x: x

    @property
    def latent(self) -> str:
        return " x ".join(map(str, self.shape[1:] + self.shape[:1]))


def networks() -> dict[str, Costed]:
    """Return what is compared, by name; the last of the pixel networks is untrained."""
    vae = pretrained.load("vae")[0]
    pixels = shipped()[0].cpu()
    widths = tuple(down.conv.in_channels for down in pixels.downs)
    widths += (pixels.attention.norm.num_channels,)
    unfolded = nets.UNet(widths=widths, patch=1, classes=10, scale_shift=True)
    decode = partial(latents.from_latents, vae)
    found = {
        "pixels": Costed(pixels, (1, 28, 28)),
        "pixels, patch 1": Costed(unfolded, (1, 28, 28)),
    }
    return found | {
        name: Costed(pretrained.load(file)[0], (8, 4, 4), decode) for name, file in LATENT.items()
    }


def step(costed: Costed, optimizer: torch.optim.Optimizer, x0: torch.Tensor) -> None:
    """Take one training step on x0 (B, ...)."""
    y = torch.arange(len(x0)) % 10
    optimizer.zero_grad(set_to_none=True)
    dc.v_loss(dc.cosine_schedule(1000), partial(costed.model, y=y), x0).backward()
    optimizer.step()


@torch.no_grad()
def sample(costed: Costed, x_T: torch.Tensor) -> torch.Tensor:
    """Draw len(x_T) images, with guidance."""
    schedule, y = dc.cosine_schedule(1000), torch.arange(len(x_T)) % 10
    guided = dc.classifier_free(costed.model, y, guidance_scale=1.5)
    eps_model = dc.eps_model_from_v(schedule, guided)
    *_, last = dc.sample_chain(dc.dpm_solver_2m(), schedule, eps_model, x_T, TAUS)
    return costed.decode(last.x_t)


def costs(found: dict[str, Costed], options) -> dict[str, tuple[float, float]]:
    """Return milliseconds an image of a training step and of a sample: medians over rounds."""
    rng = torch.Generator().manual_seed(0)
    seen = {name: ([], []) for name in found}
    state = {
        name: {n: w.clone() for n, w in c.model.state_dict().items()} for name, c in found.items()
    }
    for _ in range(options.rounds + 1):  # the first round warms up
        for name, costed in found.items():
            x = torch.randn(options.cost_batch, *costed.shape, generator=rng)
            costed.model.train().requires_grad_(True)
            optimizer = torch.optim.AdamW(costed.model.parameters(), lr=1e-4)
            times = [time.perf_counter()]
            step(costed, optimizer, x)
            times.append(time.perf_counter())
            costed.model.eval().requires_grad_(False)
            sample(costed, x)
            times.append(time.perf_counter())
            for kept, (start, end) in zip(seen[name], pairwise(times), strict=True):
                kept.append(1000 * (end - start) / options.cost_batch)
    for name, costed in found.items():
        costed.model.load_state_dict(state[name])
    return {n: tuple(statistics.median(kept[1:]) for kept in both) for n, both in seen.items()}


def quality(
    measured: Scale, drawn: Callable[[float, int], torch.Tensor], scales: list[float], seeds: int
) -> dict[str, object]:
    """Return the cells of quality: the scale that was best with seed 0, measured with others."""
    tried = {scale: measured(drawn(scale, 0))[2] for scale in scales} if len(scales) > 1 else {}
    best = min(tried, key=tried.get) if tried else scales[0]
    columns = list(zip(*(measured(drawn(best, seed)) for seed in range(1, seeds + 1)), strict=True))
    asked, spread, frechet = map(statistics.mean, columns)
    std = statistics.stdev(columns[2]) if seeds > 1 else 0.0
    print("   tried:", {scale: round(f, 2) for scale, f in tried.items()}, flush=True)
    return {
        "scale": f"{best:g}",
        "n": len(measured.y),
        "seeds": seeds,
        "asked": asked,
        "spread": spread,
        "frechet": frechet,
        "frechet_std": std,
    }


def drawers(options, measured: Scale) -> dict[str, Callable[[float, int], torch.Tensor]]:
    """Return, by name of a row, functions from scale and seed to n images."""
    vae, schedule = pretrained.load("vae")[0], dc.cosine_schedule(1000)

    def again(scale: float, seed: int) -> torch.Tensor:
        rng = torch.Generator().manual_seed(seed)
        z = latents.to_latents(vae, measured.real(seed), generator=rng)
        return latents.from_latents(vae, z).clamp(-1, 1)

    def pixels(scale: float, seed: int) -> torch.Tensor:
        return digits(options, dc.dpm_solver_2m, TAUS, False, scale=scale, seed=seed)[0]

    found = {
        "real": lambda scale, seed: measured.real(seed),
        "reconstructions": again,
        "pixels": pixels,
    }
    for name, file in LATENT.items():
        model = pretrained.load(file)[0]
        found[name] = partial(train_latent.drawn, model, vae, schedule, options.n)
    return found


def known(n: int) -> dict[str, object]:
    """Return the cells of quality of the pixels at their best scale, from lesson 10's table."""
    rows = [row for row in measured("guidance") if row["scale"] != "real" and row["n"] == n]
    best = min(rows, key=lambda row: row["frechet"])
    counts = {name: int(best[name]) for name in ("n", "seeds")}
    names = ("asked", "spread", "frechet", "frechet_std")
    return {"scale": f"{best['scale']:g}", **counts, **{name: best[name] for name in names}}


def qualities(options) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield names of rows and their cells of quality."""
    asked = [name for name in options.only if name != "cost"]
    if options.known and "pixels" in asked:
        asked.remove("pixels")
        yield "pixels", known(options.n)
    if asked:
        scale_of = Scale(options.n)
        drawn = drawers(options, scale_of)
        for name in asked:
            guided = name not in ("real", "reconstructions")
            scales = options.scales if guided else [0.0]
            cells = quality(scale_of, drawn[name], scales, options.seeds)
            yield name, cells if guided else {**cells, "scale": ""}


def verdicts(rows: dict[str, dict]) -> None:
    """Print which aims are met."""
    pixels, patch_1 = rows["pixels"], rows["pixels, patch 1"]
    again = rows["reconstructions"]["frechet"]
    print(
        f"reconstructions {again:.2f} x floor, at most {RECONSTRUCTED:g}: {again <= RECONSTRUCTED}"
    )
    for name in LATENT:
        row = rows[name]
        for which in ("step_ms", "sample_ms"):
            ratios = [other[which] / row[which] for other in (pixels, patch_1)]
            print(
                f"{name}, {which}: {ratios[0]:.1f} x cheaper than the shipped pixels, at least "
                f"{CHEAPER:g}: {ratios[0] >= CHEAPER}; {ratios[1]:.1f} x than patch 1"
            )
        ratio = row["frechet"] / pixels["frechet"]
        print(
            f"{name}: {ratio:.2f} x the pixels' distance, at most {FRECHET:g}: {ratio <= FRECHET}"
        )


def table(path: Path) -> dict[str, Row]:
    """Return the rows that were measured before, by name."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {row["network"]: Row(**row) for row in csv.DictReader(file)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=2000, help="digits in a set, at least 20")
    parser.add_argument("--batch", type=int, default=250, help="pixel digits at once")
    parser.add_argument("--cost-batch", type=int, default=64, help="images of a timed step")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--scales", nargs="+", type=float, default=SCALES)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--known", action="store_true", help="pixels' quality from guidance.csv")
    parser.add_argument("--out", type=Path, default=TABLE)
    options = parser.parse_args()
    start, rows = time.monotonic(), table(options.out)
    if "cost" in options.only:
        found = networks()
        for name, (step_ms, sample_ms) in costs(found, options).items():
            size = sum(weight.numel() for weight in found[name].model.parameters())
            cells = {"latent": found[name].latent, "parameters": size}
            cells |= {"step_ms": step_ms, "sample_ms": sample_ms}
            rows[name] = rows.get(name, Row(name))._replace(**cells)
            print(f"{name:22} step {step_ms:.2f} ms  sample {sample_ms:.2f} ms", flush=True)
    for name, cells in qualities(options):
        rows[name] = rows.get(name, Row(name))._replace(**cells)
        print(f"{name:22} scale {cells['scale']:4} asked {cells['asked']:.3f}  spread "
              f"{cells['spread']:.3f}  Frechet {cells['frechet']:.2f} +- "
              f"{cells['frechet_std']:.2f} x floor", flush=True)  # fmt: skip
    written(options.out, list(rows.values()))
    if all(name in rows for name in PARTS[1:]):
        verdicts({row["network"]: row for row in measured("latent")})
    print(f"{options.out}: {len(rows)} rows, {time.monotonic() - start:.0f} s in all")


if __name__ == "__main__":
    main()
