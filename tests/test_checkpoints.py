"""Checkpoints: what was saved comes back, and nothing half-written ever appears."""

import os

import pytest
import torch
from oracles import initialised, normal
from safetensors.torch import load_file
from torch import nn
from torch.testing import assert_close

from diffusion_core import checkpoints

pytestmark = pytest.mark.usefixtures("untouched_global_rng")


def network(width: int = 3, seed: int = 0) -> nn.Module:
    return initialised(
        lambda: nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width), nn.Linear(width, 2)), seed
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


def test_a_model_comes_back_bit_for_bit(path, device):
    model = network().to(device)
    model[1].num_batches_tracked += 7  # an integer buffer
    checkpoints.save(path, model, steps=100, data="moons", losses=[0.5, 0.25], nested={"a": None})
    other = network(seed=1).to(device)
    about = checkpoints.load(path, other)
    assert about == {"steps": 100, "data": "moons", "losses": [0.5, 0.25], "nested": {"a": None}}
    assert_close(dict(other.state_dict()), dict(model.state_dict()), rtol=0, atol=0)
    x = normal(5, 2, dtype=torch.float32).to(device)
    assert_close(other.eval()(x), model.eval()(x), rtol=0, atol=0)


def test_about_may_be_left_out_and_paths_may_be_strings(path):
    checkpoints.save(str(path), network())
    assert checkpoints.load(str(path), network(seed=1)) == {}


def test_dtypes_and_strides_survive(path):
    model, other = network().bfloat16(), network(seed=1).bfloat16()
    model[0].weight.data = model[0].weight.data.T.contiguous().T
    checkpoints.save(path, model)
    checkpoints.load(path, other)
    assert_close(other[0].weight, model[0].weight, rtol=0, atol=0)


def test_the_file_is_plain_safetensors(path):
    model = network()
    checkpoints.save(path, model, note="hello")
    assert_close(load_file(path), dict(model.state_dict()), rtol=0, atol=0)


def test_loading_keeps_the_parameters_trainable_and_in_place(path):
    checkpoints.save(path, network())
    model = network(seed=1)
    parameter = model[0].weight
    checkpoints.load(path, model)
    assert model[0].weight is parameter and parameter.requires_grad


def only(path) -> bytes:
    assert [p.name for p in path.parent.iterdir()] == [path.name], "litter was left"
    return path.read_bytes()


def test_saving_again_replaces_the_file(path):
    checkpoints.save(path, network(), version=1)
    checkpoints.save(path, network(), version=2)
    assert checkpoints.load(path, network()) == {"version": 2}
    only(path)


def test_a_failed_save_leaves_the_old_file_and_no_litter(path, monkeypatch):
    checkpoints.save(path, network(), version=1)
    before = only(path)
    with pytest.raises(TypeError):
        checkpoints.save(path, network(), version=object())
    assert only(path) == before

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    for name in ("replace", "rename"):
        monkeypatch.setattr(os, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(path, network(), version=2)
    assert only(path) == before


def test_an_interrupted_write_leaves_the_old_file_and_no_litter(path, monkeypatch):
    checkpoints.save(path, network(), version=1)
    before = only(path)

    def half(tensors, filename, *args, **kwargs):
        with open(filename, "wb") as file:
            file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "save_file", half)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(path, network(), version=2)
    assert only(path) == before


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_the_file_has_the_permissions_of_any_other(path, tmp_path):
    """A temporary file is private; a checkpoint that a class shares must not be."""
    checkpoints.save(path, network())
    (other := tmp_path / "other").touch()
    assert path.stat().st_mode == other.stat().st_mode


@pytest.mark.parametrize(
    "other, named",
    [
        (network(width=4), "0.weight"),
        (network()[:2], "2.weight"),
        (nn.Sequential(*network(), nn.BatchNorm1d(2)), "3.weight"),
    ],
    ids=["shape", "too few names", "too many names"],
)
def test_a_mismatched_model_is_refused_by_name_and_left_alone(path, other, named):
    checkpoints.save(path, network(seed=3))
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(ValueError, match=path.name) as error:
        checkpoints.load(path, other)
    assert named in str(error.value)
    assert_close(dict(other.state_dict()), before, rtol=0, atol=0)


def test_a_missing_file_is_said_to_be_missing(path):
    with pytest.raises(FileNotFoundError, match=path.name):
        checkpoints.load(path, network())
