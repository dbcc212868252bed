"""A learner's answers survive every update of the course."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
import working_copy


@pytest.fixture
def folders(tmp_path):
    lessons = tmp_path / "notebooks"
    lessons.mkdir()
    write(lessons / "01_a.ipynb", "return None")
    write(lessons / "02_b.ipynb", "return None")
    return lessons, tmp_path / "work"


def write(path: Path, source: str, output: str = "") -> None:
    cell = {"cell_type": "code", "source": [source], "outputs": [output]}
    path.write_text(json.dumps({"cells": [cell]}), "utf-8")


def source(path: Path) -> str:
    return json.loads(path.read_text("utf-8"))["cells"][0]["source"][0]


def test_lessons_are_copied_once(folders):
    assert len(working_copy.update(*folders)) == 2
    assert working_copy.update(*folders) == []
    assert source(folders[1] / "01_a.ipynb") == "return None"


def test_an_untouched_lesson_follows_the_course_even_after_it_was_run(folders):
    lessons, work = folders
    working_copy.update(lessons, work)
    write(work / "01_a.ipynb", "return None", output="○ Not attempted yet")
    write(lessons / "01_a.ipynb", "return None  # better")
    assert working_copy.update(lessons, work) == ["01_a.ipynb: copied"]
    assert source(work / "01_a.ipynb") == "return None  # better"


def test_an_answer_is_never_overwritten(folders):
    lessons, work = folders
    working_copy.update(lessons, work)
    write(work / "01_a.ipynb", "return 42")
    assert working_copy.update(lessons, work) == []
    write(lessons / "01_a.ipynb", "return None  # better")
    (line,) = working_copy.update(lessons, work)
    assert "01_a.new.ipynb" in line
    assert source(work / "01_a.ipynb") == "return 42"
    assert source(work / "01_a.new.ipynb") == "return None  # better"
    assert working_copy.update(lessons, work) == []


def test_a_deleted_lesson_comes_back_and_other_files_stay(folders):
    lessons, work = folders
    working_copy.update(lessons, work)
    (work / "notes.txt").write_text("mine")
    (work / "02_b.ipynb").unlink()
    assert working_copy.update(lessons, work) == ["02_b.ipynb: copied"]
    assert (work / "notes.txt").read_text() == "mine"
