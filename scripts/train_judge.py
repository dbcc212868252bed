"""Train the judge of digits on MNIST and write it into the package: `make train-judge`.

With --second: another judge, of other widths and seed, into build/, for the benchmarks: what only
one judge likes may be that judge's whim.
"""

import argparse
import shlex
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

import diffusion_core as dc
from diffusion_core import checkpoints, data, nets, pretrained
from diffusion_core.progress import progress_bar

SECOND = Path(__file__).resolve().parent.parent / "build" / "second_judge.safetensors"
WIDTHS = (24, 48, 96)  # of the second judge: three other numbers


def second_judge() -> nets.Classifier:
    """Return the untrained network behind the second judge."""
    return nets.Classifier(WIDTHS, seed=1)


def shifted(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Move each batch of images by up to two pixels, so that the place does not matter."""
    down, right = torch.randint(-2, 3, (2,), generator=generator).tolist()
    return torch.roll(x, (down, right), (2, 3))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--second", action="store_true", help="another judge, for the benchmarks")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    out = options.out or (SECOND if options.second else pretrained.ASSETS / "judge.safetensors")
    device, rng = dc.default_device(), torch.Generator().manual_seed(int(options.second))
    (images, labels), (test_images, test_labels) = data.mnist("train"), data.mnist("test")
    x, test_x = data.to_signed(images), data.to_signed(test_images).to(device)
    model = (second_judge() if options.second else nets.Classifier()).to(device)

    def loss(model, rows):
        return F.cross_entropy(model(shifted(x[rows], rng).to(device)), labels[rows].to(device))

    steps = options.epochs * len(x) // 128
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    model.train()
    with progress_bar(total=steps) as bar:
        for step in range(steps):
            if step % (len(x) // 128) == 0:
                order = torch.randperm(len(x), generator=rng)
            optimizer.param_groups[0]["lr"] = 2e-3 * dc.warmup_cosine(step / steps)
            start = 128 * (step % (len(x) // 128))
            optimizer.zero_grad(set_to_none=True)
            value = loss(model, order[start : start + 128])
            value.backward()
            optimizer.step()
            bar.update()
    with torch.no_grad():
        right = (model.eval()(test_x).argmax(1).cpu() == test_labels).double().mean().item()
    command = shlex.join(["python", *sys.argv])
    about = {"accuracy": round(right, 4), "epochs": options.epochs, "command": command}
    about["versions"] = {"torch": torch.__version__, "python": sys.version.split()[0]}
    out.parent.mkdir(parents=True, exist_ok=True)
    checkpoints.save(out, model, dtype=torch.float16, **about)
    print(f"{out}: {right:.2%} of the test images right")


if __name__ == "__main__":
    main()
