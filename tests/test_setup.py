"""The set-up: dependencies named once, versions pinned once, commands that do what they say."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import check_core
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
needs_make = pytest.mark.skipif(
    os.name == "nt" or shutil.which("make") is None, reason="for make and a Unix shell"
)

# A package whose name is not the name that is imported.
PACKAGE_OF = {"sklearn": "scikit-learn", "PIL": "pillow", "yaml": "pyyaml"}
# The core and each extra: where its imports are.
IMPORTING = {
    "core": ["diffusion_core/**/*.py"],
    "lab": [
        "diffusion_lab/**/*.py",
        "notebooks/src/*.py",
        "scripts/working_copy.py",
        "scripts/train_*.py",
    ],
    "test": ["tests/**/*.py", "scripts/*.py", "benchmarks/*.py"],
}
# What is named though nothing of ours imports it.
NOT_IMPORTED = {
    "core": set(),
    "lab": {"jupyterlab", "ipykernel"},  # `make lab` runs it; the kernel of every lesson
    "test": {"nbval", "pytest-xdist", "pre-commit", "ruff"},  # plugins of pytest; commands
}
NOT_NAMED = {"denoising-diffusion-pytorch"}  # benchmarks/mnist.py measures it where it is installed


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


def named(part: str) -> set[str]:
    """Packages that pyproject.toml names for the core or an extra, without those it includes."""
    lines = PROJECT["optional-dependencies"].get(part, PROJECT["dependencies"])
    names = [canonicalize_name(Requirement(line).name) for line in lines]
    assert len(set(names)) == len(names), "a package twice"
    return set(names) - {PROJECT["name"]}


@cache
def imported(part: str) -> set[str]:
    """Packages imported there, also inside functions; ours and Python's own are left out."""
    files = [file for pattern in IMPORTING[part] for file in ROOT.glob(pattern)]
    ours = {"diffusion_core", "diffusion_lab"}
    for folder in ["tests", "scripts", "benchmarks"]:
        ours |= {file.stem for file in (ROOT / folder).glob("*.py")}
    found = set()
    for node in [n for f in files for n in ast.walk(ast.parse(f.read_text("utf-8")))]:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
    found -= ours | sys.stdlib_module_names
    return {canonicalize_name(PACKAGE_OF.get(name, name)) for name in found}


@pytest.mark.parametrize("part", IMPORTING)
def test_pyproject_names_what_is_imported_and_nothing_else(part):
    below = {"core": [], "lab": ["core"], "test": ["core", "lab"]}[part]
    named_below = {name for other in below for name in named(other)}
    assert not named(part) & named_below, "named twice"
    assert not NOT_IMPORTED[part] & imported(part), "imported by now"
    assert named(part) == (imported(part) | NOT_IMPORTED[part]) - named_below - NOT_NAMED


def test_one_extra_includes_the_other():
    includes = {
        extra: [line for line in lines if line.startswith(PROJECT["name"])]
        for extra, lines in PROJECT["optional-dependencies"].items()
    }
    assert includes == {"lab": [], "test": ["diffusion-core[lab]"]}


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
    assert delegated == {"pip": ["-c constraints.txt", "-e .[lab]"]}
    assert PROJECT["requires-python"] == ">=3.11"


def test_workflow_runs_what_everyone_runs():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    assert {"push", "pull_request", "schedule"} <= workflow[True].keys()  # YAML 1.1: on is True
    assert {job["timeout-minutes"] for job in workflow["jobs"].values()} == {120}
    course, windows = workflow["jobs"]["course"], workflow["jobs"]["windows"]
    assert course["strategy"]["matrix"]["os"] == ["ubuntu-latest", "macos-latest"]
    assert course["strategy"]["matrix"]["python"][0] == "3.11"
    (command,) = commands(course)
    assert command.startswith(".ci/run") and os.access(ROOT / ".ci/run", os.X_OK)
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert len(commands(windows)) == 6
    for command in commands(windows):
        typed = re.sub(r"\$\{\{.*\}\}", "-c constraints.txt", command).split(" --")[0]
        assert typed.replace(".[test]", ".[lab]") in readme


def commands(job: dict) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_a_cloud_workspace_uses_the_same_commands():
    workspace = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text("utf-8"))
    assert workspace["updateContentCommand"] == "make lab LAB_ARGS=--version"  # does not stay
    assert "LAB_ARGS" in workspace["containerEnv"]
    assert workspace["image"].endswith(":3.11")


def test_ci_run_tries_the_core_alone_and_make_test_does_not():
    assert 'make "$@" core\n' in (ROOT / ".ci/run").read_text("utf-8")
    (test,) = re.findall(r"^test: (.*?) ##", (ROOT / "Makefile").read_text("utf-8"), re.M)
    assert test.split() == ["unit", "lessons"]


def test_the_complete_program_of_the_readme_runs(monkeypatch):
    monkeypatch.setenv("DIFFUSION_SHORT_RUN", "1")
    monkeypatch.setenv("TQDM_DISABLE", "1")
    names = {}
    exec(check_core.complete_program(), names)
    assert names["step"].x_t.shape == (2000, 2)


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
PIP = "-m pip install -c constraints.txt -e ."
# By goal: the extra it installs, and what it runs then.
EXTRA = {"lab": "[lab]", "unit": "[test]"}
RUNS = {"lab": ["scripts/working_copy.py", "-m jupyterlab"], "unit": ["-m pytest tests -n auto"]}


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

    def make(self, goal: str, *arguments: str) -> tuple[list[str], str]:
        """What a goal asked of Python (JupyterLab: without its options), and its messages."""
        log = self.fake / "log"
        log.write_text("")
        env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
        env.pop("CONSTRAINTS", None)
        env.update(FAKE=str(self.fake), PYTHON=str(self.fake / "python3"))
        command = ["make", goal, *arguments]
        run = subprocess.run(command, cwd=self.path, env=env, capture_output=True, text=True)
        asked = re.sub("(?m)^-m jupyterlab .*$", "-m jupyterlab", log.read_text())
        return asked.splitlines(), run.stdout + run.stderr

    def installs(self, goal: str, *arguments: str) -> list[str]:
        """What a goal asked of Python before it ran what it is there for."""
        asked = self.make(goal, *arguments)[0]
        runs = RUNS[goal]
        assert asked[-len(runs) :] == runs
        return asked[: -len(runs)]


@pytest.fixture
def course(tmp_path: Path) -> Course:
    return Course(tmp_path)


every_goal = pytest.mark.parametrize("goal", EXTRA)


@needs_make
@every_goal
def test_a_second_run_installs_nothing(course, goal):
    assert course.installs(goal) == [VENV, PIP + EXTRA[goal]]
    assert course.installs(goal) == []


@needs_make
def test_tests_need_more_than_a_learner(course):
    assert course.installs("lab") == [VENV, PIP + "[lab]"]
    assert course.installs("unit") == [PIP + "[test]"]
    assert course.installs("unit") == course.installs("lab") == []


@needs_make
def test_a_learner_needs_nothing_that_tests_do_not(course):
    assert course.installs("unit") == [VENV, PIP + "[test]"]
    assert course.installs("lab") == []


@needs_make
@every_goal
def test_changed_requirements_are_installed(course, goal):
    course.installs("lab")
    course.installs("unit")
    for name in ["pyproject.toml", "constraints.txt"]:
        with (course.path / name).open("a") as file:
            file.write("# changed\n")
        assert course.installs(goal) == [PIP + EXTRA[goal]]
    newest = [PIP.replace("-c constraints.txt ", "") + EXTRA[goal]]
    assert course.installs(goal, "CONSTRAINTS=") == newest


@needs_make
def test_requirements_changed_back_are_installed_again(course):
    course.installs("lab")
    text = (course.path / "constraints.txt").read_text("utf-8")
    (course.path / "constraints.txt").write_text(text + "# changed\n", "utf-8")
    assert course.installs("unit") == [PIP + "[test]"]
    (course.path / "constraints.txt").write_text(text, "utf-8")
    assert course.installs("lab") == [PIP + "[lab]"]


@needs_make
@every_goal
def test_a_stale_environment_is_made_anew(course, goal):
    anew = [VENV, PIP + EXTRA[goal]]
    course.make(goal)
    course.path = course.path.rename(course.path.with_name("moved course"))
    assert course.installs(goal) == anew
    (course.path / ".venv/bin/python").unlink()
    assert course.installs(goal) == anew
    course.use("Python 3.12.1")
    assert course.installs(goal) == anew
    assert course.installs(goal) == []


@needs_make
@every_goal
def test_an_old_python_is_refused_in_words(course, goal):
    course.use("Python 3.9.2")
    asked, message = course.make(goal)
    assert asked == [] and "Python 3.11 or newer is needed" in message


@needs_make
def test_the_core_is_tried_with_the_tested_versions_or_the_newest(course):
    assert course.make("core")[0] == [VENV, "scripts/check_core.py constraints.txt"]
    assert course.make("core", "CONSTRAINTS=")[0] == ["scripts/check_core.py"]


def check_lessons(folder: Path) -> tuple[int, str]:
    """Exit status and report of the script for the notebooks of another course."""
    for part in ["scripts", "tests/nbval_sanitize.cfg"]:
        (folder / part).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    command = [sys.executable, str(folder / "scripts/check_lessons.py")]
    run = subprocess.run(command, capture_output=True, text=True)
    return run.returncode, run.stdout


def write_lesson(
    folder: Path, counts: list[int | None], outputs: list[str], name: str = "01_lesson"
) -> None:
    """A lesson whose cells all print 2, with the counts and outputs it was saved with."""
    notebook = nbformat.v4.new_notebook()
    for count, output in zip(counts, outputs, strict=True):
        saved = [nbformat.v4.new_output("stream", text=output)]
        cell = nbformat.v4.new_code_cell("print(2)", execution_count=count, outputs=saved)
        notebook.cells.append(cell)
    (folder / "notebooks").mkdir(exist_ok=True)
    nbformat.write(notebook, folder / f"notebooks/{name}.ipynb")


def test_no_lessons_is_a_failure(tmp_path):
    status, report = check_lessons(tmp_path)
    assert status == 1 and "no lessons" in report


def test_each_unexecuted_lesson_fails(tmp_path):
    names = [f"{i:02}_lesson" for i in range(4)]
    for name, counts in zip(names, [[], [None], [1, None], [2, 1]], strict=True):
        write_lesson(tmp_path, counts, ["2\n"] * len(counts), name)
    status, report = check_lessons(tmp_path)
    assert status == 1
    assert re.findall(r"(\w+): FAILED: execution counts", report) == names


def test_outputs_are_compared(tmp_path):
    write_lesson(tmp_path, [1, 2], ["2\n", "3\n"])
    status, report = check_lessons(tmp_path)
    assert status == 1 and "1 failed, 1 passed" in report and "01_lesson: FAILED" in report


def test_no_test_changes_where_python_looks_for_modules():
    """pyproject.toml names the folders: pythonpath."""
    tests = (ROOT / "tests").rglob("*.py")
    assert not [p.name for p in tests if re.search(r"sys\.path", p.read_text("utf-8"))]
