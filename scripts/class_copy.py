"""Copy the lessons without their answers, for a class: `make class` writes them to class/.

Whatever is folded in a lesson (a solution, an answer) is left out. Beside the copies lies
lessons.md: minutes, aims and exercises of each. Nothing is written where the folder is there.
"""

import argparse
import re
import sys
from pathlib import Path

import nbformat
from build_notebooks import notebook_of, sources
from nbformat import NotebookNode

FOLDED = re.compile(r"<details>.*?</details>\s*", re.DOTALL)
TITLE = re.compile(r"^(?:#+ (?:Deeper: )?|\*\*)((?:Exercise|Exhibit)\b[^*\n]*)", re.MULTILINE)


def without_answers(nb: NotebookNode) -> NotebookNode:
    """Return a lesson without what is folded in it, and without the cells that held no more."""
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cell.source = FOLDED.sub("", cell.source).strip()
    nb.cells = [cell for cell in nb.cells if cell.source]
    return nb


def exercises(nb: NotebookNode) -> dict[str, str]:
    """Return the title above each check, by the names that are checked: {"01.1": "Exercise 1."}."""
    found, title = {}, ""
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            title = (TITLE.findall(cell.source) or [title])[-1]
        else:
            found |= dict.fromkeys(re.findall(r'lab\.check\("([^"]+)"', cell.source), title)
    return found


def page(nb: NotebookNode) -> str:
    """Return what a teacher wants to know of a lesson, as markdown."""
    top = nb.cells[0].source
    title = re.match(r"# (.*)", top)[1]
    minutes = re.search(r"\*\*Time\*\*:.*?about (\d+)", top)[1]
    aims = re.search(r"\*\*At the end you can\*\*\n((?:- .*\n?)+)", top)[1]
    tasks = "\n".join(f"- {name}: {said}" for name, said in exercises(nb).items())
    return f"## {title}\n\n{minutes} minutes. At the end you can\n{aims}\nExercises:\n{tasks}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Copy the lessons without their answers.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("class"))
    folder = parser.parse_args().folder
    if folder.exists():
        print(f"{folder} is there already: move it or name another folder", file=sys.stderr)
        return 1
    folder.mkdir(parents=True)
    pages = []
    for path in map(notebook_of, sources()):
        lesson = without_answers(nbformat.read(path, 4))
        nbformat.write(lesson, folder / path.name)
        pages.append(page(lesson))
    (folder / "lessons.md").write_text("# The lessons\n\n" + "\n".join(pages), encoding="utf-8")
    print(f"{len(pages)} lessons without answers, and lessons.md, are in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
