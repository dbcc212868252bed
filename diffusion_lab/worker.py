"""The program of lesson 15: torchrun starts it several times at once, which no notebook can be.

    torchrun --standalone --nproc-per-node 2 worker.py FOLDER [unlucky]

It trains a small network in float64. After each epoch the state is written into the folder; a run
that finds one there goes on from it. unlucky: rank 1 dies in the third epoch, the first time.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

import diffusion_core as dc
from diffusion_core import checkpoints, data, processes
from diffusion_core.nets import MLP
from diffusion_core.toys import toy_2d

SCHEDULE = dc.vp_schedule(100)
ROWS, BATCH, EPOCHS = 2560, 64, 5  # 40 steps an epoch, 200 in all


def slices(x0: Tensor, seed: int) -> Iterator[list[Tensor]]:
    """Yield this process's rows of batches (x0, t, eps); every rank draws all of them alike."""
    rng = torch.Generator().manual_seed(seed)
    for rows in data.minibatches(torch.arange(len(x0)), BATCH, generator=rng):
        t = dc.draw_t(SCHEDULE, x0[rows], rng)
        eps = torch.randn(x0[rows].shape, generator=rng, dtype=x0.dtype)
        yield processes.share((x0[rows], t, eps))


def told_loss(model: nn.Module, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """Return the mean square error of a guess of eps, for t and eps that were drawn outside."""
    return nn.functional.mse_loss(model(dc.q_sample(SCHEDULE, x0, t, eps), t), eps)


def train_here(folder: Path, unlucky: bool = False) -> list[float]:
    """Train, or go on, as one of the processes, or alone; return all losses."""
    me, state = processes.place(), folder / "state.safetensors"
    x0 = toy_2d("moons", ROWS, generator=torch.Generator().manual_seed(0)).double()
    model = MLP(width=32).double()
    ema, optimizer = dc.EMA(model), torch.optim.AdamW(model.parameters(), lr=2e-3)
    run = model, ema, optimizer
    so_far = checkpoints.load_run(state, *run) if state.exists() else {"epoch": 0, "losses": []}
    for epoch in range(so_far["epoch"], EPOCHS):
        dies = unlucky and epoch == 2 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        log = Diary(folder / f"diary_{me.rank}.txt", epoch, dies and me.rank == 1)
        options = {"steps": ROWS // BATCH, "ema": ema, "optimizer": optimizer, "on_progress": log}
        history = dc.train(model, told_loss, slices(x0, seed=epoch), **options)
        so_far = {"epoch": epoch + 1, "losses": so_far["losses"] + history.losses}
        if me.rank == 0:
            checkpoints.save_run(state, *run, **so_far)
        processes.gathered(0.0)  # nobody goes on before the file is whole
    return so_far["losses"]


class Diary:
    """Called after each step: writes how many epochs are done; dies in the middle of one."""

    def __init__(self, path: Path, epoch: int, dies: bool) -> None:
        self.path, self.epoch, self.dies = path, epoch, dies

    def __call__(self, fraction: float) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{self.epoch + fraction}\n")
        if self.dies and fraction > 0.5:
            os._exit(1)  # at once, with nothing written or tidied up


if __name__ == "__main__":
    with processes.joined():
        train_here(Path(sys.argv[1]), "unlucky" in sys.argv[2:])
