"""Copy the lessons to work/, where a learner's answers stay their own: `make lab` does this first.

A lesson that is not in work/ yet is copied. One that was not touched since follows the course.
One that was changed is left alone; if the course has a newer version, that is laid beside it as
NAME.new.ipynb.
"""

import argparse
import hashlib
import json
import re
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The lab was once a part of the core. In parentheses the names may stand on several lines.
OLD_IMPORT = re.compile(
    r"^\s*(from diffusion_core import (\([^)]*|[^(#\n]*)\blab\b"
    r"|(from|import) diffusion_core\.lab\b)",
    re.MULTILINE,
)


def code_cells(path: Path) -> list[str]:
    """Return the source of each code cell."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def digest(path: Path) -> str:
    """Return the hash of a lesson's cells without their outputs: running it changes nothing."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def update(lessons: Path, work: Path) -> list[str]:
    """Bring work/ up to date; return one line for each lesson that was copied or laid beside."""
    work.mkdir(exist_ok=True)
    record = work / ".copied.json"
    copied = json.loads(record.read_text("utf-8")) if record.exists() else {}
    said = []
    for lesson in sorted(lessons.glob("[0-9]*.ipynb")):
        mine, new = work / lesson.name, digest(lesson)
        if not mine.exists() or digest(mine) == copied.get(lesson.name) != new:
            shutil.copy(lesson, mine)
            copied[lesson.name] = new
            said.append(f"{mine.name}: copied")
        elif copied.get(lesson.name) != new:
            beside = mine.with_suffix(".new.ipynb")
            if not beside.exists() or digest(beside) != new:
                shutil.copy(lesson, beside)
                said.append(f"{mine.name}: yours is kept; the newer one is {beside.name}")
    record.write_text(json.dumps(copied, indent=1), "utf-8")
    return said


def with_old_imports(work: Path) -> list[str]:
    """Return the names of the lessons in work/ that still import lab from diffusion_core."""
    lessons = sorted(work.glob("[0-9]*.ipynb"))
    return [lesson.name for lesson in lessons if any(map(OLD_IMPORT.search, code_cells(lesson)))]


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
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
