"""Weights in a file: safetensors, never pickle, written whole or not at all."""

import json
import os
import tempfile
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn


def save(path: str | Path, model: nn.Module, *, dtype: torch.dtype | None = None, **about) -> None:
    """Write the weights of a model, and `about` (anything JSON can hold) beside them.

    `dtype` (torch.float16, say) is what floating-point weights are rounded to, if given.
    The file appears under its name only when it is complete, so an interrupt leaves the old one.
    Raises TypeError where `about` cannot be written as JSON.
    """
    path = Path(path)
    weights = {
        name: tensor.to(dtype if tensor.is_floating_point() else None).contiguous()
        for name, tensor in model.state_dict().items()
    }
    _write(path, weights, json.dumps(about))


def _write(path: Path, weights: dict, text: str) -> None:
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
    _check_fits(path, model, weights)
    model.load_state_dict(weights)
    return about


def _check_fits(path: str | Path, model: nn.Module, weights: dict) -> None:
    wanted = {name: tuple(w.shape) for name, w in model.state_dict().items()}
    found = {name: tuple(w.shape) for name, w in weights.items()}
    if wanted != found:
        names = sorted(name for name in wanted | found if wanted.get(name) != found.get(name))
        raise ValueError(f"{path} must have the model's names and shapes, got others: {names[:5]}")


def save_run(
    path: str | Path, model: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer, **about
) -> None:
    """Write all that a training run needs to go on: weights, averages, the optimizer's moments."""
    tensors = {f"model.{name}": w for name, w in model.state_dict().items()}
    tensors |= {f"ema.{name}": w for name, w in ema.state_dict().items()}
    for i, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": torch.as_tensor(m) for name, m in moments.items()}
    _write(Path(path), {k: t.contiguous() for k, t in tensors.items()}, json.dumps(about))


def load_run(
    path: str | Path, model: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer
) -> dict:
    """Bring model, average and optimizer to where `save_run` left them; return its `about`.

    Raises ValueError, naming the file, and changes nothing, where it is not a run of this model.
    """
    parts, state = {"model": {}, "ema": {}}, {}
    for key, tensor in load_file(path).items():
        part, _, name = key.partition(".")
        if part == "optimizer":
            i, moment = name.split(".")
            state.setdefault(int(i), {})[moment] = tensor
        else:
            parts.setdefault(part, {})[name] = tensor
    _check_fits(path, model, parts["model"])
    _check_fits(path, ema, parts["ema"])
    model.load_state_dict(parts["model"])
    ema.load_state_dict(parts["ema"])
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    for weight, moments in optimizer.state.items():
        for name, moment in moments.items():  # a fused step needs them laid out as their weight is
            if moment.shape == weight.shape:
                moments[name] = torch.empty_like(weight).copy_(moment)
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["about"])
