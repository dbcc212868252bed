"""Weights in a file: safetensors, never pickle, written whole or not at all."""

import json
import os
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .averages import EMA
from .checks import check_kinds, kind

COMPILED = "_orig_mod."  # what torch.compile puts before the names of a network's weights
MAKE_MOMENTS = ("amsgrad", "centered", "momentum")  # options that give an optimizer more of them


def save(path: str | Path, model: nn.Module, *, dtype: torch.dtype | None = None, **about) -> None:
    """Write the weights of a model, and `about` (anything JSON can hold) beside them.

    `dtype` (torch.float16, say) is what floating-point weights are rounded to, if given.
    The file appears under its name only when it is complete, so an interrupt leaves the old one.
    Raises TypeError where `about` cannot be written as JSON.
    """
    path = _path(path)
    check_kinds(model=model)
    if not (dtype is None or (isinstance(dtype, torch.dtype) and dtype.is_floating_point)):
        raise TypeError(f"dtype must be a floating-point dtype or None, got {kind(dtype)}")
    state = model.state_dict()
    weights = {n: w.to(dtype if w.is_floating_point() else None) for n, w in state.items()}
    _write(path, weights, about=_json(about))


def _path(path: str | Path) -> Path:
    if not (isinstance(path, str | os.PathLike) and Path(path).name):
        raise TypeError(f"path must be that of a file, got {path!r:.60}")
    return Path(path)


def _json(about: dict) -> str:
    try:
        return json.dumps(about)
    except TypeError as error:
        raise TypeError(f"about must hold what JSON can hold, got {error}") from error


def _write(path: Path, weights: dict, **texts: str) -> None:
    """Write the tensors, a copy of each: two names may stand for one, as in tied weights."""
    weights = {n: w.clone(memory_format=torch.contiguous_format) for n, w in weights.items()}
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".saving-") as folder:
        part = Path(folder) / path.name
        part.touch()
        mode = part.stat().st_mode  # that of any new file here: safetensors makes its own private
        save_file(weights, part, metadata=texts)
        part.chmod(mode)
        os.replace(part, path)


def load(path: str | Path, model: nn.Module) -> dict:
    """Fill a model with the weights of a file and return what was written about them.

    Numbers are cast to the model's dtypes, so that those that `save` rounded fit.
    Raises ValueError, naming the file, where it is none of weights or not whole, or where names
    or shapes differ from the model's.
    """
    check_kinds(model=model)
    weights, texts = _read(path)
    _check_fits(path, model.state_dict(), weights)
    model.load_state_dict(weights)
    return texts["about"]


def _read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, dict]]:
    """Return the tensors and texts of a file, as copies: the file isn't kept open or mapped."""
    _path(path).open("rb").close()  # Python's own error names the file
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
            texts = {"about": "{}"} | (file.metadata() or {})
            return tensors, {k: json.loads(texts[k]) for k in ("about", "run") if k in texts}
    except (SafetensorError, json.JSONDecodeError) as error:
        given = f"another or one cut short ({error})"
        raise ValueError(f"{path} must be a whole safetensors file, got {given}") from error


def _check_fits(path: str | Path, present: dict, weights: dict, *, dtypes: bool = False) -> None:
    wanted, found = (
        {n: (w.dtype if dtypes else w.is_floating_point(), *w.shape) for n, w in tensors.items()}
        for tensors in (present, weights)
    )
    if wanted != found:
        names = sorted(name for name in wanted | found if wanted.get(name) != found.get(name))
        given = f"others: {names[:5]}"
        if any(COMPILED in name for name in names):
            given += f"; torch.compile adds {COMPILED} to names: save and load network._orig_mod"
        shapes = [{name: w.shape for name, w in tensors.items()} for tensors in (present, weights)]
        what = "names and shapes" if shapes[0] != shapes[1] else "dtypes"
        raise ValueError(f"{path} must have the model's {what}, got {given}")


def save_run(
    path: str | Path, model: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer, **about
) -> None:
    """Write all that a training run needs to go on: weights, averages, the optimizer's moments.

    Also how often ema was updated, and the names of the weights that each moment belongs to.
    Raises ValueError where the optimizer's weights are not model's, TypeError where a moment is
    neither a tensor nor a number.
    """
    path = _path(path)
    _check_run(model, ema, optimizer)
    tensors = {f"model.{name}": w for name, w in model.state_dict().items()}
    tensors |= {f"ema.{name}": w for name, w in ema.state_dict().items()}
    for i, moments in optimizer.state_dict()["state"].items():
        for name, moment in moments.items():
            if not isinstance(moment, Tensor | int | float):
                raise TypeError(f"optimizer must keep tensors, got {name}: {kind(moment)}")
            tensors[f"optimizer.{i}.{name}"] = torch.as_tensor(moment, device="cpu")
    run = {"updates": ema.updates, "optimizer": _described(model, optimizer)}
    _write(path, tensors, about=_json(about), run=json.dumps(run))


def _check_run(model: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer) -> None:
    check_kinds(model=model)
    for given, name, wanted in ((ema, "ema", EMA), (optimizer, "optimizer", torch.optim.Optimizer)):
        if not isinstance(given, wanted):
            raise TypeError(f"{name} must be of {wanted.__name__}, got {kind(given)}")


def _described(model: nn.Module, optimizer: torch.optim.Optimizer) -> list:
    """Return what decides which moments an optimizer keeps, of which weights, in which order."""
    names = {id(w): name for name, w in model.named_parameters()}
    weights = [
        [names.get(id(w), ""), list(w.shape), [o for o in MAKE_MOMENTS if group.get(o)]]
        for group in optimizer.param_groups
        for w in group["params"]
    ]
    if foreign := [shape for name, shape, _ in weights if not name]:
        given = f"others of shapes {foreign[:5]}"
        raise ValueError(f"optimizer must hold weights of model, got {given}")
    return [type(optimizer).__name__, *weights]


def load_run(
    path: str | Path, model: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer
) -> dict:
    """Bring model, average and optimizer to where `save_run` left them; return its `about`.

    The optimizer's options, lr among them, stay as they are.
    Raises ValueError, naming the file, and changes nothing, where it is not a run of this model
    and of such an optimizer.
    """
    _check_run(model, ema, optimizer)
    tensors, texts = _read(path)
    if "run" not in texts:
        raise ValueError(f"{path} must be what save_run writes, got another file: train anew")
    parts, run = _sorted(tensors), texts["run"]
    _check_fits(path, model.state_dict(), parts["model"], dtypes=True)
    _check_fits(path, ema.state_dict(), parts["ema"], dtypes=True)
    _check_same(path, _described(model, optimizer), run["optimizer"])
    model.load_state_dict(parts["model"])
    ema.load_state_dict(parts["ema"], run["updates"])
    _put_moments(optimizer, parts["optimizer"])
    return texts["about"]


def _sorted(tensors: dict[str, Tensor]) -> dict[str, dict]:
    """Return the tensors of a run by what they belong to: model, ema, optimizer."""
    parts = {"model": {}, "ema": {}, "optimizer": {}}
    for key, tensor in tensors.items():
        part, name = key.split(".", 1)
        parts[part][name] = tensor
    return parts


def _check_same(path: str | Path, wanted: list, found: list) -> None:
    """Refuse moments of another kind of optimizer, or of other weights than wanted, in order."""
    if wanted == found:
        return
    for ours, theirs in zip(wanted, found, strict=False):
        if ours != theirs:
            break
    else:
        ours, theirs = (f"{len(described) - 1} weights" for described in (wanted, found))
    raise ValueError(f"{path} must be of an optimizer with {ours}, got one with {theirs}")


def _put_moments(optimizer: torch.optim.Optimizer, moments: dict[str, Tensor]) -> None:
    state = {}
    for key, tensor in moments.items():
        i, name = key.split(".", 1)
        state.setdefault(int(i), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    for weight, kept in optimizer.state.items():
        for name, moment in kept.items():  # a fused step needs them laid out as their weight is
            if moment.shape == weight.shape and moment.ndim > 1:
                kept[name] = torch.empty_like(weight, dtype=moment.dtype).copy_(moment)
