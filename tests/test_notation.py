"""NOTATION.md names only what exists."""

import ast
import re
from pathlib import Path

import pytest

import diffusion_core as dc

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "NOTATION.md").read_text("utf-8")
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and "`" in line]
NAMES = [
    name for row in ROWS for name in re.findall(r"`(\w+)`", row.replace(r"\|", "").split("|")[2])
]


def used_names() -> set[str]:
    """Every variable, parameter, attribute and function in the code of the package."""
    names = set()
    for path in (ROOT / "diffusion_core").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names |= {getattr(node, field, None) for field in ("id", "arg", "attr", "name")}
    return names


USED = used_names()


def test_the_tables_hold_names():
    assert len(NAMES) > 25


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_used_by_the_package(name):
    assert name in USED


def test_every_table_of_a_schedule_is_listed():
    tables = {name for name in vars(dc.vp_schedule(10)) if not name.startswith("_")}
    assert tables <= set(NAMES)
