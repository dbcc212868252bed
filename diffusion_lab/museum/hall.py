"""A hall of the bug museum: a table of exhibits, names of mistakes, and what is said of both."""

import math
import textwrap
from collections.abc import Callable
from typing import NamedTuple

import torch

from ..calling import Stopped, call, no_default_device
from ..plotting import say, show_source
from .names import Name
from .readings import Reading


class Exhibit(NamedTuple):
    """A function with a mistake, the instrument that finds it, and the letter of its name.

    Then all instruments that are offered, by their questions, the function as it should be, and
    where such a mistake was seen.
    """

    function: Callable
    instrument: Callable[[Callable], Reading]
    letter: str
    offered: dict[str, Callable[[Callable], Reading]]
    mended: Callable
    seen: str


class _NoAnswer(Exception):
    """A learner's function that returned None."""


class Hall(NamedTuple):
    """Exhibits by their numbers, and the names from which a learner chooses, by their letters."""

    exhibits: dict[int, Exhibit]
    names: dict[str, Name]

    def reading(self, number: int, function: Callable | None = None) -> Reading:
        """Measure exhibit `number`, or a function in its place: see `repeatable`."""
        function = self.exhibits[number].function if function is None else function
        return repeatable(self.exhibits[number].instrument, function)

    def named(self, number: int, diagnosis: str | None) -> str:
        """Return the sentence on a diagnosis; it begins with ✓, ✗ or ○."""
        if diagnosis is None:
            return "○ Not named yet: give `diagnosis` a letter of the list of names."
        names, letter = self.names, str(diagnosis).strip().upper()
        if letter not in names:
            return (
                f"✗ Not yet. Names are letters, {min(names)} to {max(names)}; yours is {diagnosis}."
            )
        chosen = names[letter]
        if letter != self.exhibits[number].letter:
            return f"✗ Not yet. {letter} is: {chosen.name}. {chosen.shows}"
        return f"✓ Right, it is {letter}: {chosen.name}."

    def diagnose(self, number: int, diagnosis: str | None) -> None:
        """Say whether a letter names the mistake of exhibit `number`."""
        say(self.named(number, diagnosis))

    def open_code(self, number: int) -> None:
        """Show the code of exhibit `number`, and where its mistake was seen."""
        show_source(self.exhibits[number].function)
        print(textwrap.fill(f"Seen in {self.exhibits[number].seen}.", 96))

    def measure(self, number: int, mended: Callable) -> None:
        """Say what the instrument of exhibit `number` reads on a function in its place."""
        say(self.measured(number, mended))

    def measured(self, number: int, mended: Callable) -> str:
        """Return the sentence on a learner's function under the instrument."""

        own = []  # what the function itself raised

        def answered(*case: object) -> object:
            try:
                result = mended(*case)
            except BaseException as error:
                own.append(error)
                raise
            if result is None:
                raise _NoAnswer
            return result

        found = call(self.reading, (number, answered))
        if isinstance(found, Stopped):
            if found.cause == _NoAnswer.__name__:
                return "○ Nothing to measure yet."
            if own or found.cause == "endless":
                return f"✗ The instrument could not measure your function. {found.sentence}"
            error = found.sentence.removeprefix("Your function stopped with ")
            return f"✗ The instrument cannot use what your function returns: {error}"
        if math.isnan(found.value):
            return "✗ The instrument read NaN: your function makes numbers that are none."
        text = "The instrument is content" if found.passes else "The instrument still objects"
        return f"{'✓' if found.passes else '✗'} {text}. {found.sentence()}"


def repeatable(instrument: Callable[[Callable], Reading], function: Callable) -> Reading:
    """Measure a function on one thread and on the CPU: it repeats exactly."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad(), no_default_device():
            return instrument(function)
    finally:
        torch.set_num_threads(threads)
