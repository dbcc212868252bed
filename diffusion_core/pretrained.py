"""The networks that come with the course, by name; each file's hash is checked."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from torch import nn

from . import checkpoints
from .nets import Classifier, LevelUNet, UNet
from .schedules import log_snr_schedule

ASSETS = Path(__file__).parent / "assets"


class Network(NamedTuple):
    """How a network is built before its weights are filled in, and its file's sha256."""

    build: Callable[[], nn.Module]
    sha256: str


def mnist_unet() -> UNet:
    """Return the untrained network behind "mnist": it predicts v under cosine_schedule(1000)."""
    return UNet(widths=(48, 128), classes=10)


def bits_unet() -> LevelUNet:
    """Return the untrained network behind "bits": it answers with grey levels."""
    return LevelUNet(log_snr_schedule(1000))


NETWORKS = {
    "mnist": Network(
        mnist_unet, "1c5a50ab35f05179b3b70e528272e31992bf734e877322bdd3151a55d49c1253"
    ),
    "bits": Network(bits_unet, "b6587925803e4c1d45d6513d65b4a7ebb5ad20e73514a7935aca33198a162032"),
    "judge": Network(
        Classifier, "ffe18c1ca13b3c9027aed01ea9eb1a8ecba912e03ec6b9c16e649e6a987200f4"
    ),
}


def load(name: str) -> tuple[nn.Module, dict]:
    """Return a trained network in evaluation mode, and what was written about it.

    "mnist": a UNet(x_t, t, y) -> v for cosine_schedule(1000), y the digit or None, made by
    `make train-mnist`; its `about["judge"]` holds the guidance_scale that its numbers are for;
    "bits": a LevelUNet, for the fewest bits per pixel, made by `make train-bits`; `about["bits"]`
    holds what the test images cost;
    "judge": the Classifier of digits, made by `make train-judge`.
    Raises ValueError for another name, or for a file that is not the one of this version.
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
