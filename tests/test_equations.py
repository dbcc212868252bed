"""EQUATIONS.md names only what exists, leaves out no numbered equation, and each row is guarded."""

import ast
import re
import sys
from operator import attrgetter
from pathlib import Path

import pytest

import diffusion_core as dc

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
import plant_mistakes  # noqa: E402

ROWS = plant_mistakes.ledger()
PLANTS = plant_mistakes.plants()
EVERY = pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.number))


def numbers_of(lesson: Path) -> set[int]:
    """Return the numbers of a lesson's numbered equations."""
    return {int(number) for number in re.findall(r"\\tag\{(\d+)\}", lesson.read_text("utf-8"))}


NUMBERS = {
    path.name[:2]: numbers_of(path) for path in (ROOT / "notebooks/src").glob("[0-9][0-9]_*.py")
}


def test_rows_are_numbered_1_to_23():
    assert [row.number for row in ROWS] == list(range(1, 24))


@EVERY
def test_a_row_stands_in_just_the_lessons_it_names(row):
    assert row.lessons == sorted(n for n, numbers in NUMBERS.items() if row.number in numbers)


def test_every_numbered_equation_has_a_row():
    assert set().union(*NUMBERS.values()) <= {row.number for row in ROWS}


@EVERY
def test_a_row_names_functions_of_the_package(row):
    assert row.functions and all(callable(attrgetter(name)(dc)) for name in row.functions)


@EVERY
def test_a_row_names_tests_that_exist(row):
    assert row.tests
    for test in row.tests:
        file, name = test.split("::")
        body = ast.parse((ROOT / "tests" / file).read_text("utf-8")).body
        assert name in [node.name for node in body if isinstance(node, ast.FunctionDef)]
        assert name.startswith(f"test_row_{row.number:02}_")


def test_every_row_has_a_mistake_planted():
    assert {plant.row for plant in PLANTS} == {row.number for row in ROWS}


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: f"{plant.row} {plant.mistake}")
def test_a_mistake_is_found_once_and_leaves_python(plant):
    _, text = plant_mistakes.planted(plant)
    ast.parse(text)
    assert plant.old != plant.new
