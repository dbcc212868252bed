"""lessons.csv: what a lesson may cost. Seconds are records, on one thread beside another lesson.

minutes: of a reader, with the exercises. words: at most, on the main road. kilobytes: at most, as
built. full_s, short_s: as scripts/check_lessons.py printed them, in full and --offline; a test
cannot measure them, as it would then depend on how busy the machine is.
"""

import csv
import re
from pathlib import Path

import build_notebooks as build
import pytest

ROOT = Path(__file__).resolve().parent.parent
with (Path(__file__).parent / "lessons.csv").open(encoding="utf-8") as file:
    TABLE = {row.pop("lesson"): {k: int(v) for k, v in row.items()} for row in csv.DictReader(file)}
SOURCES = {source.stem: source for source in build.sources()}
EVERY = pytest.mark.parametrize("name", SOURCES)
WORDS, KILOBYTES, CHECKPOINTS = 2_500, 1_000, 11_000  # of a road, a notebook, all networks


def road(source: Path) -> str:
    """Return the markdown outside Deeper sections and folded solutions."""
    kept, level = [], 0  # of the heading that folds; 0: none does
    for cell in build.lesson(source).cells:
        heading = re.match(r"#+ ", cell.source)
        if cell.cell_type != "markdown":
            continue
        if heading and (not level or len(heading[0]) - 1 <= level):
            folds = cell.metadata.get("jp-MarkdownHeadingCollapsed")
            level = len(heading[0]) - 1 if folds else 0
        if not level:
            kept.append(re.sub(r"<details>.*?</details>", "", cell.source, flags=re.S))
    return "\n".join(kept)


def test_every_lesson_has_a_row():
    assert list(TABLE) == list(SOURCES)


@EVERY
def test_a_road_has_no_more_words_than_its_row_says(name):
    assert len(road(SOURCES[name]).split()) <= TABLE[name]["words"] <= WORDS


@EVERY
def test_a_notebook_has_no_more_bytes_than_its_row_says(name):
    assert build.notebook_of(SOURCES[name]).stat().st_size <= 1_000 * TABLE[name]["kilobytes"]
    assert TABLE[name]["kilobytes"] <= KILOBYTES


@EVERY
def test_one_number_of_minutes_in_the_lesson_the_map_and_the_table(name):
    number, the_map = name.split("_")[0], road(build.sources()[0])
    said = re.search(r"\*\*Time\*\*: .*?about (\d+)", road(SOURCES[name]))
    on_the_map = re.search(rf"^\| {number} \|.* (\d+) \|$", the_map, re.M)
    assert int(said[1]) == int(on_the_map[1]) == TABLE[name]["minutes"]


@EVERY
def test_a_lesson_was_measured_and_is_done_in_minutes(name):
    row = TABLE[name]
    assert 0 < row["full_s"] <= (400 if name == "06_mnist" else 120)
    assert 0 < row["short_s"] <= 60


def test_all_networks_of_the_course_are_small_together():
    files = list((ROOT / "diffusion_core" / "assets").glob("*.safetensors"))
    assert files and sum(file.stat().st_size for file in files) <= 1_000 * CHECKPOINTS
