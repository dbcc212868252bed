"""What a lesson shows: figures, widgets, exercises. The only part that imports matplotlib."""

from diffusion_core.training import is_short_run

from .feedback import check, hint
from .plotting import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    RED,
    SKY,
    draw_images,
    draw_pixels,
    draw_points,
    figure,
    image_grid,
    show,
    show_source,
)
from .widgets import Explorer, choice, slider

__all__ = [
    "BLACK",
    "BLUE",
    "GREEN",
    "ORANGE",
    "PINK",
    "RED",
    "SKY",
    "Explorer",
    "check",
    "choice",
    "claim",
    "draw_images",
    "draw_pixels",
    "draw_points",
    "figure",
    "hint",
    "image_grid",
    "show",
    "show_source",
    "slider",
]


def claim(sentence: str, holds: bool) -> None:
    """Print a claim of quality; in a full run it must hold, in a short run nobody trained."""
    if not is_short_run() and not holds:
        raise AssertionError(f"this does not hold: {sentence}")
    print(f"Checked in a full run: {sentence}")
