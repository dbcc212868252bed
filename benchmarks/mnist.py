"""How fast is the course's U-Net, how good after some minutes? `python benchmarks/mnist.py`

1. Images per second in training beside two peers of about as many parameters, in one run, at
   four sizes. Rounds alternate, so that a noisy machine disturbs all. The share of the machine's
   convolution peak, measured in the same run: operations of a training step over its time, over
   the best rate of a 3x3 convolution.
2. With --minutes 1 3 5: lesson 06's training for so long, each from the start, and the judge's
   numbers of 2 000 drawings.

The second peer, denoising-diffusion-pytorch, is left out where it is missing. Its network needs
`pip install --no-deps denoising-diffusion-pytorch einops`; what only its trainer imports is mocked.
"""

import argparse
import importlib.util
import sys
import time
from functools import partial
from pathlib import Path
from unittest.mock import MagicMock

import torch
from diffusers import UNet2DModel
from torch.utils.flop_counter import FlopCounterMode

import diffusion_core as dc
from diffusion_core import data, nets

sys.path.append(str(Path(__file__).resolve().parent.parent / "scripts"))
import train_mnist

BATCH, ROUNDS, SECONDS = 32, 5, 4.0
# Of each network, what makes it about so large.
SIZES = {
    "0.3 M, lesson 06": ((32, 64), (16, 32, 40), (16, (1, 2, 2))),
    "0.7 M": ((32, 112), (24, 40, 56), (20, (1, 2, 3))),
    "0.9 M": ((32, 128), (24, 48, 64), (22, (1, 2, 3))),
    "1.0 M, shipped": ((48, 128), (32, 48, 64), (20, (1, 2, 4))),
}
TRAINER_ONLY = ("torchvision", "accelerate", "ema_pytorch", "pytorch_fid", "datasets")


class Diffusers(torch.nn.Module):
    """diffusers' U-Net for 28 x 28, attention at the coarsest level as in ours."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.net = UNet2DModel(
            sample_size=28,
            in_channels=1,
            out_channels=1,
            layers_per_block=1,
            norm_num_groups=8,
            attention_head_dim=widths[-1] // 2,
            block_out_channels=widths,
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        )

    def forward(self, x_t, t):
        return self.net(x_t, t).sample


def lucidrains(dim: int, dim_mults: tuple[int, ...]) -> torch.nn.Module:
    """denoising-diffusion-pytorch's Unet."""
    for name in TRAINER_ONLY:
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            sys.modules[name] = MagicMock()
            sys.modules[f"{name}.fid_score"] = sys.modules[f"{name}.inception"] = MagicMock()
    from denoising_diffusion_pytorch.denoising_diffusion_pytorch import Unet

    return Unet(dim=dim, dim_mults=dim_mults, channels=1, attn_heads=2, attn_dim_head=16)


def convolution_peak() -> float:
    """Return the best rate of a 3x3 convolution, in operations per second."""
    best = 0.0
    for channels, side in ((32, 14), (64, 14), (64, 28), (128, 14)):
        x = torch.randn(BATCH, channels, side, side)
        conv = torch.nn.Conv2d(channels, channels, 3, padding=1)
        with torch.no_grad():
            conv(x)
            start, count = time.perf_counter(), 0
            while time.perf_counter() - start < 0.5:
                conv(x)
                count += 1
        rate = count / (time.perf_counter() - start)
        best = max(best, rate * 2 * 9 * channels**2 * BATCH * side**2)
    return best


def operations(model: torch.nn.Module, loss, x0: torch.Tensor) -> float:
    """Return the operations of one training step per image."""
    with FlopCounterMode(display=False) as counter:
        loss(model, x0).backward()
    return counter.get_total_flops() / len(x0)


def speed(size: str, x0: torch.Tensor, schedule: dc.NoiseSchedule) -> None:
    ours, diffusers, lucid = SIZES[size]
    rng = torch.Generator().manual_seed(0)
    batches = data.minibatches(x0, BATCH, generator=rng)
    loss = partial(dc.v_loss, schedule, generator=rng)
    models = {
        "diffusion_core UNet": nets.UNet(widths=ours),
        "diffusers UNet2DModel": Diffusers(diffusers),
    }
    if importlib.util.find_spec("denoising_diffusion_pytorch"):
        models["denoising-diffusion-pytorch"] = lucidrains(*lucid)
    device, peak = dc.default_device(), 0.0
    speeds = {name: [] for name in models}
    for _ in range(ROUNDS):
        peak = max(peak, convolution_peak())
        for name, model in models.items():
            history = dc.train(model.to(device), loss, batches, seconds=SECONDS)
            speeds[name].append(len(history.losses) * BATCH / history.seconds)
    print(f"{size}: training at batch {BATCH}, {ROUNDS} rounds of {SECONDS:.0f} s, images/s;")
    print(f"convolution peak {peak / 1e9:.0f} Gop/s")
    for name, model in models.items():
        millions = sum(p.numel() for p in model.parameters()) / 1e6
        per_image = operations(model, loss, x0[:BATCH].to(device))
        middle = sorted(speeds[name])[ROUNDS // 2]
        print(
            f"{name:28s} {millions:.2f} M parameters"
            f"  median {middle:5.0f}  best {max(speeds[name]):5.0f}"
            f"  {per_image / 1e6:5.0f} Mop/image  {middle * per_image / peak:4.0%} of the peak",
            flush=True,
        )


def quality(minutes: float, images: data.Images, schedule: dc.NoiseSchedule) -> None:
    """Train as lesson 06 does for some minutes and print the judge's numbers."""
    rng, x0 = torch.Generator().manual_seed(0), data.to_signed(images.x)
    model = nets.UNet(classes=10, gain=True).to(dc.default_device())
    ema = dc.EMA(model, decay=0.997)
    loss = partial(train_mnist.labelled_loss, schedule=schedule, generator=rng)
    rows = data.minibatches(torch.arange(len(x0)), BATCH, generator=rng)
    batches = ((x0[r], images.labels[r]) for r in rows)
    history = dc.train(model, loss, batches, seconds=60 * minutes, lr=4e-3, ema=ema)
    shown = len(history.losses) * BATCH
    print(f"{minutes:g} min: {shown:,} images, {shown / history.seconds:.0f}/s", flush=True)
    numbers = train_mnist.judged(ema.model, schedule, 2000, guidance_scale=1.5)
    print(
        f"    confident {numbers['confident']:.1%}, classes {min(numbers['shares']):.1%} to "
        f"{max(numbers['shares']):.1%}, Frechet distance "
        f"{numbers['frechet'] / numbers['frechet_floor']:.2f} times the floor",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, nargs="*", default=[])
    options = parser.parse_args()
    images, schedule = data.images("train"), dc.cosine_schedule(1000)
    x0 = data.to_signed(images.x)
    threads = torch.get_num_threads()
    print(f"{dc.default_device()}, {threads} threads, torch {torch.__version__}, {images.source}")
    for size in SIZES:
        speed(size, x0, schedule)
    for minutes in options.minutes:
        quality(minutes, images, schedule)


if __name__ == "__main__":
    main()
