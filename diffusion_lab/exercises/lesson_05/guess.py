"""A denoiser for the cases of lesson 05, and how an answer gets it together with a schedule."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_core import schedules

from ...calling import mapped

DTYPES = (torch.float64, torch.float32)


class Guess(NamedTuple):
    """An eps_model tanh(x inner + t/4) outer, of x (B, D) and a t for each row of x."""

    inner: Tensor
    outer: Tensor

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        if not isinstance(t, Tensor) or t.shape != x.shape[:1]:
            raise ValueError(f"t must hold one step for each of the {len(x)} rows of x_t")
        if x.dtype != self.inner.dtype:
            raise ValueError(
                f"x_t is {x.dtype}, the data {self.inner.dtype}: cast the row of a table, .to(x0)"
            )
        return torch.tanh(x @ self.inner + t[:, None].to(x.dtype) / 4) @ self.outer


def draw_guess(dim: int, dtype: torch.dtype, generator: torch.Generator) -> Guess:
    """Draw the two matrices of a guess for D = dim."""
    return Guess(*torch.randn(2, dim, dim, generator=generator, dtype=dtype))


def with_schedule(answer: Callable, T: int, model: Guess, *tensors: Tensor) -> object:
    """Hand over the schedule of T steps, whose tables lie on the CPU, and all else there, too."""
    model, *tensors = mapped(lambda x: x.cpu(), [model, *tensors])
    return answer(schedules.vp_schedule(T), model, *tensors)
