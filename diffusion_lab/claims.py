"""Claims of quality: a sentence, a threshold, the number here, and what came of it."""

import operator
import os

from torch import Tensor

from diffusion_core.data import Images
from diffusion_core.training import History, is_short_run

from .plotting import printable

CLAIMS = "DIFFUSION_CLAIMS"  # set to strict: a claim that does not hold is an error
RELATIONS = {
    "at least": operator.ge,
    "at most": operator.le,
    "above": operator.gt,
    "below": operator.lt,
}


def claim(
    quantity: str,
    number: float | Tensor,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    history: History | None = None,
    digits: Images | None = None,
) -> None:
    """Print what a number is claimed to be, and whether it is: "loss: below 0.25 [holds: 0.2]".

    It is not checked in a short run, nor where the training it rests on (history) was stopped
    early, nor where the digits it rests on are not MNIST's.
    A claim that does not hold says so, and the lesson goes on. DIFFUSION_CLAIMS=strict, which
    the tests set, raises AssertionError then. Raises ValueError unless there is one threshold.
    """
    given = dict(zip(RELATIONS, (at_least, at_most, above, below), strict=True))
    bounds = {words: bound for words, bound in given.items() if bound is not None}
    if len(bounds) != 1:
        raise ValueError(f"one of at_least, at_most, above, below must be given, got {len(bounds)}")
    ((words, bound),) = bounds.items()
    value = float(number)
    holds = RELATIONS[words](value, bound)
    why_not = _why_not(history, digits)
    if why_not:
        state = f"not checked: {why_not}"
    else:
        state = f"{'holds' if holds else 'does not hold here'}: {_rounded(value, words, bound)}"
    said = f"{quantity}: {words} {bound:g} [{state}]"
    print(printable(said))
    if not (holds or why_not) and _strict():
        raise AssertionError(said)


def _strict() -> bool:
    """Return whether DIFFUSION_CLAIMS=strict; refuse any other word, which would be overlooked."""
    word = os.environ.get(CLAIMS, "")
    if word not in ("", "strict"):
        raise ValueError(f"{CLAIMS} must be strict or not set, got {word!r}")
    return word == "strict"


def _why_not(history: History | None, digits: Images | None) -> str:
    """Return why a claim cannot be checked here, or nothing."""
    if is_short_run():
        return "short run"
    if history is not None and history.interrupted:
        return "the training was stopped early"
    if digits is not None and digits.source != "MNIST":
        return "needs MNIST"
    return ""


def _rounded(value: float, words: str, bound: float) -> str:
    """Return the number with three digits, or as many as tell on which side of the bound it is."""
    holds = RELATIONS[words]
    texts = (f"{value:.{digits}g}" for digits in range(3, 18))
    return next(text for text in texts if holds(float(text), bound) == holds(value, bound))
