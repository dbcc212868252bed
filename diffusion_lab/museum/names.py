"""The names of mistakes from which a learner chooses, and how each of them would show."""

from typing import NamedTuple


class Name(NamedTuple):
    """A mistake in words, and what it does to code that has it."""

    name: str
    shows: str


NAMES = {
    "A": Name(
        "uniform noise (rand) where normal noise (randn) is meant",
        "Uniform noise has mean 1/2, so means drift. This function draws nothing like that.",
    ),
    "B": Name(
        "a variance used as a standard deviation",
        "A root is missing then, in front of the noise, and too little noise is added.",
    ),
    "C": Name(
        "the clip acts on the state instead of on the guess of clean data",
        "Then noisy states are cut off at the data's range, where they should go beyond.",
    ),
    "D": Name(
        "a schedule made for 1000 steps, used with fewer and not rescaled",
        "Then the walk into noise ends before it is noise, and only for small T.",
    ),
    "E": Name(
        "a term of the bound is left out",
        "Then the bound no longer adds up to prior, steps and reconstruction.",
    ),
    "F": Name(
        "a range ends one too early: t = T is never drawn",
        "Then the first step of every walk asks what was never trained.",
    ),
    "G": Name(
        "two axes mixed up: a reshape where a transpose is meant",
        "Then numbers that belong to one example land in the rows of others.",
    ),
    "H": Name(
        "noise added in the last step",
        "Then z is used in the step to clean data, and all the other steps are right. Are they?",
    ),
    "I": Name(
        "a variance from the wrong row: off by one in a table",
        "Then a table is read at t - 1 where row t is meant.",
    ),
    "J": Name(
        "an activation after the last layer",
        "Then the answers cannot take every value that noise takes.",
    ),
    "K": Name(
        "squared without the root that the square should undo",
        "Then numbers below 1 come out far too small, the ends included.",
    ),
    "L": Name(
        "bins of a wrong width: made for data in another range",
        "Then neighbouring bins overlap or leave gaps, and the shares do not add up.",
    ),
    "M": Name(
        "a wrong variance whose negative remainder a clamp hides",
        "Then a max(.., 0) is at work in every step, where nothing should be negative.",
    ),
    "N": Name(
        "the walk ends one step before clean data",
        "Then a little noise is left in everything.",
    ),
    "O": Name(
        "alpha_t in the place of alpha_bar_t",
        "Then a jump over t steps keeps as much as a single step does.",
    ),
    "P": Name(
        "a wrong sign in the bound",
        "Then good data gets a low number and bad data a high one.",
    ),
}
