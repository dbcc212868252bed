"""What every lesson keeps to: it is built, whole, short in its cells, and safe to open anywhere."""

import ast
import re
from collections import Counter
from pathlib import Path

import build_notebooks as build
import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = build.sources()
EVERY = pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.stem)
IGNORED_CELLS = 0  # cells whose output is not compared: only those that time or name the machine


def built(source: Path) -> nbformat.NotebookNode:
    return nbformat.read(build.notebook_of(source), 4)


def code_cells(nb: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def outputs(nb: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in code_cells(nb) for output in cell.outputs]


def definitions(text: str) -> list[str]:
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [node.name for node in ast.parse(text).body if isinstance(node, kinds)]


def test_there_are_lessons():
    assert SOURCES
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert notebooks == [build.notebook_of(source) for source in SOURCES], "a lesson has no source"


@EVERY
def test_a_lesson_is_built_from_its_source(source):
    assert build.is_current(source), "run `make build`"
    fresh, stored = build.lesson(source), built(source)
    assert [c.source for c in fresh.cells] == [c.source for c in stored.cells]
    assert [c.id for c in fresh.cells] == [c.id for c in stored.cells]


@EVERY
def test_a_lesson_was_executed_from_top_to_bottom_without_an_error(source):
    nb = built(source)
    counts = [cell.execution_count for cell in code_cells(nb)]
    assert counts == list(range(1, len(counts) + 1))
    assert not [o for o in outputs(nb) if o.output_type == "error" or o.get("name") == "stderr"]


@EVERY
def test_every_claim_was_checked_and_held_when_a_lesson_was_built(source):
    claims = [line for o in outputs(built(source)) for line in o.get("text", "").splitlines()]
    assert not [line for line in claims if re.search(r"\[(does not hold here|not checked): ", line)]


@EVERY
def test_no_lesson_depends_on_how_fast_the_machine_is(source):
    code = "\n".join(cell.source for cell in code_cells(build.lesson(source)))
    assert not re.search(r"\bseconds=|\bimport time\b|perf_counter|monotonic", code)


@EVERY
def test_a_lesson_is_safe_to_open_without_a_kernel(source):
    nb = built(source)
    assert build.notebook_of(source).stat().st_size <= 1_000_000
    assert "widgets" not in nb.metadata
    for output in outputs(nb):
        output.get("data", {}).pop("image/png", None)
    text = nbformat.writes(nb)
    assert build.WIDGET_VIEW not in text
    assert not re.search(r"/home/|/Users/|/tmp/|[A-Z]:\\\\", text), "a path of one machine"
    assert not re.search(r"^<.*0x", text, re.M) and " at 0x" not in text, "an object, not a result"


@EVERY
def test_every_picture_has_a_sentence(source):
    for output in outputs(built(source)):
        data = output.get("data", {})
        if "image/png" in data:
            assert data["text/plain"].endswith("."), data["text/plain"]


@EVERY
def test_cells_are_short_and_explained(source):
    nb = build.lesson(source)
    code = code_cells(nb)
    assert len(nb.cells) - len(code) >= len(code), "as much prose as code"
    for cell in code:
        assert len(cell.source.splitlines()) <= 25, cell.source
        assert len(definitions(cell.source)) <= 1, cell.source
    set_up = [line for line in code[0].source.splitlines() if line]
    assert len(set_up) <= 10, "the set-up cell"
    assert not re.search(r"pip install|@interact|plt\.|ipympl", source.read_text("utf-8"))


@EVERY
def test_no_cell_holds_a_control_character(source):
    """A backslash that was eaten leaves one: \\b of \\bar, \\a of \\alpha."""
    for cell in built(source).cells:
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", cell.source), cell.source


def test_no_function_is_defined_in_two_lessons():
    names = Counter()
    for source in SOURCES:
        names.update(
            {name for cell in code_cells(build.lesson(source)) for name in definitions(cell.source)}
        )
    assert [name for name, count in names.items() if count > 1] == []


def test_few_cells_are_not_compared():
    ignored = [
        cell.id
        for source in SOURCES
        for cell in code_cells(built(source))
        if "nbval-ignore-output" in cell.metadata.get("tags", []) or "NBVAL_" in cell.source
    ]
    assert len(ignored) == IGNORED_CELLS, ignored


# For each exhibit its name and its function; in the first hall also a whole program.
MOST_EXERCISES = {"14_bug_museum": 25, "14b_second_hall": 18}


@EVERY
def test_two_to_four_exercises_each_with_a_folded_solution(source):
    starters = build.lesson(source)
    solved = build.lesson(source, solved=True)
    is_folded = [c.source.startswith("<details><summary>Solution") for c in starters.cells]
    folded = [i for i, is_one in enumerate(is_folded) if is_one]
    changed = [a for a, b in zip(starters.cells, solved.cells, strict=True) if a.source != b.source]
    assert 2 <= len(folded) <= MOST_EXERCISES.get(source.stem, 4)
    assert len(changed) == len(folded)
    above = [[c for c in starters.cells[:i] if c.cell_type == "code"][-1] for i in folded]
    assert all("lab.check(" in cell.source for cell in above), "a solution stands above its check"


HEADING = re.compile(r"(#+) (Deeper: )?")  # at the start of a cell: level, and whether it folds


@EVERY
def test_a_deeper_section_is_folded_and_a_heading_of_its_level_or_above_ends_the_fold(source):
    """Without that heading the fold would swallow the road; a heading inside a cell ends none."""
    heads = [cell for cell in build.lesson(source).cells if cell.cell_type == "markdown"]
    heads = [(cell, HEADING.match(cell.source)) for cell in heads]
    heads = [(cell, len(found[1]), bool(found[2])) for cell, found in heads if found]
    for i, (cell, level, deeper) in enumerate(heads):
        assert bool(cell.metadata.get("jp-MarkdownHeadingCollapsed")) == deeper, cell.source[:60]
        assert not deeper or any(other <= level for _, other, _ in heads[i + 1 :]), cell.source[:60]
    text = "\n".join(cell.source for cell in build.lesson(source).cells)
    inside = len(re.findall(r"^#+ Deeper:", text, re.M))
    assert inside == sum(deeper for *_, deeper in heads), "a Deeper heading inside a cell"
    assert not swallowed(build.lesson(source).cells)


def swallowed(cells) -> list[str]:
    """Return the headings of a fold's level or above that stand inside a cell that it hides."""
    found, level = [], 0
    for cell in (cell for cell in cells if cell.cell_type == "markdown"):
        begins = re.match("#+ ", cell.source)
        if begins and (not level or len(begins[0]) - 1 <= level):
            level = cell.metadata.get("jp-MarkdownHeadingCollapsed", False) * (len(begins[0]) - 1)
        inside = re.findall(f"\n(#{{1,{level}}} .*)", cell.source) if level else []
        found += inside
    return found


def test_a_changed_source_is_noticed(tmp_path, monkeypatch):
    source = tmp_path / "src" / "02_forward_process.py"
    source.parent.mkdir()
    source.write_text(SOURCES[0].read_text("utf-8"), "utf-8")
    monkeypatch.setattr(build, "NOTEBOOKS", tmp_path)
    stored = build.NOTEBOOKS / "02_forward_process.ipynb"
    assert not build.is_current(source), "not built yet"
    nbformat.write(build.lesson(source), stored)
    assert build.is_current(source)
    source.write_text(source.read_text("utf-8") + "\n# %%\n1 + 1\n", "utf-8")
    assert not build.is_current(source)
