"""Lesson 14: the twelve exhibits of the bug museum, mended."""

from . import backward, forward, likelihood, stopping, training

EXERCISES = (
    forward.EXERCISES
    | training.EXERCISES
    | backward.EXERCISES
    | stopping.EXERCISES
    | likelihood.EXERCISES
)
