"""Exercises that answer: not attempted, right, which mistake it looks like, or how it differs."""

import inspect
import secrets
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from diffusion_core.devices import available_devices

from .calling import Stopped, call, copied, gradients, mapped, no_default_device, on, tensors
from .compare import TYPED_RTOL, Tolerance, difference, misplaced, rtol_of
from .exercises import Exercise, find
from .plotting import say
from .verdicts import note

NOT_ATTEMPTED = (
    "○ Not attempted yet: your answer is None. Write your lines in the cell above "
    "(a function ends with `return`) and run both cells."
)
IN_PLACE = "Your function changed one of its arguments in place."
RANDOM = "Your function draws random numbers: use only the noise that it is given."
DETACHED = (
    "The numbers are right, but no gradient can flow through your function: leave out .detach(), "
    ".item() and no_grad(), and give autograd.grad create_graph=True."
)
SHOWN = 6  # numbers of a tensor that a sentence can hold
_shown: Counter[str] = Counter()


def check(name: str, answer: Callable | float | Tensor | None) -> None:
    """Compare an answer to exercise "NN.k" with the package's, and say what came out.

    A function is called on fresh random cases, on every device; a number needs four digits.
    Raises ValueError for an exercise that does not exist.
    """
    fresh = torch.Generator().manual_seed(secrets.randbits(63))
    said = verdict(find(name), answer, fresh)
    note(name, said)
    say(said)


def hint(name: str) -> None:
    """Show one more hint for exercise "NN.k" each time it is called."""
    hints = find(name).hints
    if _shown[name] == len(hints):
        say("○ No more hints: the solution is folded below the check.")
        return
    _shown[name] += 1
    say(f"○ Hint {_shown[name]} of {len(hints)}: {hints[_shown[name] - 1]}")


def verdict(exercise: Exercise, answer: object, generator: torch.Generator) -> str:
    """Return the sentence on an answer; it begins with ✓, ✗ or ○."""
    if answer is None:
        return NOT_ATTEMPTED
    with warnings.catch_warnings(), no_default_device():
        warnings.simplefilter("ignore")
        cases = exercise.cases(generator)
        if callable(answer):
            answer = partial(exercise.use, answer) if exercise.use else answer
            return _judge(exercise.used(), answer, cases)
        if cases != [()]:
            kind = type(answer).__name__
            return f"✗ Not yet. The answer should be a function, yours is a {kind}."
        return _judge_number(exercise, answer)


def _judge(exercise: Exercise, answer: Callable, cases: list[tuple]) -> str:
    """Return the verdict on a function: its results on each device, the CPU first; its graph."""
    for device in reversed(available_devices()):
        moved = [on(device, case) for case in cases]
        problem = _problem(exercise, answer, [case for case in moved if case is not None])
        if problem:
            return problem
    lost = any(_loses_gradient(exercise.truth, answer, case) for case in cases)
    return f"✗ Not yet. {DETACHED}" if lost else "✓ Right, on every case tried."


def _problem(exercise: Exercise, answer: Callable, cases: list[tuple]) -> str:
    """Return the verdict on a function that is not right in all of these cases, or nothing.

    Unless a mistake is recognised, it shows the failing case with the fewest numbers.
    """
    results, problems = [], []
    for case in cases:
        mine, wanted = copied(case), exercise.truth(*copied(case))
        state, given = torch.get_rng_state(), call(answer, mine)
        if given is None and not results:
            return NOT_ATTEMPTED
        if isinstance(given, Stopped) and given.cause == "endless":
            return f"✗ Not yet. {given.sentence}"
        if _changed(case, mine) or (isinstance(given, Stopped) and "in-place" in given.sentence):
            return f"✗ Not yet. {IN_PLACE}"
        if not torch.equal(state, torch.get_rng_state()):
            return f"✗ Not yet. {exercise.draws or RANDOM}"
        results.append(given)
        said = difference(given, wanted, _tolerance(exercise, case)) or misplaced(given, wanted)
        if said:
            size = sum(x.numel() for x in tensors(case))
            problems.append((size, said + _description(exercise.truth, case)))
    if not problems:
        return ""
    _, smallest = min(problems, key=lambda found: found[0])
    return f"✗ Not yet. {_named(exercise, cases, results) or smallest}"


def _judge_number(exercise: Exercise, answer: object) -> str:
    tolerance, wanted = Tolerance(TYPED_RTOL, exercise.relative), exercise.truth()
    problem = difference(answer, wanted, tolerance)
    if not problem:
        return "✓ Right."
    for sentence, mistake in exercise.mistakes.items():
        if not difference(answer, mistake(), tolerance):
            return f"✗ Not yet. {sentence}"
    if problem.startswith("A number should be"):  # which would give the answer away
        problem = f"Your number is too {'large' if answer > wanted else 'small'}."
    return f"✗ Not yet. {problem}"


def _named(exercise: Exercise, cases: list[tuple], results: list) -> str:
    """Return the sentence of the first mistake with the same results in every case, or nothing."""
    for sentence, mistake in exercise.mistakes.items():
        if not any(
            difference(given, call(mistake, copied(case)), _tolerance(exercise, case))
            for case, given in zip(cases, results, strict=True)
        ):
            return sentence
    return ""


def _tolerance(exercise: Exercise, case: tuple) -> Tolerance:
    return Tolerance(rtol_of(case), exercise.relative)


def _changed(before: tuple, after: tuple) -> bool:
    old, new = tensors(before), tensors(after)
    return len(old) != len(new) or not all(map(torch.equal, old, new))


def _loses_gradient(truth: Callable, answer: Callable, case: tuple) -> bool:
    """Say whether the answer cuts the graph: no gradient for an argument that asks for one.

    Where no argument asks, all do, and one gradient that arrives is enough.
    """
    marked = any(x.requires_grad for x in tensors(case))
    if not marked:
        case = mapped(lambda x: x.clone().requires_grad_(x.is_floating_point()), case)
    needed = [g is not None and bool(g.any()) for g in gradients(truth, case)]
    given = call(gradients, (answer, case))
    if isinstance(given, Stopped):
        return any(needed)
    missing = [need and g is None for need, g in zip(needed, given, strict=True)]
    return any(missing) if marked else any(needed) and all(g is None for g in given)


def _written(value: list | float) -> str:
    """Return a number, or lists of numbers, with four digits."""
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _description(truth: Callable, case: tuple) -> str:
    """Return the arguments in words: numbers and small tensors by value, others by shape."""
    parts = []
    for name, value in zip(inspect.signature(truth).parameters, case, strict=False):
        if isinstance(value, Tensor) and value.numel() > SHOWN:
            parts.append(f"{name} of shape {tuple(value.shape)}")
        elif isinstance(value, Tensor | int | float):
            parts.append(f"{name} = {_written(value.tolist() if tensors(value) else value)}")
    devices = {str(x.device) for x in tensors(case)} - {"cpu"}
    return f" This was with {', '.join(parts + sorted(devices))}." if parts else ""
