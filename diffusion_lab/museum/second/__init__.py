"""The second hall of the bug museum, of lesson 14b: a row for each exhibit.

A new exhibit is a row here, a function in `exhibits` and one in `mended`, its instruments in a
module of their own, a section of the lesson and an exercise.
"""

import textwrap
from collections.abc import Callable

from ...plotting import say, show_source
from ..hall import Exhibit, Hall
from . import endings, exhibits, flows, mended, walks
from .names import NAMES
from .panel import explorer_of

__all__ = ["EXHIBITS", "HALL", "NAMES", "diagnose", "instruments", "measure", "open_code"]

EXHIBITS = {
    1: Exhibit(
        exhibits.noisy_walk,
        walks.fourth_power,
        "B",
        {
            "Is the mean push 0?": walks.mean,
            "Has a push the right variance?": walks.variance,
            "Does a push depend on the one before?": walks.neighbours,
            "Is the variance at the end right?": walks.end,
            "Is the mean fourth power that of normal noise?": walks.fourth_power,
        },
        mended.noisy_walk,
        "the published solution of lab 2 of MIT's course 6.S184 (2025), in its class "
        "ConditionalVectorFieldSDE: its diffusion_coefficient returns sigma times a fresh draw, "
        "and the simulator multiplies by another one",
    ),
    2: Exhibit(
        exhibits.right_side,
        flows.twice,
        "E",
        {
            "Is the average of many divergences right?": flows.mean,
            "Do the divergences scatter as they should?": flows.scatter,
            "Do the points end where they should?": flows.landing,
            "Does the same question get the same answer?": flows.twice,
        },
        mended.right_side,
        "issue 10 of github.com/yang-song/score_sde_pytorch, as a question on right code: a reader "
        "asks whether each call should draw anew, and the author answers that the solver might "
        "then not converge at all",
    ),
    3: Exhibit(
        exhibits.fast_sampler,
        endings.from_last_guess,
        "G",
        {
            "Is the network called as often as it should be?": endings.number_of_calls,
            "Are the kinds of pictures as frequent as in the data?": endings.share,
            "Are all pixels finite numbers?": endings.not_numbers,
            "Is the end the network's last guess?": endings.from_last_guess,
        },
        mended.fast_sampler,
        "github.com/huggingface/diffusers: issue 5689 (noise is left in the pictures), pull "
        "request 6477 (the last level stood twice in the list), and issue 9007 (0 without a rule "
        "of its own: NaN)",
    ),
}
HALL = Hall(EXHIBITS, NAMES)


def instruments(number: int) -> tuple:
    """Return the arguments of the `lab.Explorer` with which an instrument is chosen."""
    return explorer_of(EXHIBITS[number])


def diagnose(number: int, diagnosis: str | None) -> None:
    """Say whether a letter names the mistake of exhibit `number`."""
    say(HALL.named(number, diagnosis))


def open_code(number: int) -> None:
    """Show the code of exhibit `number`, and where its mistake was seen."""
    show_source(EXHIBITS[number].function)
    print(textwrap.fill(f"Seen in {EXHIBITS[number].seen}.", 96))


def measure(number: int, mended: Callable) -> None:
    """Say what the instrument of exhibit `number` reads on a function in its place."""
    say(HALL.measured(number, mended))
