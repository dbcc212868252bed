"""A learner's answers survive every update of the course."""

import json
import os
import subprocess
import sys
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


def test_what_was_laid_beside_is_not_overwritten_once_it_is_edited(folders):
    lessons, work = folders
    working_copy.update(lessons, work)
    write(work / "01_a.ipynb", "return 42")
    write(lessons / "01_a.ipynb", "return None  # better")
    working_copy.update(lessons, work)
    write(work / "01_a.new.ipynb", "return 43")
    assert "01_a.new2.ipynb" in working_copy.update(lessons, work)[0]
    assert source(work / "01_a.new.ipynb") == "return 43"
    assert working_copy.update(lessons, work) == []
    write(lessons / "01_a.ipynb", "return None  # best")  # new2 is untouched, and follows
    assert "01_a.new2.ipynb" in working_copy.update(lessons, work)[0]
    assert source(work / "01_a.new2.ipynb") == "return None  # best"
    write(work / "01_a.new2.ipynb", "return 44")
    write(lessons / "01_a.ipynb", "return None  # best of all")
    assert "01_a.new3.ipynb" in working_copy.update(lessons, work)[0]
    kept = [source(work / f"01_a{part}.ipynb") for part in ("", ".new", ".new2")]
    assert kept == ["return 42", "return 43", "return 44"]


GOOD = json.dumps({"cells": [{"cell_type": "code", "source": ["1"]}]}).encode()
UNREADABLE = {
    "empty": b"",
    "cut off": GOOD[:20],
    "a BOM": b"\xef\xbb\xbf" + GOOD,
    "a merge conflict": b"<<<<<<< HEAD\n" + GOOD,
    "nbformat 3": b'{"worksheets": [{"cells": []}], "nbformat": 3}',
    "another encoding": b'{"cells": ["\xff"]}',
    "a list": b"[1]",
    "cells that are none": b'{"cells": [1, null]}',
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_a_file_that_cannot_be_read_is_kept_and_stops_nothing(folders, content):
    lessons, work = folders
    work.mkdir()
    (work / "01_a.ipynb").write_bytes(content)
    said = working_copy.update(lessons, work)
    assert "01_a.ipynb: cannot be read" in said[0] and said[1] == "02_b.ipynb: copied"
    assert (work / "01_a.ipynb").read_bytes() == content
    assert working_copy.with_old_imports(work) == []
    write(lessons / "02_b.ipynb", "return None  # better")
    assert working_copy.update(lessons, work)[1] == "02_b.ipynb: copied"


def test_a_folder_in_the_place_of_a_lesson_stops_nothing(folders):
    (folders[1] / "01_a.ipynb").mkdir(parents=True)
    assert len(working_copy.update(*folders)) == 2


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"01_a.ipynb": null}'], ids=str)
def test_without_a_record_that_can_be_read_every_lesson_counts_as_changed(folders, content):
    lessons, work = folders
    working_copy.update(lessons, work)
    (work / ".copied.json").write_bytes(content)
    write(lessons / "01_a.ipynb", "return None  # better")
    working_copy.update(lessons, work)
    assert source(work / "01_a.ipynb") == "return None"
    assert source(work / "01_a.new.ipynb") == "return None  # better"


def test_what_was_copied_is_recorded_before_the_next_lesson(folders, monkeypatch):
    lessons, work = folders
    whole = working_copy.Record.copy

    def copy(self, lesson, path, new):
        if lesson.name == "02_b.ipynb":
            raise OSError("the disk is full")
        whole(self, lesson, path, new)

    monkeypatch.setattr(working_copy.Record, "copy", copy)
    assert "the disk is full" in working_copy.update(lessons, work)[1]
    assert list(json.loads((work / ".copied.json").read_text())) == ["01_a.ipynb"]
    assert not list(work.glob(".copying-*"))


def test_a_protected_course_file_gives_a_copy_that_can_be_written_and_updated(folders):
    lessons, work = folders
    (lessons / "01_a.ipynb").chmod(0o444)
    working_copy.update(lessons, work)
    assert (work / "01_a.ipynb").stat().st_mode & 0o200
    (work / "01_a.ipynb").chmod(0o444)
    (lessons / "01_a.ipynb").chmod(0o644)
    write(lessons / "01_a.ipynb", "return None  # better")
    assert working_copy.update(lessons, work) == ["01_a.ipynb: copied"]


def test_another_kind_of_cell_counts_as_changed(folders):
    lessons, work = folders
    working_copy.update(lessons, work)
    mine = json.loads((work / "01_a.ipynb").read_text())
    mine["cells"][0]["cell_type"] = "markdown"
    (work / "01_a.ipynb").write_text(json.dumps(mine))
    write(lessons / "01_a.ipynb", "return None  # better")
    assert "01_a.new.ipynb" in working_copy.update(lessons, work)[0]


def test_a_console_that_knows_few_letters_stops_nothing(folders):
    work = folders[1]
    root = work.parent.with_name("日本")
    work.parent.rename(root)
    (root / "scripts").mkdir()
    script = root / "scripts" / "working_copy.py"
    script.write_text(Path(working_copy.__file__).read_text("utf-8"), "utf-8")
    env = os.environ | {"PYTHONIOENCODING": "ascii:strict"}
    run = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True)
    assert run.returncode == 0 and "01_a.ipynb: copied" in run.stdout, run.stderr


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
