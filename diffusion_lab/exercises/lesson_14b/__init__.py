"""Lesson 14b: the exhibits of the museum's second hall, mended."""

from . import conditions, continuous, scaling

EXERCISES = continuous.EXERCISES | conditions.EXERCISES | scaling.EXERCISES
