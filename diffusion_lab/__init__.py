"""What a lesson shows: figures, widgets, exercises. The only part that imports matplotlib."""

from .claims import claim
from .feedback import check, hint
from .heat import density_map, draw_heat
from .launching import torchrun
from .measured import measured
from .pad import DrawingPad
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
from .short_runs import up_to
from .verdicts import results
from .widgets import Explorer, choice, slider

__all__ = [
    "BLACK",
    "BLUE",
    "GREEN",
    "ORANGE",
    "PINK",
    "RED",
    "SKY",
    "DrawingPad",
    "Explorer",
    "check",
    "choice",
    "claim",
    "density_map",
    "draw_heat",
    "draw_images",
    "draw_pixels",
    "draw_points",
    "figure",
    "hint",
    "image_grid",
    "measured",
    "results",
    "show",
    "show_source",
    "slider",
    "torchrun",
    "up_to",
]
