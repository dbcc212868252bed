"""Checkpoints: what was saved comes back, and nothing half-written ever appears."""

import copy
import os
from pathlib import Path

import pytest
import torch
from oracles import initialised, normal
from safetensors.torch import load_file, save_file
from torch import nn
from torch.testing import assert_close

import diffusion_core as dc
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
    with pytest.raises(ValueError, match=f"{path.name} must .*, got others") as error:
        checkpoints.load(path, other)
    assert named in str(error.value)
    assert_close(dict(other.state_dict()), before, rtol=0, atol=0)


@pytest.mark.parametrize("kept", [0, 4, 100, 500, -1], ids=lambda n: f"{n} bytes")
@pytest.mark.parametrize("what", ["weights", "run"])
def test_a_file_that_is_not_whole_is_named_and_nothing_moves(what, kept, path):
    model, ema, optimizer = begin()
    checkpoints.save_run(path, model, ema, optimizer)
    if what == "weights":
        checkpoints.save(path, model)
    path.write_bytes(path.read_bytes()[:kept])
    assert_refused(path, what, "must be a whole safetensors file, got another or one cut short")


@pytest.mark.parametrize("what", ["weights", "run"])
def test_another_format_is_named_and_nothing_moves(what, path):
    torch.save(network().state_dict(), path)
    assert_refused(path, what, "must be a whole safetensors file, got another or one cut short")
    save_file(dict(network().state_dict()), path, metadata={"about": "made by hand"})
    assert_refused(path, what, "must be a whole safetensors file, got another or one cut short")


def assert_refused(path, what: str, words: str) -> None:
    """Check that load or load_run says, with the file's name, what is wrong, and moves nothing."""
    model, ema, optimizer = begin(seed=1)
    advance(model, ema, optimizer, seed=5)
    before = everything(model, ema, optimizer)
    with pytest.raises(ValueError) as error:
        if what == "run":
            checkpoints.load_run(path, model, ema, optimizer)
        else:
            checkpoints.load(path, model)
    assert str(error.value).startswith(f"{path} {words}")
    assert_close(everything(model, ema, optimizer), before, rtol=0, atol=0)


def everything(model, ema, optimizer) -> tuple:
    state = {i: dict(moments) for i, moments in optimizer.state_dict()["state"].items()}
    parts = dict(model.state_dict()), ema.state_dict(), state
    return copy.deepcopy((*parts, ema.updates, [g["lr"] for g in optimizer.param_groups]))


@pytest.mark.parametrize("what", ["weights", "run"])
def test_the_names_of_a_compiled_network_are_said_to_be_such(what, path):
    model = torch.compile(network(), backend="eager")
    if what == "weights":
        checkpoints.save(path, model)
    else:
        optimizer = OPTIMIZERS["AdamW"](model.parameters())
        checkpoints.save_run(path, model, dc.EMA(model), optimizer)
    assert_refused(path, what, "must have the model's names and shapes, got others")
    reason = r"torch.compile adds _orig_mod\. to names: save and load network._orig_mod"
    with pytest.raises(ValueError, match=reason):
        checkpoints.load(path, network())
    checkpoints.save(path, model._orig_mod)
    assert checkpoints.load(path, network(seed=1)) == {}
    with pytest.raises(ValueError, match=reason):
        checkpoints.load(path, model)


def test_a_folder_is_said_to_be_one(tmp_path):
    with pytest.raises(OSError, match=tmp_path.name):
        checkpoints.load(tmp_path, network())


def test_a_missing_file_is_said_to_be_missing(path):
    with pytest.raises(FileNotFoundError, match=path.name):
        checkpoints.load(path, network())


# save(dtype=)


@pytest.mark.parametrize("dtype, bits", [(torch.float16, 11), (torch.bfloat16, 8)], ids=str)
def test_weights_may_be_rounded(path, device, dtype, bits):
    """Within half a unit of the last of `bits` binary places; what is not floating stays."""
    model = network().to(device)
    model[1].num_batches_tracked += 70_001  # more than float16 can hold
    before = {name: value.clone() for name, value in model.state_dict().items()}
    checkpoints.save(path, model, dtype=dtype, note="rounded")
    assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    stored = load_file(path)
    assert {value.dtype for value in stored.values()} == {dtype, torch.int64}
    other = network(seed=1).to(device)
    assert checkpoints.load(path, other) == {"note": "rounded"}
    for name, value in other.state_dict().items():
        assert value.dtype == before[name].dtype
        if value.is_floating_point():
            assert_close(value, before[name], rtol=2.0**-bits, atol=2.0**-25)
            assert_close(value, value.to(dtype).float(), rtol=0, atol=0)
    assert_close(other[1].num_batches_tracked, before["1.num_batches_tracked"], rtol=0, atol=0)
    assert not torch.equal(other[0].weight, before["0.weight"])  # rounding is seen at all


def test_float16_takes_half_the_bytes(path):
    model = initialised(lambda: nn.Linear(300, 300))
    checkpoints.save(path, model)
    whole = path.stat().st_size
    checkpoints.save(path, model, dtype=torch.float16)
    assert 0.49 < path.stat().st_size / whole < 0.51


# save_run, load_run


OPTIMIZERS = {
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01),
    "fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    "SGD": lambda p: torch.optim.SGD(p, lr=0.01),
}


def begin(kind: str = "AdamW", seed: int = 0, device="cpu"):
    model = network(seed=seed).to(device)
    return model, dc.EMA(model, decay=0.9), OPTIMIZERS[kind](model.parameters())


def advance(model, ema, optimizer, seed: int, steps: int = 3) -> None:
    x = normal(steps, 8, 2, seed=seed, dtype=torch.float32).to(next(model.parameters()).device)
    for batch in x:
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
        ema.update(model)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_run_goes_on_bit_for_bit(path, kind, device):
    """Into a run that has gone another way before, so everything must be replaced."""
    model, ema, optimizer = begin(kind, device=device)
    advance(model, ema, optimizer, seed=1)
    checkpoints.save_run(path, model, ema, optimizer, epochs=3, nested={"a": [1, None]})
    model2, ema2, optimizer2 = begin(kind, seed=1, device=device)
    advance(model2, ema2, optimizer2, seed=9, steps=5)
    about = checkpoints.load_run(path, model2, ema2, optimizer2)
    assert about == {"epochs": 3, "nested": {"a": [1, None]}}
    assert ema2.updates == ema.updates == 3
    for seed in (0, 2):
        if seed:
            advance(model, ema, optimizer, seed)
            advance(model2, ema2, optimizer2, seed)
        assert_close(dict(model2.state_dict()), dict(model.state_dict()), rtol=0, atol=0)
        assert_close(dict(ema2.model.state_dict()), dict(ema.model.state_dict()), rtol=0, atol=0)
        theirs, ours = (o.state_dict()["state"] for o in (optimizer, optimizer2))
        assert_close(ours, theirs, rtol=0, atol=0)


def test_moments_are_laid_out_as_their_weights(path):
    """A file keeps numbers, not their order in memory; a fused step takes both orders as one."""

    def convolution(seed: int):
        model = initialised(lambda: nn.Conv2d(3, 5, 3), seed).to(memory_format=torch.channels_last)
        return model, dc.EMA(model), OPTIMIZERS["fused"](model.parameters())

    def step(model, optimizer):
        model(torch.linspace(-1, 1, 2 * 3 * 36).view(2, 3, 6, 6).sin()).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    model, ema, optimizer = convolution(seed=0)
    step(model, optimizer)
    checkpoints.save_run(path, model, ema, optimizer)
    model2, ema2, optimizer2 = convolution(seed=1)
    checkpoints.load_run(path, model2, ema2, optimizer2)
    moment = optimizer2.state[model2.weight]["exp_avg"]
    assert moment.stride() == model2.weight.stride() != moment.contiguous().stride()
    step(model, optimizer)
    step(model2, optimizer2)
    assert torch.equal(model2.weight, model.weight)


def test_the_moments_matter(path):
    """Without them the same gradients lead elsewhere: what the test above would miss."""
    model, ema, optimizer = begin()
    advance(model, ema, optimizer, seed=1)
    checkpoints.save_run(path, model, ema, optimizer)
    model2, ema2, _ = begin(seed=1)
    fresh = torch.optim.AdamW(model2.parameters(), lr=0.01)
    checkpoints.load_run(path, model2, ema2, OPTIMIZERS["AdamW"](model2.parameters()))
    advance(model, ema, optimizer, seed=2)
    advance(model2, ema2, fresh, seed=2)
    assert not torch.equal(model2[0].weight, model[0].weight)


def test_a_run_may_be_saved_before_its_first_step(path):
    model, ema, optimizer = begin()
    checkpoints.save_run(path, model, ema, optimizer)
    model2, ema2, optimizer2 = begin(seed=1)
    advance(model2, ema2, optimizer2, seed=9)
    assert checkpoints.load_run(path, model2, ema2, optimizer2) == {}
    assert_close(dict(model2.state_dict()), dict(model.state_dict()), rtol=0, atol=0)
    assert optimizer2.state_dict()["state"] == {}


def test_a_run_moves_to_another_device(path, device):
    model, ema, optimizer = begin(device=device)
    advance(model, ema, optimizer, seed=1)
    checkpoints.save_run(path, model, ema, optimizer)
    model2, ema2, optimizer2 = begin(seed=1)
    checkpoints.load_run(path, model2, ema2, optimizer2)
    assert {p.device.type for p in model2.parameters()} == {"cpu"}
    theirs, ours = (o.state_dict()["state"] for o in (optimizer, optimizer2))
    assert_close(ours, theirs, rtol=0, atol=0, check_device=False)
    advance(model2, ema2, optimizer2, seed=2)


def test_an_interrupted_save_of_a_run_leaves_the_old_one_and_no_litter(path, monkeypatch):
    model, ema, optimizer = begin()
    checkpoints.save_run(path, model, ema, optimizer, epochs=1)
    before = only(path)
    advance(model, ema, optimizer, seed=1)
    with pytest.raises(TypeError):
        checkpoints.save_run(path, model, ema, optimizer, epochs=object())
    assert only(path) == before

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    for name in ("replace", "rename"):
        monkeypatch.setattr(os, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save_run(path, model, ema, optimizer, epochs=2)
    assert only(path) == before
    assert checkpoints.load_run(path, model, ema, optimizer) == {"epochs": 1}


def test_a_run_of_another_network_is_refused_by_name_and_nothing_moves(path):
    model, ema, optimizer = begin()
    advance(model, ema, optimizer, seed=1)
    checkpoints.save_run(path, model, ema, optimizer)
    other = network(width=4)
    average, optimizer = dc.EMA(other), OPTIMIZERS["AdamW"](other.parameters())
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(ValueError, match=path.name):
        checkpoints.load_run(path, other, average, optimizer)
    assert_close(dict(other.state_dict()), before, rtol=0, atol=0)
    assert_close(dict(average.model.state_dict()), before, rtol=0, atol=0)
    assert optimizer.state_dict()["state"] == {}


def test_a_file_of_weights_alone_is_not_a_run(path):
    model, ema, optimizer = begin()
    for weights in (model, model[0]):  # named 0.weight, and weight without a dot
        checkpoints.save(path, weights)
        with pytest.raises(ValueError, match=f"{path.name} must be what save_run writes, got an"):
            checkpoints.load_run(path, model, ema, optimizer)


def test_the_average_knows_how_often_it_was_updated(path):
    """Else its first update would throw most of it away: decay 2 / 11 in place of 0.9."""
    model, ema, optimizer = begin()
    advance(model, ema, optimizer, seed=1, steps=300)
    checkpoints.save_run(path, model, ema, optimizer)
    model2, ema2, optimizer2 = begin(seed=1)
    checkpoints.load_run(path, model2, ema2, optimizer2)
    assert ema2.updates == 300
    for one in (ema, ema2):
        one.update(network(seed=7))
    assert_close(ema2.state_dict(), ema.state_dict(), rtol=0, atol=0)


def test_a_run_of_halves_goes_on_bit_for_bit(path):
    def start(seed: int):
        model = initialised(lambda: nn.Linear(2, 2), seed).bfloat16()
        return model, dc.EMA(model), OPTIMIZERS["momentum"](model.parameters())

    def go(model, ema, optimizer, steps: int):
        for n in range(steps):
            model(torch.full((4, 2), n / 8, dtype=torch.bfloat16)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            ema.update(model)

    run, again = start(seed=0), start(seed=1)
    go(*run, 20)
    checkpoints.save_run(path, *run)
    checkpoints.load_run(path, *again)
    for one in (run, again):
        go(*one, 20)
    assert_close(everything(*again), everything(*run), rtol=0, atol=0)


@pytest.mark.parametrize(
    "other, named",
    [
        (lambda m: OPTIMIZERS["AdamW"](m[2].parameters()), r"\['2.weight', \[2, 3\], \[\]\]"),
        (lambda m: OPTIMIZERS["AdamW"](list(m.parameters())[:-1]), "5 weights, .* 6 weights"),
        (lambda m: OPTIMIZERS["AdamW"](list(m.parameters())[::-1]), r"\['2.bias'.*\['0.weight'"),
        (lambda m: OPTIMIZERS["momentum"](m.parameters()), "SGD, got one with AdamW"),
        (
            lambda m: torch.optim.AdamW(m.parameters(), amsgrad=True),
            r"\['0.weight', \[3, 2\], \['amsgrad'\]\], got .*, \[\]\]",
        ),
    ],
    ids=["one layer", "fewer", "reversed", "another class", "other moments"],
)
@pytest.mark.parametrize("begun", [True, False], ids=["begun", "fresh"])
def test_moments_of_another_optimizer_are_refused_and_nothing_moves(other, named, begun, path):
    model, ema, optimizer = begin()
    advance(model, ema, optimizer, seed=1)
    checkpoints.save_run(path, model, ema, optimizer)
    model2, ema2, _ = begin(seed=1)
    optimizer2 = other(model2)
    if begun:
        advance(model2, ema2, optimizer2, seed=3)
    before = everything(model2, ema2, optimizer2)
    with pytest.raises(ValueError, match=named) as error:
        checkpoints.load_run(path, model2, ema2, optimizer2)
    assert str(error.value).startswith(f"{path} must be of an optimizer with ")
    assert_close(everything(model2, ema2, optimizer2), before, rtol=0, atol=0)


def test_moments_of_more_weights_are_refused(path):
    """Of a run in which a part was frozen."""
    model, ema, _ = begin()
    checkpoints.save_run(path, model, ema, OPTIMIZERS["AdamW"](model[2].parameters()))
    with pytest.raises(
        ValueError, match=r"\['0.weight', \[3, 2\], \[\]\], got one with \['2.weight'"
    ):
        checkpoints.load_run(path, model, ema, OPTIMIZERS["AdamW"](model.parameters()))
    assert ema.updates == 0


def test_names_tell_weights_of_one_shape_apart(path):
    model = initialised(lambda: nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))
    ema, weights = dc.EMA(model), [model[0].weight, model[1].weight]
    checkpoints.save_run(path, model, ema, OPTIMIZERS["AdamW"](weights))
    with pytest.raises(ValueError, match=r"\['1.weight'.*\['0.weight'"):
        checkpoints.load_run(path, model, ema, OPTIMIZERS["AdamW"](weights[::-1]))


def test_an_average_of_another_network_is_refused_and_nothing_moves(path):
    model, ema, optimizer = begin()
    checkpoints.save_run(path, model, ema, optimizer)
    model2, _, optimizer2 = begin(seed=1)
    ema2 = dc.EMA(network(width=4))
    before = everything(model2, ema2, optimizer2)
    with pytest.raises(ValueError, match=r"0\.weight"):
        checkpoints.load_run(path, model2, ema2, optimizer2)
    assert_close(everything(model2, ema2, optimizer2), before, rtol=0, atol=0)


def test_an_optimizer_of_another_model_or_of_lists_is_not_saved(path):
    model, ema, _ = begin()
    with pytest.raises(ValueError, match=r"optimizer must hold weights of model, .* \[\[3, 2\]"):
        checkpoints.save_run(path, model, ema, OPTIMIZERS["SGD"](network().parameters()))
    optimizer = OPTIMIZERS["SGD"](model.parameters())
    optimizer.state[model[0].weight]["old_steps"] = [torch.zeros(3, 2)]  # as LBFGS does
    with pytest.raises(TypeError, match="optimizer must keep tensors, got old_steps: "):
        checkpoints.save_run(path, model, ema, optimizer)
    assert not path.exists()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux lists its mappings")
@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("whole", [True, False], ids=["loaded", "refused"])
def test_a_file_is_not_kept_open_or_mapped(path, kind, whole):
    """On Windows the next save of that name would fail then."""
    model, ema, optimizer = begin(kind)
    advance(model, ema, optimizer, seed=1)
    checkpoints.save_run(path, model, ema, optimizer)
    other = begin(kind, seed=1) if whole else (network(width=4), ema, optimizer)
    error = None
    try:
        checkpoints.load_run(path, *other)
    except ValueError as refusal:
        error = refusal  # a notebook keeps the last one, and all that its frames hold
    assert (error is None) == whole
    assert str(path) not in Path("/proc/self/maps").read_text(encoding="utf-8")
    checkpoints.save(path, model)
    weights = network(seed=3)
    checkpoints.load(path, weights)
    assert str(path) not in Path("/proc/self/maps").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["AdamW", "fused", "momentum"])
def test_a_run_is_saved_and_goes_on_whatever_the_default_device(path, kind):
    model, ema, optimizer = begin(kind)
    advance(model, ema, optimizer, seed=1)
    optimizer.state[model[0].weight]["a number"] = 3
    model2, ema2, optimizer2 = begin(kind, seed=1)
    with torch.device("meta"):
        checkpoints.save_run(path, model, ema, optimizer)
        checkpoints.load_run(path, model2, ema2, optimizer2)
    assert optimizer2.state[model2[0].weight].pop("a number") == 3
    del optimizer.state[model[0].weight]["a number"]
    found, expected = (
        everything(*run) for run in ((model2, ema2, optimizer2), (model, ema, optimizer))
    )
    assert_close(found, expected, rtol=0, atol=0)
