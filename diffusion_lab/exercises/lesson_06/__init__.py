"""Lesson 06: folding, a residual block, the way through a U-Net, a step with clipping."""

from . import block, fold, step, unet

EXERCISES = fold.EXERCISES | block.EXERCISES | unet.EXERCISES | step.EXERCISES
