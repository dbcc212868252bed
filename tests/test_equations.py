"""EQUATIONS.md names only what exists, leaves out no numbered equation, and each row is guarded."""

import ast
import re
from operator import attrgetter
from pathlib import Path

import plant_mistakes
import pytest

import diffusion_core as dc
from diffusion_core import checkpoints, data, processes  # noqa: F401  rows name their functions

ROOT = Path(__file__).resolve().parent.parent
TESTS = sorted((ROOT / "tests").glob("test_*.py"))
ROWS = plant_mistakes.ledger()
PLANTS = plant_mistakes.plants()
EVERY = pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.number))


def numbers_of(lesson: Path) -> set[int]:
    """Return the numbers of a lesson's numbered equations."""
    return {int(number) for number in re.findall(r"\\tag\{(\d+)\}", lesson.read_text("utf-8"))}


NUMBERS = {
    path.name.split("_")[0]: numbers_of(path)
    for path in (ROOT / "notebooks/src").glob("[0-9]*_*.py")
}


def test_rows_are_numbered_in_order():
    assert [row.number for row in ROWS] == list(range(1, 77))


@EVERY
def test_a_row_stands_in_just_the_lessons_it_names(row):
    assert row.lessons == sorted(n for n, numbers in NUMBERS.items() if row.number in numbers)


def test_every_numbered_equation_has_a_row():
    assert set().union(*NUMBERS.values()) <= {row.number for row in ROWS}


@EVERY
def test_a_row_names_functions_of_the_package(row):
    assert row.functions and all(callable(attrgetter(name)(dc)) for name in row.functions)


@EVERY
def test_a_row_names_just_the_files_that_hold_its_tests(row):
    holders = [path.name for path in TESTS if plant_mistakes.tests_of(row.number, path)]
    assert holders and sorted(row.files) == holders


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_every_test_that_is_named_after_a_row_is_found_as_its_test(path):
    """None is forgotten: each has a row's number, in two digits, and stands in no class."""
    names = re.findall(r"def (test_row_\w+)", path.read_text("utf-8"))
    found = [test for row in ROWS for test in plant_mistakes.tests_of(row.number, path)]
    assert sorted(f"{path.name}::{name}" for name in names) == sorted(found)


def test_every_row_has_a_mistake_planted():
    assert {plant.row for plant in PLANTS} == {row.number for row in ROWS}


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: f"{plant.row} {plant.mistake}")
def test_a_mistake_is_found_once_and_leaves_python(plant):
    _, text = plant_mistakes.planted(plant)
    ast.parse(text)
    assert plant.old != plant.new
