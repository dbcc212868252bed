"""Training over epochs that can be interrupted: what the training scripts share.

After each epoch the whole state is written to a file. An interrupted run goes on from there, on a
CPU to the bit as if it had not been interrupted: an epoch's random numbers depend on its number
alone.
"""

import argparse
import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

import diffusion_core as dc
from diffusion_core import checkpoints, data, pretrained

ROOT = Path(__file__).resolve().parent.parent


def options_of(description: str, name: str, **defaults) -> argparse.ArgumentParser:
    """Return the options of a training run whose network is called `name`."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=defaults["epochs"])
    parser.add_argument("--batch", type=int, default=defaults["batch"])
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--ema", type=float, default=0.999)
    state = ROOT / "build" / f"train-{name}.safetensors"
    parser.add_argument("--state", type=Path, default=state)
    parser.add_argument("--out", type=Path, default=pretrained.ASSETS / f"{name}.safetensors")
    return parser


def run_epochs(
    options: argparse.Namespace, model: torch.nn.Module, loss: Callable, images: tuple
) -> torch.nn.Module:
    """Run, or go on with, all epochs over images (x0, y); return the averaged network.

    loss(model, x0, y, generator=rng) is the loss of a batch.
    """
    x0, y = images
    device = dc.default_device()
    model = model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, fused=True)
    ema = dc.EMA(model, decay=options.ema)
    options.state.parent.mkdir(parents=True, exist_ok=True)
    if options.state.exists():
        so_far = checkpoints.load_run(options.state, model, ema, optimizer)
        print(f"going on after epoch {so_far['epochs']}")
    else:
        trial = partial(loss, generator=torch.Generator().manual_seed(0))
        batch = [part[: options.batch].to(device) for part in images]
        so_far = {"epochs": 0, "bf16": dc.bf16_is_faster(model, trial, batch)}
    steps, rows_of_x0 = len(x0) // options.batch, torch.arange(len(x0))
    for epoch in range(so_far["epochs"], options.epochs):
        rng = torch.Generator().manual_seed(epoch)
        history = dc.train(
            model,
            partial(loss, generator=rng),
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
        mean, speed = sum(history.losses) / steps, steps * options.batch / history.seconds
        print(f"epoch {epoch + 1}: loss {mean:.4f}, {speed:.0f} images/s", flush=True)
        so_far["epochs"] = epoch + 1
        checkpoints.save_run(options.state, model, ema, optimizer, **so_far)
    return ema.model


def about(options: argparse.Namespace, **more) -> dict:
    """Return what is written beside the weights: command, machine, versions, and more."""
    return {
        "command": shlex.join(["python", *sys.argv]),
        "device": str(dc.default_device()),
        "versions": {"torch": torch.__version__, "python": sys.version.split()[0]},
        "epochs": options.epochs,
        **more,
    }
