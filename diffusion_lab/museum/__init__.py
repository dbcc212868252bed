"""The bug museum: the first hall, of lesson 14, stands here, the second in `second`."""

from collections.abc import Callable

from ..plotting import say
from . import exhibits, instruments, ledgers, walks
from .hall import Exhibit, Hall
from .names import NAMES
from .readings import Reading

__all__ = ["EXHIBITS", "NAMES", "Exhibit", "Hall", "Reading", "measure", "reading", "review"]

EXHIBITS = {
    1: Exhibit(exhibits.straight_betas, instruments.gap_of_50, "D"),
    2: Exhibit(exhibits.curved_betas, instruments.last_beta, "K"),
    3: Exhibit(exhibits.noisier, instruments.composed, "B"),
    4: Exhibit(exhibits.pick_steps, instruments.steps_missed, "F"),
    5: Exhibit(exhibits.step_vector, instruments.neighbours, "G"),
    6: Exhibit(exhibits.last_layer, instruments.lowest_answer, "J"),
    7: Exhibit(exhibits.step_back, walks.walked_variance, "I"),
    8: Exhibit(exhibits.careful_step, walks.half_way, "C"),
    9: Exhibit(exhibits.long_step, walks.at_the_end, "M"),
    10: Exhibit(exhibits.stops, walks.from_nearest_point, "N"),
    11: Exhibit(exhibits.lower_bound, ledgers.above_exact, "E"),
    12: Exhibit(exhibits.level_probs, ledgers.sum_of_levels, "L"),
}
FIRST = Hall(EXHIBITS, NAMES)
reading, named, measured = FIRST.reading, FIRST.named, FIRST.measured


def measure(number: int) -> None:
    """Show what the instrument says about exhibit `number`."""
    found = reading(number)
    say(f"{'✓' if found.passes else '✗'} {found.sentence()}")


def review(number: int, diagnosis: str | None, mended: Callable) -> None:
    """Say whether a letter names the mistake, and what the instrument says about a function."""
    say(named(number, diagnosis))
    say(measured(number, mended))
