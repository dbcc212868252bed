"""The set-up: dependencies named once, versions pinned once, commands that do what they say."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
REQUIREMENTS = [
    Requirement(line)
    for lines in [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for line in lines
]
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def read_pins() -> dict[str, str]:
    """Name and version of each line of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    assert len({canonicalize_name(name) for name, _ in pins}) == len(pins), "a package twice"
    return {canonicalize_name(name): version for name, version in pins}


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_every_dependency_has_a_pin_within_its_bound(requirement):
    if requirement.name == PROJECT["name"]:  # one extra includes another
        assert requirement.extras <= PROJECT["optional-dependencies"].keys()
        return
    assert requirement.specifier, "no bound"
    assert requirement.specifier.contains(read_pins()[canonicalize_name(requirement.name)])


def test_pins_that_must_not_move_unnoticed():
    pins = read_pins()
    assert pins["torch"] == "2.13.0"  # without +cpu: CUDA builds satisfy it too
    assert pins["ipykernel"] == "6.31.0"
    assert pins["ipywidgets"] == "8.1.8"
    assert {"pip", "setuptools"}.isdisjoint(pins)
    bound = next(r.specifier for r in REQUIREMENTS if r.name == "ipykernel")
    assert not bound.contains("7.0.0") and bound.contains("6.31.0")


def test_environment_yml_delegates():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    python, pip, delegated = environment["dependencies"]
    assert (python, pip) == ("python=3.11", "pip")
    assert delegated == {"pip": ["-c constraints.txt", "-e .[test]"]}
    assert PROJECT["requires-python"] == ">=3.11"


def test_workflow_runs_what_everyone_runs():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    assert {"push", "pull_request", "schedule"} <= workflow[True].keys()  # YAML 1.1: on is True
    (job,) = workflow["jobs"].values()
    assert job["strategy"]["matrix"]["python"][0] == "3.11"
    (command,) = [step["run"] for step in job["steps"] if "run" in step]
    assert command.startswith(".ci/run") and os.access(ROOT / ".ci/run", os.X_OK)


def test_only_ci_run_knows_the_shared_data():
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    folder = b"shared" + b"/data"
    files = {name for name in listed.stdout.split("\0") if (ROOT / name).is_file()}
    assert {name for name in files if folder in (ROOT / name).read_bytes()} == {".ci/run"}


def test_contributing_is_short():
    assert len((ROOT / "CONTRIBUTING.md").read_text("utf-8").splitlines()) <= 80


@needs_make
@pytest.mark.parametrize("goal", [[], ["help"]], ids=["make", "make help"])
def test_help_lists_every_command(goal):
    text = subprocess.run(["make", *goal], cwd=ROOT, capture_output=True, text=True).stdout
    commands = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.M)
    assert re.findall(r"^make ([\w-]+) +\S", text, re.M) == commands[1].split()


# Stands in for Python: it notes what it is asked to do, and its `venv` installs a copy of itself.
FAKE_PYTHON = """#!/bin/sh
case "$1" in
    -V) cat "$FAKE/version" ;;
    -c) ! grep -q ' 3[.]9' "$FAKE/version" ;;
    *) echo "$*" >> "$FAKE/log"
       [ "$2" != venv ] || { rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python; } ;;
esac
"""
VENV = "-m venv --clear .venv"
PIP = "-m pip install -c constraints.txt -e .[test]"
UNIT = "-m pytest tests"


class Course:
    """A checkout with a space in its path, whose Python only notes what it is asked to do."""

    def __init__(self, folder: Path):
        self.fake, self.path = folder / "fake python", folder / "my course"
        self.fake.mkdir()
        self.path.mkdir()
        for name in ["Makefile", "pyproject.toml", "constraints.txt"]:
            shutil.copy(ROOT / name, self.path)
        (self.fake / "python3").write_text(FAKE_PYTHON)
        (self.fake / "python3").chmod(0o755)
        self.use("Python 3.11.7")

    def use(self, version: str) -> None:
        (self.fake / "version").write_text(version + "\n")

    def make(self, *arguments: str) -> tuple[list[str], str]:
        """What `make unit` asked of Python, and its messages."""
        log = self.fake / "log"
        log.write_text("")
        env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
        env.pop("CONSTRAINTS", None)
        env.update(FAKE=str(self.fake), PYTHON=str(self.fake / "python3"))
        command = ["make", "unit", *arguments]
        run = subprocess.run(command, cwd=self.path, env=env, capture_output=True, text=True)
        return log.read_text().splitlines(), run.stdout + run.stderr


@pytest.fixture
def course(tmp_path: Path) -> Course:
    return Course(tmp_path)


@needs_make
def test_a_second_run_installs_nothing(course):
    assert course.make()[0] == [VENV, PIP, UNIT]
    assert course.make()[0] == [UNIT]


@needs_make
def test_changed_requirements_are_installed(course):
    course.make()
    for name in ["pyproject.toml", "constraints.txt"]:
        with (course.path / name).open("a") as file:
            file.write("# changed\n")
        assert course.make()[0] == [PIP, UNIT]
    assert course.make("CONSTRAINTS=")[0] == [PIP.replace("-c constraints.txt ", ""), UNIT]


@needs_make
def test_a_stale_environment_is_made_anew(course):
    course.make()
    course.path = course.path.rename(course.path.with_name("moved course"))
    assert course.make()[0] == [VENV, PIP, UNIT]
    (course.path / ".venv/bin/python").unlink()
    assert course.make()[0] == [VENV, PIP, UNIT]
    course.use("Python 3.12.1")
    assert course.make()[0] == [VENV, PIP, UNIT]
    assert course.make()[0] == [UNIT]


@needs_make
def test_an_old_python_is_refused_in_words(course):
    course.use("Python 3.9.2")
    asked, message = course.make()
    assert asked == [] and "Python 3.11 or newer is needed" in message


def check_lessons(folder: Path) -> tuple[int, str]:
    """Exit status and report of the script for the notebooks of another course."""
    for part in ["scripts", "tests/nbval_sanitize.cfg"]:
        (folder / part).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    command = [sys.executable, str(folder / "scripts/check_lessons.py")]
    run = subprocess.run(command, capture_output=True, text=True)
    return run.returncode, run.stdout


def write_lesson(folder: Path, counts: list[int | None], outputs: list[str]) -> None:
    """A lesson whose cells all print 2, with the counts and outputs it was saved with."""
    notebook = nbformat.v4.new_notebook()
    for count, output in zip(counts, outputs, strict=True):
        saved = [nbformat.v4.new_output("stream", text=output)]
        cell = nbformat.v4.new_code_cell("print(2)", execution_count=count, outputs=saved)
        notebook.cells.append(cell)
    (folder / "notebooks").mkdir()
    nbformat.write(notebook, folder / "notebooks/01_lesson.ipynb")


def test_no_lessons_is_a_failure(tmp_path):
    status, report = check_lessons(tmp_path)
    assert status == 1 and "no lessons" in report


@pytest.mark.parametrize("counts", [[], [None], [1, None], [2, 1]], ids=str)
def test_an_unexecuted_lesson_fails(counts, tmp_path):
    write_lesson(tmp_path, counts, ["2\n"] * len(counts))
    status, report = check_lessons(tmp_path)
    assert status == 1 and "FAILED: execution counts" in report


def test_outputs_are_compared(tmp_path):
    write_lesson(tmp_path, [1, 2], ["2\n", "3\n"])
    status, report = check_lessons(tmp_path)
    assert status == 1 and "1 failed, 1 passed" in report and "01_lesson: FAILED" in report
