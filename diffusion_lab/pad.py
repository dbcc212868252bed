"""A pad of 28 x 28 pixels to draw on, for mouse, pen or finger; pad.js is its part in the browser.

Where it cannot live (no kernel, no JupyterLab), its picture is still stored and shown, and an array
or a picture file takes the place of the hand.
"""

import base64
import io
from collections.abc import Callable
from os import PathLike
from pathlib import Path

import anywidget
import numpy as np
import torch
import traitlets
from PIL import Image, ImageOps
from torch import Tensor

from diffusion_core.checks import check_kinds, kind, numbers
from diffusion_core.data import to_signed, to_uint8

from .calling import told

SIDE = 28
SHAPES = ((SIDE, SIDE), (1, SIDE, SIDE), (1, 1, SIDE, SIDE))


class DrawingPad(anywidget.AnyWidget):
    """A pad of 28 x 28 pixels to draw on; `image` is what it holds.

    picture: what it holds at first. None is black; floats in [-1, 1], (28, 28), (1, 28, 28) or
    (1, 1, 28, 28), are kept to the nearest of MNIST's 256 levels; the path of a picture file is
    read as grey and fitted into the square. Bright is ink, as in MNIST.
    The left button, a pen or a finger draws; Shift, the right button or the eraser takes away.
    Raises TypeError or ValueError for another picture.
    """

    _esm = Path(__file__).with_name("pad.js").read_text("utf-8")
    _pixels = traitlets.CBytes(bytes(SIDE * SIDE)).tag(sync=True, echo_update=False)
    _trouble = traitlets.Unicode("").tag(sync=True)
    _function = None

    def __init__(self, picture: Tensor | np.ndarray | str | PathLike | None = None) -> None:
        super().__init__(_pixels=_levels(picture).tobytes())

    @property
    def image(self) -> Tensor:
        """What the pad holds: a new float32 tensor (1, 1, 28, 28) in [-1, 1]."""
        return to_signed(torch.from_numpy(self._array()[None]))

    def clear(self) -> None:
        """Make every pixel black."""
        self._pixels = bytes(SIDE * SIDE)

    def on_change(self, function: Callable[[Tensor], object] | None) -> None:
        """Call a function with `image` whenever a stroke ends or the pad is cleared; None ends it.

        It takes the place of the function before, and runs without gradients. What it raises is
        shown under the pad. Raises TypeError unless it can be called.
        """
        if function is not None:
            check_kinds(function=function)
        self._function = function

    @traitlets.observe("_pixels")
    def _tell(self, _change: object) -> None:
        trouble = ""
        if self._function is not None:
            try:
                with torch.no_grad():
                    self._function(self.image)
            except Exception as error:  # shown to the learner, under the pad
                trouble = f"What follows the pad stopped with {told(error)}"
        self._trouble = trouble

    def _array(self) -> np.ndarray:
        return np.frombuffer(self._pixels, np.uint8).reshape(SIDE, SIDE).copy()

    def _repr_mimebundle_(self, **options) -> tuple[dict, dict]:
        """Add picture and sentence to the live view: for GitHub, print and the tests."""
        file = io.BytesIO()
        Image.fromarray(self._array()).resize((280, 280), Image.Resampling.NEAREST).save(
            file, "png"
        )
        state = "it holds a picture" if any(self._pixels) else "it is empty"
        sentence = f"A pad of {SIDE} x {SIDE} pixels to draw on: {state}."
        live, _ = super()._repr_mimebundle_(**options)
        picture = base64.b64encode(file.getvalue()).decode()
        data = {**live, "image/png": picture, "text/plain": sentence}
        return data, {"image/png": {"alt": sentence}}


def _levels(picture: object) -> np.ndarray:
    """Return the levels uint8 (28, 28) of what a pad is given."""
    if picture is None:
        return np.zeros((SIDE, SIDE), np.uint8)
    if isinstance(picture, str | PathLike):
        return _read(picture)
    floats = isinstance(picture, np.ndarray) and picture.dtype.kind == "f"
    x = numbers("picture", picture) if floats else picture
    if not (isinstance(x, Tensor) and x.is_floating_point() and not x.is_meta):
        wanted = "floats in [-1, 1] in a torch.Tensor or an array, the path of a file, or None"
        raise TypeError(f"picture must be {wanted}, got {kind(picture)}")
    if tuple(x.shape) not in SHAPES:
        raise ValueError(f"picture must have one of the shapes {SHAPES}, got {tuple(x.shape)}")
    x = x.detach().cpu().reshape(1, 1, SIDE, SIDE)
    if not ((x >= -1) & (x <= 1)).all():  # NaN is refused, too
        span = f"{x.min():.4g} to {x.max():.4g}"
        raise ValueError(f"picture must hold numbers in [-1, 1], got {span}")
    return to_uint8(x)[0].numpy()


def _read(path: str | PathLike) -> np.ndarray:
    """Return the levels (28, 28) of a picture file, nothing but black where it is transparent."""
    try:
        with Image.open(path) as file:
            picture = file.convert("RGBA")
    except (OSError, ValueError) as error:  # no such file, or no picture
        raise ValueError(f"picture must be the path of a picture file, got {path}") from error
    black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
    grey = Image.alpha_composite(black, picture).convert("L")
    return np.asarray(ImageOps.pad(grey, (SIDE, SIDE)))
