"""The exercises of every lesson: lesson_NN.py holds those named "NN.k". Each loads when asked."""

import importlib
import pkgutil

from .exercise import Exercise

__all__ = ["Exercise", "find", "lesson", "lessons"]


def lessons() -> list[str]:
    """Return the numbers of the lessons that have exercises: ["02", "05", ...]."""
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    return sorted(name.removeprefix("lesson_") for name in names if name.startswith("lesson_"))


def lesson(number: str) -> dict[str, Exercise]:
    """Return the exercises of one lesson by their names."""
    return importlib.import_module(f".lesson_{number}", __name__).EXERCISES


def find(name: str) -> Exercise:
    """Return the exercise with this name. Raises ValueError where there is none."""
    number = name.split(".")[0]
    known = lesson(number) if number in lessons() else {}
    if name not in known:
        raise ValueError(f"there is no exercise {name!r} among {', '.join(known) or lessons()}")
    return known[name]
