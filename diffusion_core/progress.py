"""One progress bar for everything that takes long, and the switches of the environment."""

import os

from tqdm.auto import tqdm

SWITCH = {"": False, "0": False, "false": False, "no": False, "off": False}
SWITCH |= {"1": True, "true": True, "yes": True, "on": True}


def progress_bar(*, hidden: bool = False, **options) -> tqdm:
    """Return tqdm's bar for a notebook or a terminal; hidden, or TQDM_DISABLE=1, hides it.

    tqdm's notebook bar does not read that variable itself.
    """
    return tqdm(**options, disable=hidden or is_on("TQDM_DISABLE"))


def is_on(variable: str) -> bool:
    """Say whether a variable of the environment is on: 1, true, yes or on, in any case.

    Off where it is not set, empty, 0, false, no or off. Raises ValueError for another word.
    """
    if not isinstance(variable, str):
        raise TypeError(f"variable must be a name, got {type(variable).__name__}")
    given = os.environ.get(variable, "")
    if (word := given.strip().lower()) not in SWITCH:
        raise ValueError(
            f"{variable} must be 1, true, yes, on, or 0, false, no, off, got {given!r}"
        )
    return SWITCH[word]
