"""Install the core alone in a fresh environment and run README's complete program with it.

Training is cut short. What only lessons or tests need must be absent. The installed copy is what
runs: nothing is written to this checkout, and nothing is imported from it. `make core` does this.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ["pyproject.toml", "README.md", "LICENSE", "diffusion_core", "diffusion_lab"]

BEFORE = """
import importlib, importlib.util, pkgutil, sys
lab = ["matplotlib", "ipywidgets", "anywidget", "jupyterlab", "IPython", "isal"]
for name in [*lab, "diffusers", "pytest"]:
    assert importlib.util.find_spec(name) is None, f"{name} is installed"
"""
AFTER = """
assert step.x_t.shape == (2000, 2) and step.x_t.isfinite().all()
assert dc.__file__.startswith(sys.prefix), dc.__file__
for module in pkgutil.walk_packages(dc.__path__, "diffusion_core."):
    importlib.import_module(module.name)
for name in dc.pretrained.NETWORKS:
    dc.pretrained.load(name)
dc.data.digits()
print(f"The core stands alone, with Python {sys.version.split()[0]} and torch {torch.__version__}.")
"""


def complete_program() -> str:
    """Return README's only block of Python."""
    readme = (ROOT / "README.md").read_text("utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```", readme, re.S | re.M)
    return program


def install(folder: Path, constraints: Path | None) -> Path:
    """Install a copy of the sources, without extras, in a fresh environment; return its Python."""
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / "source" / name)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    versions = ["-c", constraints.resolve()] if constraints else []
    command = [python, "-m", "pip", "install", "--quiet", *versions, folder / "source"]
    subprocess.run(command, check=True)
    return python


def main() -> int:
    """Install and run; 1 if the program fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("constraints", nargs="?", type=Path, help="else the newest releases")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "source").mkdir()
        python = install(folder, options.constraints)
        env = {**os.environ, "DIFFUSION_SHORT_RUN": "1", "TQDM_DISABLE": "1"}
        command = [python, "-I", "-c", BEFORE + complete_program() + AFTER]
        return subprocess.run(command, cwd=folder, env=env).returncode


if __name__ == "__main__":
    sys.exit(main())
