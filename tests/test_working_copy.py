"""A learner's answers survive every update of the course."""

import json
from pathlib import Path

import pytest
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


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("import torch\nfrom diffusion_core import lab", True),
        ("from diffusion_core import data, lab, toys", True),
        ("from diffusion_core import (\n    data,\n    lab,\n)", True),
        ("from diffusion_core.lab import museum", True),
        ("import diffusion_core.lab as lab", True),
        ("import diffusion_lab as lab\nfrom diffusion_core import data, toys", False),
        ("from diffusion_lab import museum", False),
        ("from diffusion_core import data  # not the lab", False),
        ("from diffusion_core import data\nlab = 1", False),
        ("# once: from diffusion_core import lab", False),
        ("from diffusion_core import labels", False),
    ],
)
def test_a_lesson_that_still_imports_lab_from_the_core_is_named(folders, text, named):
    lessons, work = folders
    working_copy.update(lessons, work)
    write(work / "02_b.ipynb", text)
    assert working_copy.with_old_imports(work) == ["02_b.ipynb"] * named


def test_the_sentence_says_what_to_write(folders, monkeypatch, capsys):
    _, work = folders
    monkeypatch.setattr(working_copy, "ROOT", work.parent)
    monkeypatch.setattr("sys.argv", ["working_copy.py"])
    working_copy.main()
    assert "diffusion_lab" not in capsys.readouterr().out
    write(work / "01_a.ipynb", "from diffusion_core import lab")
    write(work / "02_b.ipynb", "from diffusion_core.lab import museum")
    working_copy.main()
    (line,) = [x for x in capsys.readouterr().out.splitlines() if "diffusion_lab" in x]
    assert "01_a.ipynb, 02_b.ipynb" in line and "`import diffusion_lab as lab`" in line
