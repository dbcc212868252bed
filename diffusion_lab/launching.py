"""Programs in several processes, started from a notebook: torchrun, on any system."""

import os
import subprocess
import sys
from pathlib import Path

from diffusion_core.checks import check_count


def torchrun(file: str | Path, *arguments: str | Path, processes: int, restarts: int = 0) -> None:
    """Run a Python file in so many processes on this machine, each with one thread, and wait.

    As `torchrun --standalone --nproc-per-node PROCESSES --max-restarts RESTARTS FILE ARGUMENTS`:
    they find each other at a port that is free. Where a process dies, all are started again, at
    most `restarts` times. Raises RuntimeError, with their last words, where that is not enough.
    """
    check_count("processes", processes)
    check_count("restarts", restarts, lowest=0)
    numbers = [f"--nproc-per-node={processes}", f"--max-restarts={restarts}"]
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", *numbers]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    if sys.platform == "win32":
        env["USE_LIBUV"] = "0"  # torch for Windows may come without it
    done = subprocess.run(
        [*start, str(file), *map(str, arguments)],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        said = done.stdout.decode("utf-8", "replace")[-3000:]
        raise RuntimeError(f"{Path(file).name} in {processes} processes failed:\n{said}")
