"""Lesson 04: the prior term, the weight of x_0, the terms of a denoiser, the variance to choose."""

from . import paper, terms, variance

EXERCISES = paper.EXERCISES | terms.EXERCISES | variance.EXERCISES
