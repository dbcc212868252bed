"""A measured number and the range in which it must lie."""

import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch

from diffusion_core.schedules import NoiseSchedule, PriorGapWarning

EXACT = {"dtype": torch.float64, "device": "cpu"}
ONE = torch.ones(1, 1, **EXACT)


class Reading(NamedTuple):
    """A measured number, what it is, and the range in which it must lie."""

    what: str
    value: float
    low: float = -math.inf
    high: float = math.inf

    @property
    def passes(self) -> bool:
        """Whether the number lies in the range; NaN does not."""
        return self.low <= self.value <= self.high

    def sentence(self) -> str:
        """Return number and range in words."""
        return f"{self.what}: {self.number()}. Allowed: {self.allowed()}."

    def number(self) -> str:
        """Return the number to three digits, or to as many as the verdict needs."""
        texts = [f"{round(self.value, 6):.3g}", *(f"{self.value:.{n}g}" for n in range(4, 18))]
        return next(t for t in texts if self._replace(value=float(t)).passes == self.passes)

    def allowed(self) -> str:
        """Return the range in words."""
        if math.isinf(self.low):
            return f"at most {self.high:.3g}"
        if math.isinf(self.high):
            return f"at least {self.low:.3g}"
        if f"{self.low:.3g}" == f"{self.high:.3g}":
            return f"{self.low:.3g}"
        return f"{self.low:.3g} to {self.high:.3g}"


def quiet(build: Callable[[], NoiseSchedule]) -> NoiseSchedule:
    """Return a schedule without the warning that it may deserve."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PriorGapWarning)
        return build()
