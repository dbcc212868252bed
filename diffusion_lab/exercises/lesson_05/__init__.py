"""Lesson 05: Algorithm 1's loss, Algorithm 2, the lowest loss, and the loop of training."""

from . import loss, training, walk

EXERCISES = loss.LOSS | walk.EXERCISES | loss.LOWEST | training.EXERCISES
