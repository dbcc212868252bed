"""Run every lesson and print the minutes each took. By default: strict nbval, in full, and each
claim of quality must hold (DIFFUSION_CLAIMS=strict).

--offline  strict nbval with no network, no cache and no DIFFUSION_DATA, training cut short
--solved   with the solutions put in, training cut short: every exercise must answer "Right"
--devices  the same under torch.set_default_device("cpu") and a mode that refuses every tensor
           which the package makes without naming its device
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import build_notebooks as build
from nbformat.v4 import new_code_cell

ROOT = Path(__file__).resolve().parent.parent
NBVAL = [
    "--nbval",
    "--nbval-current-env",
    "--nbval-cell-timeout=3600",
    f"--nbval-sanitize-with={ROOT / 'tests' / 'nbval_sanitize.cfg'}",
]
NAMED = "from devices_named import begin\n\nbegin()"  # the first cell, with --devices
CLOSED = "http://127.0.0.1:9"  # nothing answers there


def is_executed(lesson: Path) -> bool:
    """Whether execution counts are 1..n: nbval never compares a cell without one."""
    cells = json.loads(lesson.read_text("utf-8"))["cells"]
    counts = [cell["execution_count"] for cell in cells if cell["cell_type"] == "code"]
    return counts != [] and counts == list(range(1, len(counts) + 1))


def offline(cache: str) -> dict[str, str]:
    """The environment of a machine that never had a network or data."""
    dropped = {"DIFFUSION_DATA", "no_proxy", "NO_PROXY"}
    env = {name: value for name, value in os.environ.items() if name not in dropped}
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), CLOSED)
    caches = {"XDG_CACHE_HOME": cache, "LOCALAPPDATA": cache}
    return {**env, **proxies, **caches, "DIFFUSION_SHORT_RUN": "1"}


def check(lesson: Path, env: dict[str, str]) -> str:
    """Run one lesson under strict nbval; return the verdict."""
    if not is_executed(lesson):
        return "FAILED: execution counts are not 1..n; build it"
    command = [sys.executable, "-m", "pytest", "-q", *NBVAL, str(lesson)]
    done = subprocess.run(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    print(done.stdout.decode("utf-8", "replace"), flush=True)  # at once: others print, too
    return "passed" if done.returncode == 0 else "FAILED"


def check_solved(lesson: Path, env: dict[str, str], *, first: str = "") -> str:
    """Run one lesson with its solutions, after a first cell of code; return the verdict."""
    nb = build.lesson(build.NOTEBOOKS / "src" / f"{lesson.stem}.py", solved=True)
    nb.cells.insert(0, new_code_cell(first))
    build.execute(nb, env)
    answers = [
        output["data"]["text/plain"]
        for cell in nb.cells
        if cell.cell_type == "code" and "lab.check(" in cell.source
        for output in cell.outputs
    ]
    wrong = [answer for answer in answers if not answer.startswith("✓")]
    if not answers or wrong:
        return f"FAILED: {len(answers)} exercises, not right: {wrong}"
    return f"passed, {len(answers)} solutions right"


def timed(run: Callable[[Path], str], lesson: Path) -> tuple[float, str]:
    """Return the minutes that a lesson took, and a line with its verdict."""
    start = time.perf_counter()
    verdict = run(lesson)
    return (time.perf_counter() - start) / 60, f"{lesson.stem}: {verdict}"


def main() -> int:
    """Check the lessons named, or all; 1 if any fails or none is there."""
    if hasattr(sys.stdout, "reconfigure"):  # for a console that knows few letters
        sys.stdout.reconfigure(errors="backslashreplace")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lessons", nargs="*", type=Path)
    parser.add_argument("--offline", action="store_true")
    parser.add_argument("--solved", action="store_true")
    parser.add_argument("--devices", action="store_true")
    options = parser.parse_args()
    lessons = [path.resolve() for path in options.lessons]
    lessons = lessons or sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    if not lessons:
        print("FAILED: there are no lessons in notebooks/; build them")
        return 1
    cores = os.cpu_count() or 1
    at_a_time = min(cores, len(lessons))
    shared = {"OMP_NUM_THREADS": str(cores // at_a_time), "TQDM_DISABLE": "1"}
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache, ThreadPoolExecutor(at_a_time) as pool:
        run, env = check, {**os.environ, "DIFFUSION_CLAIMS": "strict"}
        if options.offline:
            env = offline(cache)
        elif options.solved:
            run, env = check_solved, {**os.environ, "DIFFUSION_SHORT_RUN": "1"}
        elif options.devices:
            paths = [str(ROOT / "scripts"), os.environ.get("PYTHONPATH", "")]
            env = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "DIFFUSION_SHORT_RUN": "1"}
            run, env = partial(check_solved, first=NAMED), {**os.environ, **env}
        run = partial(run, env={**env, **shared})
        largest_first = sorted(lessons, key=lambda path: -path.stat().st_size)
        results = sorted(pool.map(partial(timed, run), largest_first), key=lambda row: row[1])
    print("\nminutes  lesson")
    for minutes, text in results:
        print(f"{minutes:7.2f}  {text}")
    print(f"{(time.perf_counter() - start) / 60:7.2f}  in all, {at_a_time} at a time", flush=True)
    return int(any("FAILED" in text for _, text in results))


if __name__ == "__main__":
    sys.exit(main())
