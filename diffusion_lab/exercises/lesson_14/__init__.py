"""Lesson 14: the twelve exhibits of the bug museum, and a whole program, mended."""

from . import backward, forward, likelihood, stopping, training, whole

EXERCISES = (
    forward.EXERCISES
    | training.EXERCISES
    | backward.EXERCISES
    | stopping.EXERCISES
    | likelihood.EXERCISES
    | whole.EXERCISES
)
