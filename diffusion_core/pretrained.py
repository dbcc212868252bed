"""The networks that come with the course, by name; each file's hash is checked."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch import nn

from . import checkpoints
from .nets import MLP, VAE, Classifier, ControlNet, DiT, LevelUNet, SpikeSlabUNet, UNet
from .schedules import cosine_schedule, log_snr_schedule

ASSETS = Path(__file__).parent / "assets"


class Network(NamedTuple):
    """How a network is built before its weights are filled in, and its file's sha256."""

    build: Callable[[], nn.Module]
    sha256: str


def mnist_unet() -> UNet:
    """Return the untrained network behind "mnist": it predicts v under cosine_schedule(1000)."""
    return UNet(widths=(48, 128), classes=10, scale_shift=True)


def weak_unet() -> UNet:
    """Return the untrained network behind "mnist_weak": it predicts as "mnist" does, only worse."""
    return UNet(widths=(32, 64), classes=10, scale_shift=True)


def unlabelled_unet() -> SpikeSlabUNet:
    """Return the untrained "mnist_unlabelled": it predicts x_0 under cosine_schedule(1000)."""
    return SpikeSlabUNet(cosine_schedule(1000), widths=(32, 96), patch=2, scale_shift=True)


def mnist_controlnet() -> ControlNet:
    """Return an untrained control of "mnist" by one picture: it answers as "mnist" does."""
    return ControlNet(load("mnist")[0])


def bits_unet() -> LevelUNet:
    """Return the untrained network behind "bits": it answers with grey levels."""
    return LevelUNet(log_snr_schedule(4000), scale_shift=True)


def one_step_mlp() -> MLP:
    """Return the untrained network of one step behind "student", for 2-D data."""
    return MLP(width=64)


def mnist_vae() -> VAE:
    """Return the untrained network behind "vae"."""
    return VAE()


def latent_unet() -> UNet:
    """Return the untrained network behind "latent_unet": it predicts v of the VAE's latents."""
    return UNet(in_channels=8, widths=(56,), patch=1, emb_dim=64, classes=10)


def latent_dit() -> DiT:
    """Return the untrained network behind "latent_dit", a transformer that does the same."""
    return DiT(in_channels=8, side=4, width=56, depth=4, classes=10)


NETWORKS = {
    "mnist": Network(
        mnist_unet, "17686f73bd224dcf3b1ae3310005f2899b60b6178d8b4f3c99e18c3e3277b3b9"
    ),
    "mnist_weak": Network(
        weak_unet, "81a706b8b5f28d83fec92f07922e76bced4f13bb9b624e7540d3f0a863692875"
    ),
    "mnist_unlabelled": Network(
        unlabelled_unet, "575d5e36fe0ece4b8b63561276aeba64982b750e83a2de45794d416a9e8466dc"
    ),
    "bits": Network(bits_unet, "0d573bbc7e1168a5b868d2d76722cc5a498d573b97f19bfc9717dfe98997378d"),
    "control_edges": Network(
        mnist_controlnet, "5e2c7c57b9d17b76a59469f2c3c21f6094f58ad3a4aa41c15b906266c0bc3466"
    ),
    "control_thumbnail": Network(
        mnist_controlnet, "ad216d9add2699762c5f7f1ba81b3ae8d9f03594e0de5a697b425cee542d5e04"
    ),
    "judge": Network(
        Classifier, "ffe18c1ca13b3c9027aed01ea9eb1a8ecba912e03ec6b9c16e649e6a987200f4"
    ),
    "student": Network(
        one_step_mlp, "c727d643eb45b89ca7e4e966fc6832a1b5070a21f2c0d69968597cd1c60e969b"
    ),
    "vae": Network(mnist_vae, "2da3649ad0edb694518b66cb68fa19f257512bf0ed63eb62edb2e4b898045ebe"),
    "latent_unet": Network(
        latent_unet, "41ea179076d4575d6bc377616ce8c2896ba0e7b12ca5186f33c62beb4ed45044"
    ),
    "latent_dit": Network(
        latent_dit, "283472c7b1f49ea2c3990dcde5906a537e0342e5760ed52b38a5b3a30204c90b"
    ),
}


def load(name: str) -> tuple[nn.Module, dict]:
    """Return a trained network in evaluation mode, and what was written about it.

    "mnist": a UNet(x_t, t, y) -> v for cosine_schedule(1000), y the digit or None; the numbers of
    `about["judge"]` are for its guidance_scale; "mnist_weak": a worse one, for `autoguided`;
    "mnist_unlabelled": a SpikeSlabUNet(x_t, t) -> x0_hat of that schedule, never told y; "bits":
    a LevelUNet, for the fewest bits per pixel; "control_edges", "control_thumbnail": a
    ControlNet(x_t, t, y, control=...) -> v on "mnist", by `controls.edge_map` or `.thumbnail`;
    "judge": the Classifier of digits; "student": an MLP(x, t) -> u for moons, one step to data;
    "vae": a VAE of digits, with the scale of its latents;
    "latent_unet", "latent_dit": as "mnist", of the VAE's scaled latents.
    Each was made by `about["command"]`. Raises ValueError for another name or an altered file.
    """
    if not isinstance(name, str) or name not in NETWORKS:
        raise ValueError(f"name must be one of {', '.join(NETWORKS)}, got {name!r}")
    path = ASSETS / f"{name}.safetensors"
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    build, wanted = NETWORKS[name]
    if found != wanted:
        raise ValueError(f"{path} must have this version's sha256, {wanted}, got {found}")
    model = build()
    about = checkpoints.load(path, model)
    return model.eval().requires_grad_(False), about
