"""Copy the lessons to work/, where a learner's answers stay their own: `make lab` does this first.

A lesson that is not in work/ yet is copied. One that was not touched since follows the course.
One that was changed is left alone; if the course has a newer version, that is laid beside it as
NAME.new.ipynb, or NAME.new2.ipynb where that was changed, too. What cannot be read counts as
changed.
"""

import argparse
import hashlib
import itertools
import json
import os
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The lab was once a part of the core. In parentheses the names may stand on several lines.
OLD_IMPORT = re.compile(
    r"^\s*(from diffusion_core import (\([^)]*|[^(#\n]*)\blab\b"
    r"|(from|import) diffusion_core\.lab\b)",
    re.MULTILINE,
)


def cells_of(path: Path) -> list[dict] | None:
    """Return the cells of a lesson, or None where the file cannot be read as one.

    It may be empty or cut off, begin with a BOM, hold a merge conflict or another format.
    """
    try:
        cells = json.loads(path.read_text("utf-8"))["cells"]
        return [{**cell, "source": "".join(cell["source"])} for cell in cells]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def digest(path: Path) -> str | None:
    """Return the hash of a lesson's cells without their outputs: running it changes nothing."""
    cells = cells_of(path)
    if cells is None:
        return None
    written = [[c.get("cell_type"), c["source"], c.get("attachments", {})] for c in cells]
    return hashlib.sha256(json.dumps(written).encode()).hexdigest()


def put(content: bytes, path: Path) -> None:
    """Write a file whole or not at all, with the mode of any new file."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".copying-") as folder:
        new = Path(folder, path.name)
        new.write_bytes(content)
        os.replace(new, path)


class Record:
    """The hash of each file as it was copied, in .copied.json: what differs now was changed."""

    def __init__(self, work: Path) -> None:
        self.path = work / ".copied.json"
        try:
            found = json.loads(self.path.read_text("utf-8"))
        except (OSError, ValueError):  # none yet, or none that can be read: then all was changed
            found = {}
        self.copied = found if isinstance(found, dict) else {}

    def untouched(self, path: Path, found: str | None) -> bool:
        """Say whether a file, whose hash was found, is still as it was copied."""
        return found is not None and found == self.copied.get(path.name)

    def copy(self, lesson: Path, path: Path, new: str) -> None:
        """Copy a lesson's content, not its mode, and note its hash at once."""
        put(lesson.read_bytes(), path)
        self.copied[path.name] = new
        put(json.dumps(self.copied, indent=1).encode(), self.path)


def update(lessons: Path, work: Path) -> list[str]:
    """Bring work/ up to date; return a line for each lesson copied, laid beside, or unreadable."""
    work.mkdir(exist_ok=True)
    record, said = Record(work), []
    for lesson in sorted(lessons.glob("[0-9]*.ipynb")):
        try:
            said += update_one(lesson, work / lesson.name, record)
        except OSError as error:
            said.append(f"{lesson.name}: could not be copied ({error})")
    return said


def update_one(lesson: Path, mine: Path, record: Record) -> list[str]:
    """Bring one lesson up to date, and never overwrite what was changed."""
    new, found = digest(lesson), digest(mine)
    if new is None:
        return [f"{lesson.name}: the course's own file cannot be read"]
    if not os.path.lexists(mine) or (record.untouched(mine, found) and found != new):
        record.copy(lesson, mine, new)
        return [f"{mine.name}: copied"]
    if found is None:
        return [f"{mine.name}: cannot be read, and is left as it is; rename it to get a new copy"]
    if new in (found, record.copied.get(mine.name)):
        return []
    for number in itertools.chain([""], itertools.count(2)):
        beside = mine.with_suffix(f".new{number}.ipynb")
        if (there := digest(beside)) == new:
            return []
        if not os.path.lexists(beside) or record.untouched(beside, there):
            record.copy(lesson, beside, new)
            return [f"{mine.name}: yours is kept; the newer one is {beside.name}"]


def with_old_imports(work: Path) -> list[str]:
    """Return the names of the lessons in work/ that still import lab from diffusion_core."""
    lessons = {path.name: cells_of(path) or [] for path in sorted(work.glob("[0-9]*.ipynb"))}
    return [
        name
        for name, cells in lessons.items()
        if any(c.get("cell_type") == "code" and OLD_IMPORT.search(c["source"]) for c in cells)
    ]


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    if hasattr(sys.stdout, "reconfigure"):  # for a console that knows few letters
        sys.stdout.reconfigure(errors="backslashreplace")
    for line in update(ROOT / "notebooks", ROOT / "work"):
        print(line)
    if old := with_old_imports(ROOT / "work"):
        print(
            f"The lab has moved, so change the imports in {', '.join(old)}: in the place of "
            "`from diffusion_core import ..., lab` write `import diffusion_lab as lab`, the other "
            "names as before, and for `diffusion_core.lab` write `diffusion_lab`."
        )
    print(
        f"Your lessons are in {ROOT / 'work'}; nothing there is ever overwritten once you edit it."
    )


if __name__ == "__main__":
    main()
