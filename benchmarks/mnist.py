"""How fast is lesson 06's network here? `python benchmarks/mnist.py`

Prints images per second in training, beside diffusers' UNet2DModel with about as many parameters
in the same run, and the seconds that drawing takes. Rounds of the two alternate, so that a noisy
machine disturbs both.
"""

import time
from functools import partial

import torch
from diffusers import UNet2DModel

import diffusion_core as dc
from diffusion_core import data, nets

BATCH, ROUNDS, SECONDS = 16, 4, 4.0


def peer() -> torch.nn.Module:
    """diffusers' U-Net for 28 x 28, attention at the coarsest level, sized like ours."""
    return UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=16,
        block_out_channels=(16, 32, 48),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )


def main() -> None:
    device, schedule = dc.default_device(), dc.cosine_schedule(1000)
    rng = torch.Generator().manual_seed(0)
    images = data.images("train")
    batches = data.minibatches(data.to_signed(images.x), BATCH, generator=rng)
    loss = partial(dc.v_loss, schedule, generator=rng)
    ours, theirs = nets.UNet().to(device), peer().to(device)
    models = {"diffusion_core UNet": ours, "diffusers UNet2DModel": theirs}
    losses = {
        "diffusion_core UNet": loss,
        "diffusers UNet2DModel": lambda model, x0: loss(lambda x, t: model(x, t).sample, x0),
    }
    speeds = {name: [] for name in models}
    for _ in range(ROUNDS):
        for name, model in models.items():
            history = dc.train(model, losses[name], batches, seconds=SECONDS)
            speeds[name].append(len(history.losses) * BATCH / history.seconds)
    print(
        f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, {images.source}"
    )
    print(f"training at batch {BATCH}, {ROUNDS} rounds of {SECONDS:.0f} s, images per second:")
    for name, model in models.items():
        size = sum(p.numel() for p in model.parameters()) / 1e6
        best, middle = max(speeds[name]), sorted(speeds[name])[ROUNDS // 2]
        print(f"{name:24s} {size:.2f} M parameters  median {middle:6.0f}  best {best:6.0f}")
    eps_model = dc.eps_model_from_v(schedule, ours)
    x_T = torch.randn(64, 1, 28, 28, generator=rng).to(device)
    start = time.perf_counter()
    for _ in dc.sample_chain(dc.ddim_step, schedule, eps_model, x_T, dc.even_taus(1000, 50)):
        pass
    print(f"64 digits in 50 DDIM steps: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
