"""What an exercise is made of."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch

from diffusion_core.schedules import vp_schedule


class Exercise(NamedTuple):
    """What `lab.check` compares an answer with, and what `lab.hint` shows.

    truth: the right answer, by the package: a function, or one without arguments for a number.
    cases: generator -> fresh arguments, a tuple for each call: several shapes, float32 and
    float64, the edges t = 1 and t = T; [()] for a number. They are made on the CPU; `lab.check`
    moves their tensors to every device. A case with B = D shows a wrong broadcast.
    mistakes: a sentence that names a mistake -> the function that makes it; the first that fits.
    hints: one to three, from vague to plain.
    relative: compare each number with its own size only, for answers that are tiny.
    use: for an answer that returns a function: (answer, *case) -> the numbers to compare; it may
    raise what a mistake then raises, too.
    draws: what is said of draws from torch's own generator, where drawing is a part of the task.
    """

    truth: Callable
    cases: Callable[[torch.Generator], list[tuple]]
    mistakes: dict[str, Callable]
    hints: tuple[str, ...]
    relative: bool = False
    use: Callable | None = None
    draws: str = ""

    def used(self) -> "Exercise":
        """Return the exercise whose truth and mistakes are not called, but used."""
        if self.use is None:
            return self
        mistakes = {said: partial(self.use, made) for said, made in self.mistakes.items()}
        return self._replace(truth=partial(self.use, self.truth), mistakes=mistakes)


def draw_alpha_bars(
    size: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
) -> torch.Tensor:
    """Return falling alpha_bars (size,): those of t = 1, of steps between, and of t = T."""
    between = torch.randperm(998, generator=generator)[: max(size - 2, 0)] + 2
    t = torch.cat([torch.tensor([1]), between.sort().values, torch.tensor([1000])])[:size]
    return vp_schedule(1000).alpha_bars[t].to(dtype)
