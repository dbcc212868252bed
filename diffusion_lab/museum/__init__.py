"""The bug museum: the first hall, of lesson 14, stands in `first`, the second in `second`."""

from .first import EXHIBITS
from .hall import Exhibit, Hall
from .names import NAMES
from .panel import explorer_of, place
from .readings import Reading

__all__ = ["EXHIBITS", "NAMES", "Exhibit", "Hall", "Reading", "diagnose", "instruments_of"]
__all__ += ["measure", "measured", "named", "names", "open_code", "place", "reading"]

FIRST = Hall(EXHIBITS, NAMES)
reading, named, measured = FIRST.reading, FIRST.named, FIRST.measured
diagnose, open_code, measure = FIRST.diagnose, FIRST.open_code, FIRST.measure


def instruments_of(number: int) -> tuple:
    """Return the arguments of the `lab.Explorer` with which an instrument is chosen."""
    return explorer_of(EXHIBITS[number])


def names() -> None:
    """Print the names of mistakes, a letter and a name each."""
    for letter, name in NAMES.items():
        print(letter, "", name.name)
