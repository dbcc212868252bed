"""Training over epochs that can be interrupted: what the training scripts share.

After each epoch the whole state is written to a file. An interrupted run goes on from there, on a
CPU to the bit as if it had not been interrupted: an epoch's random numbers depend on its number
alone, and on the rank where several processes train (train_parallel.py). Then each takes its rows
of the same batches, has noise of its own, and the first alone prints, asks and writes.
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

import diffusion_core as dc
from diffusion_core import checkpoints, data, pretrained, processes

ROOT = Path(__file__).resolve().parent.parent
DTYPES = ("faster", "float32", "bfloat16")  # a trial of two seconds says which is faster


class Watch(NamedTuple):
    """What is asked of the averaged network after each epoch, and the answers so far."""

    ask: Callable[[torch.nn.Module], object]  # answers what JSON can hold, by its own generator
    answers: list


def choice_of(option: str, choices, default: str) -> tuple[argparse.ArgumentParser, str]:
    """Return what was chosen by one option, on which others rest, after a parent for the rest."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(option, choices=choices, default=default)
    return parser, getattr(parser.parse_known_args()[0], option.removeprefix("--"))


def options_of(
    description: str, name: str, *parents: argparse.ArgumentParser, **defaults
) -> argparse.ArgumentParser:
    """Return the options of a training run whose network is called `name`."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0], parents=parents)
    parser.add_argument("--epochs", type=int, default=defaults["epochs"])
    parser.add_argument("--batch", type=int, default=defaults["batch"])
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--ema", type=float, default=defaults.get("ema", 0.999))
    parser.add_argument("--dtype", choices=DTYPES, default="faster", help="of the products")
    state = ROOT / "build" / f"train-{name}.safetensors"
    parser.add_argument("--state", type=Path, default=state)
    parser.add_argument("--out", type=Path, default=pretrained.ASSETS / f"{name}.safetensors")
    return parser


def run_epochs(
    options: argparse.Namespace,
    model: torch.nn.Module,
    loss: Callable,
    images: tuple,
    watch: Watch | None = None,
    *,
    parts: int = 1,
) -> torch.nn.Module:
    """Run, or go on with, all epochs over images (x0, y); return the averaged network.

    loss(model, x0, y, generator=rng) is the loss of a batch. The answers of watch are stored with
    the state, and filled in again from there. An epoch sees one in `parts` of the images, drawn
    anew: so the state is written more often.
    """
    me, device = processes.place(), dc.default_device()
    model = model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, fused=True)
    ema = dc.EMA(model, decay=options.ema)
    so_far = _begun(options, (model, ema, optimizer), loss, images)
    if watch is not None:
        watch.answers[:] = so_far.get("answers", [])
    steps = len(images[0]) // (options.batch * parts)
    for epoch in range(so_far["epochs"], options.epochs):
        order = torch.Generator().manual_seed(epoch)
        noise = processes.own_generator(epoch) if me.rank else order
        history = dc.train(
            model,
            partial(loss, generator=noise),
            _batches(images, options.batch, order),
            steps=steps,
            ema=ema,
            autocast=torch.bfloat16 if so_far["bf16"] else None,
            optimizer=optimizer,
            rate=lambda done, epoch=epoch: dc.warmup_cosine((epoch + done) / options.epochs),
        )
        if history.interrupted:
            sys.exit(f"Interrupted in epoch {epoch + 1}: run the same command to go on.")
        so_far["epochs"] = epoch + 1
        if me.rank == 0:
            mean, speed = sum(history.losses) / steps, steps * options.batch / history.seconds
            print(f"epoch {epoch + 1}: loss {mean:.4f}, {speed:.0f} images/s", flush=True)
            _asked(watch, ema.model, so_far)
            checkpoints.save_run(options.state, model, ema, optimizer, **so_far)
        processes.gathered(0.0)  # nobody goes on before the file is whole
    if me.rank:
        sys.exit()  # the first goes on alone
    return ema.model


def _begun(options: argparse.Namespace, run: tuple, loss: Callable, images: tuple) -> dict:
    """Return what is known so far: that of the stored state, which is loaded, or of a new run."""
    model, ema, optimizer = run
    options.state.parent.mkdir(parents=True, exist_ok=True)
    if options.state.exists():
        so_far = checkpoints.load_run(options.state, model, ema, optimizer)
        print(f"going on after epoch {so_far['epochs']}")
        return so_far
    bf16 = options.dtype == "bfloat16"
    if options.dtype == "faster":
        trial = partial(loss, generator=torch.Generator().manual_seed(0))
        device = next(model.parameters()).device
        batch = [part[: options.batch].to(device) for part in images]
        bf16 = bool(processes.gathered(dc.bf16_is_faster(model, trial, batch))[0])
    return {"epochs": 0, "bf16": bf16}


def _batches(images: tuple, size: int, order: torch.Generator) -> Iterator[list[torch.Tensor]]:
    """Yield this process's rows of shuffled batches (x0, y), size rows on all processes."""
    for rows in data.minibatches(torch.arange(len(images[0])), size, generator=order):
        mine = processes.share(rows)
        yield [part[mine] for part in images]


def _asked(watch: Watch | None, model: torch.nn.Module, so_far: dict) -> None:
    """Ask the averaged network, print its answer, and keep it with what is known so far."""
    if watch is not None:
        watch.answers.append(watch.ask(model))
        so_far["answers"] = watch.answers
        print(f"epoch {so_far['epochs']}: {watch.answers[-1]}", flush=True)


def about(options: argparse.Namespace, **more) -> dict:
    """Return what is written beside the weights: command, machine, versions, and more."""
    return {
        "command": shlex.join(["python", *sys.argv]),
        "device": str(dc.default_device()),
        "processes": processes.place().world,
        "versions": {"torch": torch.__version__, "python": sys.version.split()[0]},
        "epochs": options.epochs,
        **more,
    }
