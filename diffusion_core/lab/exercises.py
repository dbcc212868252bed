"""Exercises that answer: not attempted, right, or what differs."""

from collections.abc import Callable, Sequence

import torch
from IPython.display import display
from torch import Tensor


def check(
    answer: Callable, truth: Callable, cases: Sequence[tuple], *, relative: bool = False
) -> None:
    """Compare a learner's function with the package's on every case, and say what came out.

    Each case is a tuple of arguments. None as a result means "not attempted yet". Numbers may
    differ by 1e-4 of their size, and by 1e-6 unless `relative`, for answers that are tiny.
    """
    atol = 0.0 if relative else 1e-6
    display({"text/plain": _verdict(answer, truth, cases, atol)}, raw=True)


def _verdict(answer: Callable, truth: Callable, cases: Sequence[tuple], atol: float = 1e-6) -> str:
    for case in cases:
        kept = [x.clone() if isinstance(x, Tensor) else x for x in case]
        try:
            given = answer(*case)
        except Exception as error:  # the learner's own mistake is the answer, in one sentence
            return f"✗ Not yet: your function stopped with {type(error).__name__}: {error}"
        if given is None:
            return "○ Not attempted yet: write your lines in the cell above and run both cells."
        for before, after in zip(kept, case, strict=True):
            if isinstance(before, Tensor) and not torch.equal(before, after):
                return "✗ Not yet: your function changed one of its arguments in place."
        problem = _difference(given, truth(*case), atol)
        if problem:
            return f"✗ Not yet: {problem}"
    return "✓ Right, on every case tried."


def _difference(given: object, wanted: object, atol: float) -> str:
    """Say in one sentence how an answer differs from what is wanted; empty if it does not."""
    if not isinstance(given, Tensor | int | float):
        return f"the result should be a number or a tensor, yours is a {type(given).__name__}."
    wanted = torch.as_tensor(wanted, dtype=torch.float64)
    given = torch.as_tensor(given).detach().to("cpu", torch.float64)
    if given.shape != wanted.shape:
        return f"the result should have shape {tuple(wanted.shape)}, yours {tuple(given.shape)}."
    if not torch.isfinite(given).all():
        return "the result holds NaN or infinity."
    if not torch.allclose(given, wanted, rtol=1e-4, atol=atol):
        worst = (given - wanted).abs().argmax()
        a, b = given.flatten()[worst], wanted.flatten()[worst]
        return f"a number should be {b:.4g}, yours is {a:.4g}."
    return ""
