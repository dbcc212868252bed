"""A class gets every lesson without an answer, and a page on each."""

import build_notebooks as build
import class_copy
import nbformat
import pytest

SOURCES = build.sources()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("copies") / "class"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["class_copy.py", str(place)])
        assert class_copy.main() == 0
        assert class_copy.main() == 1, "what is there is left alone"
    return place


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_no_answer_is_left_and_nothing_else_is_missing(folder, source):
    nb = nbformat.read(folder / f"{source.stem}.ipynb", 4)
    text = "\n".join(cell.source for cell in nb.cells)
    pairs = zip(build.lesson(source).cells, build.lesson(source, solved=True).cells, strict=True)
    changed = [(a, b) for a, b in pairs if a.source != b.source]
    assert changed and "<details>" not in text
    for starter, solved in changed:
        assert starter.source in text and solved.source not in text
    whole = nbformat.read(build.notebook_of(source), 4)
    code = [cell for cell in whole.cells if cell.cell_type == "code"]
    assert [cell for cell in nb.cells if cell.cell_type == "code"] == code


def test_the_page_has_minutes_aims_and_each_exercise(folder):
    page = (folder / "lessons.md").read_text("utf-8")
    assert page.count("minutes. At the end you can\n- ") == len(SOURCES)
    for source in SOURCES:
        for name in class_copy.exercises(build.lesson(source)):
            (line,) = [line for line in page.splitlines() if line.startswith(f"- {name}: ")]
            assert len(line) > len(f"- {name}: "), "without a title"
