"""Build the lessons: notebooks/src/NN_name.py -> notebooks/NN_name.ipynb, executed.

A source is a Python file in jupytext's percent format. An exercise is a code cell with the lines
`# STARTER` and `# SOLUTION`: the learner gets what stands between them; what stands after the
second is folded below the next lab.check. A lesson whose source has not changed is not built again.
"""

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
FOLDED = "<details><summary>Solution{}</summary>\n\n```python\n{}\n```\n\n</details>"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def sources() -> list[Path]:
    """Return the lessons' sources in the order of the course."""
    return sorted((NOTEBOOKS / "src").glob("[0-9]*_*.py"))


def notebook_of(source: Path) -> Path:
    """Return where the lesson built from a source lies."""
    return NOTEBOOKS / f"{source.stem}.ipynb"


def sha256_of(source: Path) -> str:
    """Return the hash that a built lesson carries, the same with any line ends."""
    return hashlib.sha256(source.read_text("utf-8").encode()).hexdigest()


def is_current(source: Path) -> bool:
    """Say whether the built lesson was made from this very source."""
    path = notebook_of(source)
    if not path.exists():
        return False
    return nbformat.read(path, 4).metadata.get("source_sha256") == sha256_of(source)


def lesson(source: Path, *, solved: bool = False) -> NotebookNode:
    """Return the lesson, not yet executed: with the starters, or solved with the solutions."""
    nb = jupytext.reads(source.read_text("utf-8"), fmt="py:percent")
    cells, folded = [], []
    for cell in nb.cells:
        cells.append(cell)
        if cell.cell_type == "code" and "# SOLUTION\n" in cell.source:
            before, solution = cell.source.split("# SOLUTION\n")
            given, starter = before.split("# STARTER\n")
            cell.source = given + (solution if solved else starter).strip()
            what = ": the name" if solution.startswith("diagnosis = ") else ""
            folded.append(new_markdown_cell(FOLDED.format(what, solution.strip())))
        elif "lab.check(" in cell.source and cell.cell_type == "code":
            cells += folded
            folded = []
    for i, cell in enumerate(cells):
        cell.id = f"{source.stem}-{i:03d}"
    nb.cells = cells
    nb.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "source_sha256": sha256_of(source),
        }
    )
    return nb


def execute(nb: NotebookNode, env: Mapping[str, str] = os.environ) -> None:
    """Run every cell in the kernel of this environment; raises nbclient's error where one fails."""
    resources = {"metadata": {"path": str(NOTEBOOKS)}}
    NotebookClient(nb, timeout=3600, resources=resources).execute(env={**env, "TQDM_DISABLE": "1"})


def strip_live_state(nb: NotebookNode) -> None:
    """Drop what means nothing without a kernel: widget views and state, and times of execution."""
    nb.metadata.pop("widgets", None)
    for cell in nb.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET_VIEW, None)


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the lessons from notebooks/src.")
    parser.add_argument("names", nargs="*", help="numbers or names of lessons, all by default")
    parser.add_argument("--force", action="store_true", help="build what is current, too")
    parser.add_argument("--check", action="store_true", help="only say which lessons are stale")
    options = parser.parse_args()
    wanted = [s for s in sources() if not options.names or s.stem.startswith(tuple(options.names))]
    if not wanted:
        parser.error(f"no lesson in {NOTEBOOKS / 'src'} is named like {options.names}")
    stale = [source for source in wanted if options.force or not is_current(source)]
    if options.check:
        for source in stale:
            print(f"{notebook_of(source).name} is not built from {source.name}: run `make build`")
        return int(bool(stale))
    for source in stale:
        start = time.monotonic()
        nb = lesson(source)
        execute(nb)
        strip_live_state(nb)
        nbformat.write(nb, notebook_of(source))
        print(f"{notebook_of(source).name}: built in {time.monotonic() - start:.0f} s", flush=True)
    print(f"{len(stale)} built, {len(wanted) - len(stale)} already current")
    return 0


if __name__ == "__main__":
    sys.exit(main())
