"""The table of a learner's verdicts."""

import csv

import pytest

import diffusion_lab as lab
from diffusion_lab import verdicts


@pytest.fixture(autouse=True)
def nothing_tried(monkeypatch):
    monkeypatch.setattr(verdicts, "_tried", {})


def rows(path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_each_exercise_tried_has_a_row_with_its_tries(tmp_path, capsys):
    path = tmp_path / "results.csv"
    for answer in (0.8, None, 0.73**0.5):
        lab.check("00.1", answer)
    lab.check("01.2", -1.0)
    assert lab.results(path) == path
    assert rows(path) == [["exercise", "tries", "right"], ["00.1", "2", "1"], ["01.2", "1", "0"]]


def test_a_table_grows_from_lesson_to_lesson_and_forgets_nothing_right(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("exercise,tries,right\n00.1,3,1\n02.1,4,0\n", "utf-8")
    verdicts.note("00.1", "✗ Not yet. Too small.")
    verdicts.note("05.3", "✓ Right.")
    for _ in range(2):  # the second changes nothing
        lab.results(str(path))
        assert rows(path)[1:] == [["00.1", "1", "1"], ["02.1", "4", "0"], ["05.3", "1", "1"]]


@pytest.mark.parametrize("found", [b"my notes\n", b"", b"exercise,tries,right\n00.1,3\n", b"\xff"])
def test_another_file_is_left_as_it_is(tmp_path, found):
    path = tmp_path / "results.csv"
    path.write_bytes(found)
    with pytest.raises(
        ValueError, match=r"path must be new, or a table of exercise, tries, right, got "
    ):
        lab.results(path)
    assert path.read_bytes() == found
