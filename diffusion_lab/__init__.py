"""What a lesson shows: figures, widgets, exercises. The only part that imports matplotlib."""

from .claims import claim
from .feedback import check, hint
from .measured import measured
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
    "measured",
    "show",
    "show_source",
    "slider",
]
