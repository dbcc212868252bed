"""Weights in a file: safetensors, never pickle, written whole or not at all."""

import json
import os
import tempfile
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn


def save(path: str | Path, model: nn.Module, **about) -> None:
    """Write the weights of a model, and `about` (anything JSON can hold) beside them.

    The file appears under its name only when it is complete, so an interrupt leaves the old one.
    Raises TypeError where `about` cannot be written as JSON.
    """
    path = Path(path)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    text = json.dumps(about)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".saving-") as folder:
        part = Path(folder) / path.name
        part.touch()
        mode = part.stat().st_mode  # that of any new file here: safetensors makes its own private
        save_file(weights, part, metadata={"about": text})
        part.chmod(mode)
        os.replace(part, path)


def load(path: str | Path, model: nn.Module) -> dict:
    """Fill a model with the weights of a file and return what was written about them.

    Raises ValueError, naming the file, where names or shapes differ from the model's.
    """
    weights = load_file(path)
    with safe_open(path, framework="pt") as file:
        about = json.loads((file.metadata() or {}).get("about", "{}"))
    wanted = {name: tuple(w.shape) for name, w in model.state_dict().items()}
    found = {name: tuple(w.shape) for name, w in weights.items()}
    if wanted != found:
        names = sorted(name for name in wanted | found if wanted.get(name) != found.get(name))
        raise ValueError(f"{path} does not fit this model: {', '.join(names[:5])} differ")
    model.load_state_dict(weights)
    return about
