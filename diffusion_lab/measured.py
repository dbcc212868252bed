"""Tables of what takes too long for a lesson: each is written by a committed benchmark."""

import csv
from pathlib import Path

TABLES = Path(__file__).parent / "tables"


def measured(name: str) -> list[dict[str, str | float]]:
    """Return the rows of a table, each by its columns; what reads as a number is a float.

    "solvers": quality against calls of the network, by `python benchmarks/solvers.py`; "guidance":
    accuracy and variety against the scale of guidance, by `python benchmarks/guidance.py`;
    "latent": cost and quality of diffusion in latents, by `python benchmarks/latent.py`.
    Raises ValueError for another name.
    """
    names = sorted(path.stem for path in TABLES.glob("*.csv"))
    if not isinstance(name, str) or name not in names:
        raise ValueError(f"name must be one of {', '.join(names)}, got {name!r}")
    with (TABLES / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return [{key: _read(cell) for key, cell in row.items()} for row in csv.DictReader(file)]


def _read(cell: str) -> str | float:
    try:
        return float(cell)
    except ValueError:
        return cell
