"""Images: MNIST, digits that need no network, and a folder of your own."""

import gzip
import itertools
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pooch
import torch
from torch import Tensor

from .checks import check_count, check_data, check_kinds, kind, require
from .download import fetch, refusal, sha256_of

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
SHA256 = {
    f"{name}-ubyte.gz": digest
    for name, digest in (
        ("train-images-idx3", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        ("train-labels-idx1", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        ("t10k-images-idx3", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        ("t10k-labels-idx1", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    )
}
HOW_TO_GET_MNIST = (
    "Or set DIFFUSION_DATA to a folder with MNIST's four .gz files. Then restart the kernel."
)
PICTURES = (".png", ".jpg", ".jpeg")
NO_HOME = "MNIST cannot be kept, as no home folder is known: set HOME."


class DataUnavailable(RuntimeError):
    """MNIST is not on this machine and could not be downloaded."""


class Images(NamedTuple):
    """uint8 images (N, 28, 28), int64 labels (N,), their source, a note unless it is MNIST."""

    x: Tensor
    labels: Tensor
    source: str
    note: str


def mnist(split: str = "train") -> tuple[Tensor, Tensor]:
    """Return MNIST: uint8 images (N, 28, 28), int64 labels (N,), N = 60000 ("test": 10000).

    From the folder DIFFUSION_DATA, where nothing is ever written; if none is named, from the
    user cache, which is filled from a mirror. A file with a wrong sha256 is never used.
    Raises DataUnavailable when it cannot be had, ValueError for another split.
    """
    if not isinstance(split, str) or split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    prefix = "train" if split == "train" else "t10k"
    x = _read_idx(_fetch(f"{prefix}-images-idx3-ubyte.gz"), 3)
    labels = _read_idx(_fetch(f"{prefix}-labels-idx1-ubyte.gz"), 1)
    return torch.from_numpy(x), torch.from_numpy(labels).long()


def _read_idx(path: Path, ndim: int) -> np.ndarray:
    """Read an idx file of bytes: 0, 0, 8 (uint8), ndim, then ndim big-endian sizes, then data."""
    with gzip.open(path) as file:
        raw = file.read()
    start = 4 + 4 * ndim
    shape = np.frombuffer(raw[4:start].ljust(4 * ndim, b"\0"), ">u4").tolist()
    if raw[:4] != bytes([0, 0, 8, ndim]) or len(raw) != start + math.prod(shape):
        given = f"{len(raw)} bytes, first {list(raw[:4])}"
        raise ValueError(f"{path} must be an idx file of bytes with {ndim} dimensions, got {given}")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape).copy()


def _fetch(name: str) -> Path:
    """Return the path of a file with the right sha256."""
    given = os.environ.get("DIFFUSION_DATA")
    try:
        if not given:
            return fetch(name, SHA256[name], MIRRORS, Path(pooch.os_cache("diffusion_course")))
        path = Path(given).expanduser() / name
    except OSError as error:
        raise DataUnavailable(f"{error} {HOW_TO_GET_MNIST}") from error
    except RuntimeError as error:  # what pathlib raises where there is no home folder
        problem = f"The home folder of {given} is not known." if given else NO_HOME
        raise DataUnavailable(f"{problem} {HOW_TO_GET_MNIST}") from error
    found = sha256_of(path)
    if found == SHA256[name]:
        return path
    problem = refusal(str(path), found, SHA256[name]) if found else f"{path} is missing."
    raise DataUnavailable(f"{problem} Put the right file there. {HOW_TO_GET_MNIST}")


def digits() -> tuple[Tensor, Tensor]:
    """Return scikit-learn's digits: uint8 images (1797, 28, 28), int64 labels (1797,).

    8x8 pixels of 17 levels are enlarged to 24x24 (bicubic), rounded to 256 levels, and given
    a border of 2 pixels. The files are part of scikit-learn: no network.
    """
    from sklearn.datasets import load_digits

    x, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(x).view(-1, 1, 8, 8) * (255 / 16)
    x = torch.nn.functional.interpolate(x, size=(24, 24), mode="bicubic", align_corners=False)
    x = torch.nn.functional.pad(x, (2, 2, 2, 2)).squeeze(1)
    return x.clamp(0, 255).round().to(torch.uint8), torch.from_numpy(labels).long()


def images(split: str = "train") -> Images:
    """Return MNIST, or scikit-learn's digits and a note to draw into the lesson's first figure.

    Shapes as in mnist(); the first 1497 digits are "train", the last 300 "test".
    Raises ValueError for another split.
    """
    try:
        found = Images(*mnist(split), "MNIST", "")
        for name in SHA256:  # all four files or none: the two splits are always of one kind
            _fetch(name)
        return found
    except DataUnavailable as error:
        part = slice(1497) if split == "train" else slice(1497, None)
        x, labels = digits()
        note = f"These are scikit-learn's digits, not MNIST. {error}"
        return Images(x[part], labels[part], "scikit-learn digits", note)


def folder(path: str | os.PathLike) -> Tensor:
    """Return a folder's pictures (.png, .jpg), in the order of their names: uint8 (N, 28, 28).

    Each must be 28 x 28 and grey: of 8 bits, or in colours that are equal and opaque.
    Raises ValueError that names the first file which is not, or is no picture, and for a folder
    without any, TypeError for what is no path.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path must be that of a folder, got {path!r:.60}")
    place = Path(path).expanduser()
    require(place.is_dir(), "path", "be a folder that is there", str(path))
    files = sorted(f for f in place.iterdir() if f.suffix.lower() in PICTURES)
    require(bool(files), "path", f"be a folder with pictures ({', '.join(PICTURES)})", str(path))
    return torch.from_numpy(np.stack([_grey(file) for file in files]))


def _grey(file: Path) -> np.ndarray:
    """Return one picture of 28 x 28 grey levels, or say why it is none."""
    from PIL import Image  # here: only who brings pictures needs it

    try:
        with Image.open(file) as picture:
            mode, size, pixels = picture.mode, picture.size, np.asarray(picture.convert("RGBA"))
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"path must hold pictures, got {file.name!r}, which cannot be read"
        ) from error
    if size != (28, 28):
        is_so = f"{file.name!r}, which is {size[0]} x {size[1]}"
        raise ValueError(f"path must hold pictures of 28 x 28, got {is_so}")
    opaque, red = (pixels[..., 3] == 255).all(), pixels[..., 0]
    if mode.startswith(("I", "F")) or not opaque or (pixels[..., :3] != red[..., None]).any():
        is_so = f"{file.name!r}, which is not grey (its mode is {mode})"
        raise ValueError(f"path must hold grey pictures, got {is_so}")
    return red.copy()


def to_signed(images: Tensor) -> Tensor:
    """Map uint8 levels k (N, H, W) to float32 x = 2k/255 - 1 in [-1, 1], (N, 1, H, W)."""
    if getattr(images, "dtype", None) != torch.uint8 or images.ndim != 3:
        raise ValueError(f"images must be torch.uint8 (N, H, W), got {kind(images)}")
    return (images.float() * 2 / 255 - 1).unsqueeze(1)


def to_uint8(x: Tensor) -> Tensor:
    """Invert to_signed, clamping and rounding: floats (N, 1, H, W) to uint8 (N, H, W)."""
    check_data("x", x)
    if x.ndim != 4 or x.shape[1] != 1:
        raise ValueError(f"x must have shape (N, 1, H, W), got {tuple(x.shape)}")
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).squeeze(1)


def minibatches(
    x: Tensor, batch_size: int, *, generator: torch.Generator | None = None
) -> Iterator[Tensor]:
    """Yield shuffled batches (batch_size, ...) of x (N, ...) without end, epoch by epoch.

    Within an epoch no item comes twice; the last N mod batch_size items of its order are left
    out. For several tensors draw batches of torch.arange(N). The order is drawn on the
    generator's device. Raises ValueError unless 1 <= batch_size <= N, TypeError unless an int.
    """
    check_count("batch_size", batch_size)
    check_kinds(generator=generator)
    if not isinstance(x, Tensor) or x.ndim == 0 or len(x) < batch_size:
        raise ValueError(f"x must have at least {batch_size} rows, batch_size, got {kind(x)}")
    device = generator.device if generator else "cpu"
    draw = {"generator": generator, "device": device}
    orders = (torch.randperm(len(x), **draw).to(x.device) for _ in itertools.count())
    starts = range(0, len(x) - batch_size + 1, batch_size)
    return (x[order[start : start + batch_size]] for order in orders for start in starts)
