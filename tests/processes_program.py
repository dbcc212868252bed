"""What test_processes.py has torchrun start in two processes, of which one dies once."""

import argparse
import json
import sys
import weakref
from pathlib import Path

import epochs
import torch
from torch import distributed, nn

from diffusion_core import data, processes
from diffusion_lab import worker


def noisy_loss(model: nn.Module, x0: torch.Tensor, y: torch.Tensor, *, generator) -> torch.Tensor:
    """A loss with noise of its own, and a method of the model other than forward."""
    eps = torch.randn(x0.shape, generator=generator)
    return (model.mean(x0 + eps) - y[:, None]).square().mean()


class Line(nn.Module):
    """What epochs.py trains here: two weights, and a name for what it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([[0.5, -0.25]]))
            self.layer.bias.fill_(0.125)

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def options(folder: Path) -> argparse.Namespace:
    """Two epochs of five batches of 8."""
    return argparse.Namespace(
        epochs=2,
        batch=8,
        lr=0.01,
        ema=0.9,
        dtype="float32",  # or a clock would choose
        state=folder / "epochs.safetensors",
    )


def images() -> tuple[torch.Tensor, torch.Tensor]:
    """Forty points, each with its number."""
    x0 = torch.randn(40, 2, generator=torch.Generator().manual_seed(5))
    return x0, torch.arange(40.0)


def main(folder: Path) -> None:
    me = processes.place()
    for name, unlucky in (("whole", False), ("broken", True)):
        (folder / name).mkdir(exist_ok=True)
        worker.train_here(folder / name, unlucky)
    found = {"world": me.world}
    for name, rng in (("own", processes.own_generator(3)), ("alike", torch.Generator())):
        found[name] = processes.gathered(torch.rand(1, generator=rng, dtype=torch.float64).item())
    rows = next(data.minibatches(torch.arange(11), 11, generator=torch.Generator().manual_seed(0)))
    mine = processes.share(rows).tolist()
    (folder / f"rows_{me.rank}.json").write_text(json.dumps(mine))
    if me.rank == 0:
        (folder / "found.json").write_text(json.dumps(found))
    epochs.run_epochs(options(folder), Line(), noisy_loss, images())
    (folder / f"left_{me.rank}").touch()


if __name__ == "__main__":
    with processes.joined():
        group = weakref.ref(distributed.group.WORLD)
        main(Path(sys.argv[1]))
    if group() is None:
        (Path(sys.argv[1]) / "let_go").touch()
