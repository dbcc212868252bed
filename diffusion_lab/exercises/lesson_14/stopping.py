"""Exhibit 10, on the way back: where the walk stops."""

from collections.abc import Callable

import torch

from diffusion_core.samplers import even_taus

from ...museum import exhibits, mended
from ..exercise import Exercise


def _walks(generator: torch.Generator) -> list[tuple]:
    """Return (T, strides), T a multiple of strides."""
    long, few = torch.randint(3, 30, (2,), generator=generator).tolist()
    return [(50, 10), (1000, 20), (long * few, few), (long, long)]


class NotWhole(Exception):
    """Stops that are floats."""


def _whole(stops: Callable, T: int, strides: int) -> list[int]:
    """Return the stops, and refuse floats: a stop is a row of a table."""
    found = stops(T, strides)
    if isinstance(found, list | tuple) and any(isinstance(t, float) for t in found):
        raise NotWhole
    return found


EXERCISES = {
    "14.10": Exercise(
        truth=mended.stops,
        cases=_walks,
        use=_whole,
        mistakes={
            "This is the exhibit itself: its last stop is 1, where some noise is left.": (
                exhibits.stops
            ),
            "These are floats. A stop is a row of a table: it should be an int.": (
                lambda T, strides: [float(t) for t in even_taus(T, strides)]
            ),
            "Clean data is not among the stops: 0 is missing at the end.": lambda T, strides: (
                even_taus(T, strides)[:-1]
            ),
            "The walk starts one stride late: T is missing.": lambda T, strides: even_taus(
                T, strides
            )[1:],
            "The stops go up. The walk goes down, from T to 0.": lambda T, strides: even_taus(
                T, strides
            )[::-1],
            "The stops end with 0 twice. The last stride goes nowhere.": lambda T, strides: [
                *even_taus(T, strides),
                0,
            ],
            "The stops are counted from 0, as in a list. The first is T, not T - 1.": (
                lambda T, strides: [t - 1 for t in even_taus(T, strides)[:-1]]
            ),
            "`strides` is taken for the length of a stride. It is their number.": (
                lambda T, strides: list(range(T, -1, -strides))
            ),
            "There is one stop too few: so many strides have one stop more.": lambda T, strides: (
                torch.linspace(T, 0, strides).round().int().tolist()
            ),
        },
        hints=(
            "Where does a walk end that ends with clean data?",
            "Row 0 is clean data, so 0 must be among the stops.",
            "Which number of the line makes the list end at 1?",
        ),
    ),
}
