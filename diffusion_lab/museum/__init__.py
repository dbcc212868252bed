"""The bug museum of lesson 14: exhibits, the instruments that find them out, and their names."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from ..calling import Stopped, call, no_default_device
from ..plotting import say
from . import exhibits, instruments, ledgers, walks
from .names import NAMES
from .readings import Reading

__all__ = ["EXHIBITS", "NAMES", "Exhibit", "Reading", "measure", "reading", "review"]


class Exhibit(NamedTuple):
    """A function with a mistake, the instrument that finds it, and the letter of its name."""

    function: Callable
    instrument: Callable[[Callable], Reading]
    letter: str


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


class _NoAnswer(Exception):
    """A learner's function that returned None."""


def reading(number: int, function: Callable | None = None) -> Reading:
    """Measure exhibit `number`, or a function in its place, on one thread: it repeats exactly."""
    function = EXHIBITS[number].function if function is None else function
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad(), no_default_device():
            return EXHIBITS[number].instrument(function)
    finally:
        torch.set_num_threads(threads)


def measure(number: int) -> None:
    """Show what the instrument says about exhibit `number`."""
    found = reading(number)
    say(f"{'✓' if found.passes else '✗'} {found.sentence()}")


def review(number: int, diagnosis: str | None, mended: Callable) -> None:
    """Say whether a letter names the mistake, and what the instrument says about a function."""
    say(named(number, diagnosis))
    say(measured(number, mended))


def named(number: int, diagnosis: str | None) -> str:
    """Return the sentence on a diagnosis; it begins with ✓, ✗ or ○."""
    if diagnosis is None:
        return "○ Not named yet: give `diagnosis` a letter of the list of names."
    letter = str(diagnosis).strip().upper()
    if letter not in NAMES:
        return f"✗ Not yet. Names are letters, {min(NAMES)} to {max(NAMES)}; yours is {diagnosis}."
    chosen = NAMES[letter]
    if letter != EXHIBITS[number].letter:
        return f"✗ Not yet. {letter} is: {chosen.name}. {chosen.shows}"
    return f"✓ Right, it is {letter}: {chosen.name}."


def measured(number: int, mended: Callable) -> str:
    """Return the sentence on a learner's function under the instrument."""

    def answered(*case: object) -> object:
        result = mended(*case)
        if result is None:
            raise _NoAnswer
        return result

    found = call(reading, (number, answered))
    if isinstance(found, Stopped):
        if found.cause == _NoAnswer.__name__:
            return "○ Nothing to measure yet."
        return f"✗ The instrument could not measure your function. {found.sentence}"
    if math.isnan(found.value):
        return "✗ The instrument read NaN: your function makes numbers that are none."
    text = "The instrument is content" if found.passes else "The instrument still objects"
    return f"{'✓' if found.passes else '✗'} {text}. {found.sentence()}"
