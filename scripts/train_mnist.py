"""Train the digits that come with the course, on all of MNIST: `make train-mnist`.

After each epoch the whole state is written to build/train-mnist.safetensors. An interrupted run
goes on from there, on a CPU to the bit as if it had not been interrupted, for an epoch's random
numbers depend on its number alone. At the end the averaged weights go into the package as float16,
with what made them and the judge's numbers. The network is told the digit, except one time in ten:
so it draws with a label and without.
"""

import argparse
import shlex
import sys
from functools import partial
from pathlib import Path

import torch

import diffusion_core as dc
from diffusion_core import checkpoints, data, judge, pretrained

ROOT = Path(__file__).resolve().parent.parent


def fresh(device: torch.device, options) -> tuple:
    """Return network, average and optimizer at the start of a run."""
    model = pretrained.mnist_unet().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, fused=True)
    return model, dc.EMA(model, decay=options.ema), optimizer


def labelled_loss(model, x0, y, *, schedule: dc.NoiseSchedule, generator) -> torch.Tensor:
    """Return v_loss of a network that is told the labels y (B,) of nine images in ten."""
    y = dc.drop_labels(y, model.null_label, generator=generator)
    return dc.v_loss(schedule, partial(model, y=y), x0, generator=generator)


def train(options, images: tuple, schedule: dc.NoiseSchedule) -> torch.nn.Module:
    """Run, or go on with, all epochs over images (x0, y); return the averaged network."""
    x0, y = images
    device = dc.default_device()
    model, ema, optimizer = fresh(device, options)
    if options.state.exists():
        so_far = checkpoints.load_run(options.state, model, ema, optimizer)
        print(f"going on after epoch {so_far['epochs']}")
    else:
        trial = partial(dc.v_loss, schedule, generator=torch.Generator().manual_seed(0))
        half = dc.bf16_is_faster(model, trial, x0[: options.batch].to(device))
        so_far = {"epochs": 0, "bf16": half}
    steps, rows_of_x0 = len(x0) // options.batch, torch.arange(len(x0))
    for epoch in range(so_far["epochs"], options.epochs):
        rng = torch.Generator().manual_seed(epoch)
        history = dc.train(
            model,
            partial(labelled_loss, schedule=schedule, generator=rng),
            (
                (x0[rows], y[rows])
                for rows in data.minibatches(rows_of_x0, options.batch, generator=rng)
            ),
            steps=steps,
            ema=ema,
            autocast=torch.bfloat16 if so_far["bf16"] else None,
            optimizer=optimizer,
            rate=lambda done, epoch=epoch: dc.warmup_cosine((epoch + done) / options.epochs),
        )
        if history.interrupted:
            sys.exit(f"Interrupted in epoch {epoch + 1}: run the same command to go on.")
        loss, speed = sum(history.losses) / steps, steps * options.batch / history.seconds
        print(f"epoch {epoch + 1}: loss {loss:.4f}, {speed:.0f} images/s", flush=True)
        so_far["epochs"] = epoch + 1
        checkpoints.save_run(options.state, model, ema, optimizer, **so_far)
    return ema.model


def judged(model, schedule: dc.NoiseSchedule, n: int, guidance_scale: float) -> dict:
    """Draw n digits, each class as often, and return the judge's numbers."""
    network, _ = pretrained.load("judge")
    rng = torch.Generator().manual_seed(1)
    device = next(model.parameters()).device
    y = torch.arange(n, device=device) % 10
    guided = dc.classifier_free(model, y, guidance_scale=guidance_scale)
    x_T = torch.randn(n, 1, 28, 28, generator=rng).to(device)
    options = {"eta": 1.0, "clip": (-1, 1), "generator": rng}
    eps_model, taus = dc.eps_model_from_v(schedule, guided), dc.even_taus(1000, 50)
    *_, last = dc.sample_chain(dc.ddim_step, schedule, eps_model, x_T, taus, **options)
    train, test = (data.to_signed(data.mnist(split)[0]) for split in ("train", "test"))
    verdict = judge.judge_images(network, last.x_t.cpu(), test)
    floor = judge.frechet_floor(network, train, test, n, generator=rng)
    return {
        "samples": n,
        "guidance_scale": guidance_scale,
        "confident": round(verdict.confident, 4),
        "shares": [round(share, 4) for share in verdict.shares.tolist()],
        "frechet": round(verdict.frechet, 4),
        "frechet_floor": round(floor, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--ema", type=float, default=0.999)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--state", type=Path, default=ROOT / "build" / "train-mnist.safetensors")
    parser.add_argument("--out", type=Path, default=pretrained.ASSETS / "mnist.safetensors")
    options = parser.parse_args()
    options.state.parent.mkdir(parents=True, exist_ok=True)
    schedule = dc.cosine_schedule(1000)
    images, labels = data.mnist("train")
    model = train(options, (data.to_signed(images), labels), schedule)
    about = {
        "command": shlex.join(["python", *sys.argv]),
        "device": str(dc.default_device()),
        "versions": {"torch": torch.__version__, "python": sys.version.split()[0]},
        "predicts": "v",
        "schedule": "cosine_schedule(1000)",
        "epochs": options.epochs,
        "judge": judged(model, schedule, options.samples, guidance_scale=1.5),
        "judge_without_label": judged(model, schedule, options.samples, guidance_scale=0.0),
    }
    checkpoints.save(options.out, model, dtype=torch.float16, **about)
    print(f"{options.out}:", about)


if __name__ == "__main__":
    main()
