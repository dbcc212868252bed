"""The panel of an exhibit: choose an instrument, and see what it reads on wrong and right code."""

import math
import random
from functools import cache

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from ..plotting import BLACK, BLUE, RED, figure
from ..widgets import choice
from .hall import Exhibit, repeatable
from .readings import Reading

FARTHEST = 1000.0  # of the scale; what lies beyond is drawn there


def place(found: Reading) -> float:
    """Return a reading on the scale of the panel: 0 in the middle of its range, 1 at its edge.

    What may be "at most" so much has 0 in the middle.
    """
    low = -found.high if found.low == -math.inf else found.low
    middle, half = (low + found.high) / 2, (found.high - low) / 2
    if not math.isfinite(found.value):
        return FARTHEST
    off = found.value - middle
    steps = off / half if half else math.copysign(FARTHEST, off) * (off != 0)
    return max(-FARTHEST, min(FARTHEST, steps))


def verdict(wrong: Reading, right: Reading) -> str:
    """Say what two readings of one instrument are, and whether it sees a difference."""
    text = (
        f"{wrong.what}: {wrong.number()} for the exhibit, {right.number()} for right code; "
        f"allowed is {wrong.allowed()}. "
    )
    if wrong.passes and right.passes:
        return text + "Both are as they should be: this instrument cannot see the mistake."
    return text + "Only the exhibit is outside: this instrument sees the mistake."


def ruler() -> tuple[Figure, Line2D, Line2D, Text]:
    """Return a figure with the range that is allowed, the two marks on it, and what is read."""
    fig, (ax,) = figure(width=8, height=2.3)
    ax.axvspan(-1, 1, ymax=0.79, color="0.88")
    ax.axvline(0, ymax=0.79, color=BLACK, lw=0.7)
    (wrong,) = ax.plot([0], [1], "X", ms=11, color=RED)
    (right,) = ax.plot([0], [0], "o", ms=9, color=BLUE)
    ax.set_xscale("symlog", linthresh=1)
    ax.set(xlim=(-1.6 * FARTHEST, 1.6 * FARTHEST), ylim=(-0.6, 2.2))
    ax.set_yticks([1, 0], ["exhibit", "right code"])
    ax.set_xticks([-100, -1, 0, 1, 100], ["-100", "-1", "0", "1", "100"])
    ax.minorticks_off()
    ax.set_xlabel(
        "reading: 0 is the middle of what is allowed (for “at most”: the number 0),\n"
        "−1 and 1 are its edges; beyond 1000 is drawn at 1000"
    )
    said = ax.text(0.5, 0.97, "", ha="center", va="top", fontsize=9, transform=ax.transAxes)
    return fig, wrong, right, said


def questions(exhibit: Exhibit) -> list[str]:
    """Return the questions in an order of the exhibit's own that begins with a blind one."""
    offered, order = exhibit.offered, random.Random(exhibit.function.__name__)
    found = list(offered)
    while True:
        order.shuffle(found)
        if offered[found[0]] is not exhibit.instrument:
            return found


def explorer_of(exhibit: Exhibit) -> tuple:
    """Return what `lab.Explorer` needs: the figure, its marks, what moves them, the choice."""
    fig, *marks, said = ruler()

    @cache
    def readings(question: str) -> tuple[Reading, Reading]:
        instrument = exhibit.offered[question]
        return repeatable(instrument, exhibit.function), repeatable(instrument, exhibit.mended)

    def choose(question: str) -> str:
        found = readings(question)
        for mark, reading, row in zip(marks, found, (1, 0), strict=True):
            mark.set_data([place(reading)], [row])
        said.set_text(found[0].what)
        return verdict(*found)

    return fig, [*marks, said], choose, {"question": choice("instrument", questions(exhibit))}
