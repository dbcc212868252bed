"""Plant each mistake of mistakes.txt in a copy of the package: a test of its row must turn red.

The rows are those of EQUATIONS.md; the tests of row 7 are the functions test_row_07_* of the files
that it names. Each must pass on the package as it is, and fail under one mistake at least; every
mistake must be noticed. The working tree is never changed.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "diffusion_core"
TESTS = ROOT / "tests"
MISTAKES = Path(__file__).with_name("mistakes.txt")


class Row(NamedTuple):
    """One line of EQUATIONS.md: functions as `name` or `Class.name`, files as `test_name.py`."""

    number: int
    equation: str
    lessons: list[str]
    functions: list[str]
    files: list[str]

    @property
    def tests(self) -> list[str]:
        """The row's tests as `file.py::name`."""
        return [test for file in self.files for test in tests_of(self.number, TESTS / file)]


class Plant(NamedTuple):
    """A mistake: in module.function, the text `old` becomes `new`."""

    row: int
    function: str
    mistake: str
    old: str
    new: str


def ledger() -> list[Row]:
    """Read the table of EQUATIONS.md."""
    rows = []
    for line in (ROOT / "EQUATIONS.md").read_text("utf-8").splitlines():
        if re.match(r"\| \d", line):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            number, equation, lessons, functions, files = cells
            names = [re.findall(r"`([^`]+)`", cell) for cell in (functions, files)]
            rows.append(Row(int(number), equation, lessons.split(", "), *names))
    return rows


def tests_of(row: int, path: Path) -> list[str]:
    """Return the tests of a row in one file, as `file.py::name`."""
    names = re.findall(rf"^def (test_row_{row:02}_\w+)", path.read_text("utf-8"), re.M)
    return [f"{path.name}::{name}" for name in names]


def plants() -> list[Plant]:
    """Read mistakes.txt: a line that names the mistake, then `- old` and `+ new`."""
    lines = MISTAKES.read_text("utf-8").splitlines()
    lines = [line for line in lines if line and not line.startswith("#")]
    found = []
    for title, old, new in zip(*[iter(lines)] * 3, strict=True):
        row, function, mistake = re.fullmatch(r"(\d+) ([\w./]+): (.+)", title).groups()
        if old[:2] != "- " or new[:2] != "+ ":
            raise ValueError(f"{MISTAKES.name} must have - and + lines after: {title}")
        found.append(Plant(int(row), function, mistake, old[2:], new[2:]))
    return found


def planted(plant: Plant) -> tuple[Path, str]:
    """Return the file that a mistake changes, from the root, and its text with the mistake.

    Raises ValueError unless the old text stands in the function exactly once.
    """
    module, *names = plant.function.split(".")
    path = PACKAGE / f"{module}.py"
    text = path.read_text("utf-8")
    node = ast.parse(text)
    for name in names:
        node = next(part for part in node.body if getattr(part, "name", None) == name)
    function = ast.get_source_segment(text, node)
    if (times := function.count(plant.old)) != 1:
        raise ValueError(f"{plant.function} has {times} times, not once: {plant.old}")
    mistaken = function.replace(plant.old, plant.new)
    return path.relative_to(ROOT), text.replace(function, mistaken)


def red(tests: list[str], path: Path | None = None) -> set[str]:
    """Run tests, with the package found in the folder `path`, and return those that failed."""
    options = ["-q", "--tb=no", "-rf", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", *options, *(f"tests/{test}" for test in tests)],
        cwd=ROOT,
        env=os.environ | ({"PYTHONPATH": str(path)} if path else {}),
        capture_output=True,
        text=True,
    )
    failed = set(re.findall(r"^FAILED tests/(\S+?::\w+)", done.stdout, re.M))
    if done.returncode != (1 if failed else 0):
        raise RuntimeError(f"pytest could not run {tests}:\n{done.stdout}{done.stderr}")
    return failed


def red_when_planted(plant: Plant, tests: list[str]) -> set[str]:
    """Return those of the tests that fail with the mistake in a copy of the package."""
    name, text = planted(plant)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(PACKAGE, Path(folder, PACKAGE.name), ignore=lambda *_: ["__pycache__"])
        Path(folder, name).write_text(text, "utf-8")
        return red(tests, Path(folder))


def main() -> int:
    """Print a table of the mistakes of all rows, or of those named; 1 if something is wrong."""
    tests = {row.number: row.tests for row in ledger()}
    numbers = {int(number) for number in sys.argv[1:]} or set(tests)
    todo = [plant for plant in plants() if plant.row in numbers]
    watching = sorted({test for number in numbers for test in tests[number]})
    before, noticed, survived = red(watching), set(), 0
    print("row | mistake | function | test | before | after")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda plant: red_when_planted(plant, tests[plant.row]), todo)
        for plant, after in zip(todo, results, strict=True):
            noticed |= after
            survived += not after
            for test in sorted(after) or tests[plant.row]:
                states = "failed" if test in before else "passed", "failed" if after else "PASSED"
                print(
                    plant.row, plant.mistake, plant.function, test, *states, sep=" | ", flush=True
                )
    print(f"{len(todo)} mistakes, {survived} not noticed, {len(watching)} tests")
    blind = set(watching) - noticed
    for test in sorted(before | blind):
        print(test, "fails without a mistake" if test in before else "notices no mistake")
    return int(bool(survived or before or blind))


if __name__ == "__main__":
    sys.exit(main())
