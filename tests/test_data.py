"""The data layer against a folder and a server of its own."""

import gzip
import hashlib
import itertools
import os
import re
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles import other_defaults
from PIL import Image
from sklearn.datasets import load_digits
from test_download import mirror, names, send, status
from torch.testing import assert_close

from diffusion_core import available_devices, data, download
from diffusion_core.data import minibatches, to_signed, to_uint8

each_device = pytest.mark.parametrize("device", available_devices(), ids=str)


def generator(device="cpu", seed=0):
    return torch.Generator(device).manual_seed(seed)


# MNIST, with four tiny files in place of the real ones


def idx(array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes())


ARRAYS = {
    "train-images-idx3-ubyte.gz": np.arange(5 * 28 * 28).reshape(5, 28, 28) % 251,
    "train-labels-idx1-ubyte.gz": np.array([3, 1, 4, 1, 5]),
    "t10k-images-idx3-ubyte.gz": np.arange(2 * 28 * 28).reshape(2, 28, 28) % 241,
    "t10k-labels-idx1-ubyte.gz": np.array([9, 2]),
}
FILES = {name: idx(array) for name, array in ARRAYS.items()}


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty DIFFUSION_DATA, tiny files expected."""
    digests = {name: hashlib.sha256(raw).hexdigest() for name, raw in FILES.items()}
    monkeypatch.setattr(data, "SHA256", digests)
    monkeypatch.setattr(data, "MIRRORS", (closed_port(), closed_port()))
    monkeypatch.setattr(download, "_failed", {})
    monkeypatch.setattr(data.pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("DIFFUSION_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def cache(folder, monkeypatch):
    """An empty user cache, with no DIFFUSION_DATA and no network."""
    monkeypatch.delenv("DIFFUSION_DATA")
    return folder.parent / "cache" / "diffusion_course"


def fill(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in FILES.items():
        (folder / name).write_bytes(raw)


def assert_is_mnist(images, split="train"):
    prefix = "train" if split == "train" else "t10k"
    assert (images.source, images.note) == ("MNIST", "")
    assert images.x.dtype == torch.uint8 and images.labels.dtype == torch.int64
    assert (images.x.numpy() == ARRAYS[f"{prefix}-images-idx3-ubyte.gz"]).all()
    assert (images.labels.numpy() == ARRAYS[f"{prefix}-labels-idx1-ubyte.gz"]).all()


def assert_is_digits(images):
    assert images.source == "scikit-learn digits"
    assert images.note.startswith("These are scikit-learn's digits, not MNIST.")
    assert "set DIFFUSION_DATA to a folder" in images.note and "\n" not in images.note
    assert images.x.dtype == torch.uint8 and images.x.shape[1:] == (28, 28)


def no_home(*_):
    raise RuntimeError("Could not determine home directory.")  # as pathlib does


def test_without_a_home_folder_there_is_no_cache_and_the_digits_come(cache, monkeypatch):
    monkeypatch.setattr(data.pooch, "os_cache", no_home)
    with pytest.raises(data.DataUnavailable, match="no home folder is known: set HOME"):
        data.mnist()
    for split in ("train", "test"):
        assert_is_digits(data.images(split))


def test_a_home_folder_that_is_not_known_is_named(folder, monkeypatch):
    place = "~nosuch_user_of_this_machine/x"
    monkeypatch.setenv("DIFFUSION_DATA", place)
    monkeypatch.setattr(Path, "expanduser", no_home)  # as for an unknown user, on every system
    with pytest.raises(data.DataUnavailable, match=f"The home folder of {place} is not known"):
        data.mnist("test")
    assert_is_digits(data.images())


@pytest.mark.skipif(os.name == "nt", reason="Windows finds the home folder otherwise")
@pytest.mark.parametrize(
    "env", [{"HOME": ""}, {"DIFFUSION_DATA": "~nosuch_user_of_this_machine/x"}], ids=str
)
def test_a_whole_process_without_a_home_folder_has_digits(env, tmp_path):
    """An empty HOME is the root folder, or none, as the version of Python has it."""
    code = (
        "from diffusion_core import data; data.MIRRORS = ('http://127.0.0.1:9/',)\n"
        "data.fetch = lambda name, *_: (_ for _ in ()).throw(OSError('no network'))\n"
        "print(data.images().source)"
    )
    kept = {k: v for k, v in os.environ.items() if k not in ("XDG_CACHE_HOME", "DIFFUSION_DATA")}
    run = subprocess.run(
        [sys.executable, "-c", code], env=kept | env, cwd=tmp_path, capture_output=True, text=True
    )
    assert run.stdout.strip() == "scikit-learn digits", run.stderr


@pytest.mark.parametrize("split", ["train", "test"])
def test_files_in_the_folder_are_used_without_a_network(folder, split):
    fill(folder)
    assert_is_mnist(data.images(split), split)


def test_the_folder_may_be_named_from_the_home_folder(folder, monkeypatch):
    fill(folder)
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(folder.parent))
    monkeypatch.setenv("DIFFUSION_DATA", f"~/{folder.name}")
    assert_is_mnist(data.images())


def test_the_user_cache_is_used_where_no_folder_is_named(folder, cache, monkeypatch):
    fill(cache)
    assert_is_mnist(data.images())
    monkeypatch.setenv("DIFFUSION_DATA", str(folder))
    assert_is_digits(data.images())


def test_the_cache_is_filled_from_a_mirror_once(cache, monkeypatch):
    def behave(handler):
        send(FILES[handler.path[1:]])(handler)

    with mirror(behave) as (address, asked):
        monkeypatch.setattr(data, "MIRRORS", (closed_port(), address))
        assert_is_mnist(data.images())
        assert_is_mnist(data.images("test"), "test")
    assert sorted(asked) == [f"/{name}" for name in sorted(FILES)] and names(cache) == sorted(FILES)


def test_without_files_and_network_the_digits_come_fast_and_say_so(cache, monkeypatch):
    monkeypatch.setattr(download, "PATIENCE", 600)
    start = time.monotonic()
    train, test = data.images(), data.images("test")
    assert time.monotonic() - start < 300, "a port that is closed says so at once"
    assert_is_digits(train)
    assert_is_digits(test)
    assert (len(train.x), len(test.x)) == (len(train.labels), len(test.labels)) == (1497, 300)
    first, second = data.MIRRORS
    said = f"downloaded: {first} failed .*; {second} failed .* Connect to the network. Or set DIFF"
    with pytest.raises(data.DataUnavailable, match=said) as raised:
        data.mnist()
    assert str(raised.value) in train.note and not cache.parent.exists()


def test_after_a_failure_the_network_is_left_alone_but_files_are_seen(cache, monkeypatch):
    with mirror(status(404)) as (address, asked):
        monkeypatch.setattr(data, "MIRRORS", (address,))
        assert_is_digits(data.images())
        assert_is_digits(data.images("test"))
    assert len(asked) == 1
    fill(cache)
    assert_is_mnist(data.images())


def test_a_file_is_hashed_once_in_a_process(folder, monkeypatch):
    fill(folder)
    hashed, file_hash = [], data.pooch.file_hash
    monkeypatch.setattr(data.pooch, "file_hash", lambda p: hashed.append(p.name) or file_hash(p))
    for split in ("train", "test", "train"):
        assert_is_mnist(data.images(split), split)
    assert sorted(hashed) == sorted(FILES)


SPOILERS = {
    "corrupt": lambda raw: raw[:-9] + b"?" + raw[-8:],
    "cut": lambda raw: raw[:99],
    "empty": lambda raw: b"",
}


@pytest.mark.parametrize("spoil", SPOILERS.values(), ids=SPOILERS)
def test_a_file_of_the_users_own_is_neither_used_nor_touched_when_it_is(folder, spoil):
    fill(folder)
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(spoil(path.read_bytes()))
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    right = hashlib.sha256(FILES[path.name]).hexdigest()
    said = f"{re.escape(str(path))} is not used: its sha256 is {found}, not {right}. Put the right"
    with pytest.raises(data.DataUnavailable, match=said):
        data.mnist()
    assert re.search(said, data.images().note)
    assert_is_digits(data.images("test"))  # the splits are of one kind
    assert before == {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}


def test_a_file_that_spoils_between_two_calls_is_seen(folder):
    fill(folder)
    assert_is_mnist(data.images())
    path = folder / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    os.utime(path, ns=(0, 0))
    assert_is_digits(data.images())


def test_a_corrupt_file_in_the_cache_is_reported_and_fetched_again(cache, monkeypatch):
    fill(cache)
    name = "train-labels-idx1-ubyte.gz"
    (cache / name).write_bytes(b"junk")
    with mirror(send(FILES[name])) as (address, asked):
        monkeypatch.setattr(data, "MIRRORS", (address,))
        with pytest.warns(UserWarning, match=f"{name}, now {name}.corrupt, is not used"):
            assert_is_mnist(data.images())
    assert asked == [f"/{name}"]
    assert names(cache) == sorted([*FILES, f"{name}.corrupt"])


def test_a_folder_that_cannot_be_is_said_so(folder, monkeypatch):
    (folder / "file").write_text("not a folder")
    monkeypatch.setenv("DIFFUSION_DATA", str(folder / "file"))
    with pytest.raises(data.DataUnavailable, match=r"file.train-images-.*\.gz is missing\. Put"):
        data.mnist()
    assert_is_digits(data.images())


def test_a_cache_that_cannot_be_is_said_so(cache, monkeypatch):
    cache.parent.write_text("not a folder")
    with mirror(send(FILES["train-images-idx3-ubyte.gz"])) as (address, _):
        monkeypatch.setattr(data, "MIRRORS", (address,))
        images = data.images()
    assert_is_digits(images)
    assert f"cannot be kept in {cache}" in images.note and "make room" in images.note


def test_only_missing_data_falls_back(folder, monkeypatch):
    fill(folder)
    bad = FILES["train-labels-idx1-ubyte.gz"]  # where the images should be
    (folder / "train-images-idx3-ubyte.gz").write_bytes(bad)
    digest = hashlib.sha256(bad).hexdigest()
    monkeypatch.setitem(data.SHA256, "train-images-idx3-ubyte.gz", digest)
    with pytest.raises(ValueError, match=r"with 3 dimensions, got \d+ bytes"):
        data.images()


@pytest.mark.parametrize(
    "raw", [b"", b"\0\0\x08", b"\0\0\x08\1\0\0", b"\0\0\x0d\x01\0\0\0\x01x", b"\0\0\x08\1\0\0\0\2x"]
)
def test_bad_idx_files_are_refused(tmp_path, raw):
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(raw))
    with pytest.raises(ValueError, match=rf"labels\.gz must .*, got {len(raw)} bytes"):
        data._read_idx(path, 1)


@pytest.mark.parametrize("load", [data.mnist, data.images])
def test_an_unknown_split_is_named(load):
    with pytest.raises(ValueError, match=r"split must .*'val'"):
        load("val")


@pytest.mark.skipif(not os.environ.get("DIFFUSION_DATA"), reason="DIFFUSION_DATA is not set")
def test_the_real_mnist():
    x, labels = data.mnist()
    assert x.shape == (60_000, 28, 28) and x.dtype == torch.uint8
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]  # as published
    assert labels.bincount().tolist() == counts
    assert_close(x.double().mean().item() / 255, 0.1307, rtol=0, atol=5e-5)
    x, labels = data.mnist("test")
    assert x.shape == (10_000, 28, 28) and labels[:5].tolist() == [7, 2, 1, 0, 4]


def test_digits_are_the_enlarged_ones_of_scikit_learn():
    x, labels = data.digits()
    assert x.shape == (1797, 28, 28) and x.dtype == torch.uint8 and labels.dtype == torch.int64
    assert labels.tolist() == load_digits().target.tolist()
    assert len(x.unique()) == 256
    assert x[:, :2].sum() == x[:, -2:].sum() == x[:, :, :2].sum() == x[:, :, -2:].sum() == 0
    small = x[:, 2:26, 2:26].double().view(-1, 8, 3, 8, 3).mean((2, 4)) * 16 / 255
    error = small - torch.from_numpy(load_digits().images)
    assert error.square().mean().sqrt() < 1  # of 16 levels


# Images for a model, and batches


@each_device
def test_levels_survive_the_round_trip(device):
    levels = torch.arange(256, dtype=torch.uint8).view(4, 8, 8).to(device)
    x = to_signed(levels)
    assert x.shape == (4, 1, 8, 8) and x.dtype == torch.float32 and x.device.type == device.type
    assert torch.equal(to_uint8(x), levels)
    assert torch.equal(to_uint8(x + 0.003), levels) and torch.equal(to_uint8(x - 0.003), levels)
    expected = torch.from_numpy(np.linspace(-1, 1, 256)).float().view(4, 1, 8, 8)
    assert_close(x.cpu(), expected, rtol=0, atol=1e-7)
    assert (x.min(), x.max()) == (-1, 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_to_uint8_clamps(dtype):
    x = torch.tensor([-9.0, -1.0, 0.0, 1.0, 1.2], dtype=dtype).view(1, 1, 1, 5)
    assert to_uint8(x).flatten().tolist() in ([0, 0, 127, 255, 255], [0, 0, 128, 255, 255])


def test_bad_images_are_named():
    with pytest.raises(ValueError, match=r"images must .*float32"):
        to_signed(torch.zeros(1, 28, 28))
    with pytest.raises(ValueError, match=r"images must .*\(28, 28\)"):
        to_signed(torch.zeros(28, 28, dtype=torch.uint8))
    with pytest.raises(TypeError, match=r"x must .*uint8"):
        to_uint8(torch.zeros(1, 1, 2, 2, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"x must .*\(2, 3, 4, 4\)"):
        to_uint8(torch.zeros(2, 3, 4, 4))
    with pytest.raises(ValueError, match=r"x must .*NaN"):
        to_uint8(torch.full((1, 1, 2, 2), torch.nan))


@each_device
@pytest.mark.parametrize(("n", "batch_size"), [(12, 4), (14, 4), (4, 4), (5, 1)])
def test_an_epoch_has_each_item_at_most_once(device, n, batch_size):
    x = torch.arange(n).to(device)
    batches = minibatches(x, batch_size, generator=generator())
    orders = []
    for _ in range(20):
        epoch = torch.cat(list(itertools.islice(batches, n // batch_size)))
        assert epoch.device.type == device.type
        assert len(epoch.unique()) == len(epoch) == n - n % batch_size
        orders.append(tuple(epoch.tolist()))
    assert len(set(orders)) > 10  # shuffled anew
    assert set(sum(orders, ())) == set(range(n))  # the items left out differ


def test_batches_keep_shape_and_dtype_and_are_rows_of_x():
    x = torch.arange(24.0, dtype=torch.float64).view(6, 2, 2)
    batch = next(minibatches(x, 3, generator=generator()))
    assert batch.shape == (3, 2, 2) and batch.dtype == x.dtype
    assert all(any(torch.equal(row, other) for other in x) for row in batch)


@each_device
def test_batches_repeat_with_their_generator_and_leave_the_global_one_alone(device):
    before = torch.get_rng_state()
    first = next(minibatches(torch.arange(99), 50, generator=generator(device)))
    again = next(minibatches(torch.arange(99), 50, generator=generator(device)))
    other = next(minibatches(torch.arange(99), 50, generator=generator(device, seed=1)))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.device.type == "cpu" and torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("x", [torch.zeros(3, 2), torch.zeros(0), torch.tensor(1.0)])
def test_too_little_data_is_refused_at_the_call(x):
    with pytest.raises(ValueError, match="x must have at least 4 rows"):
        minibatches(x, 4)


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (2.0, TypeError), (True, TypeError)])
def test_a_bad_batch_size_is_named(size, error):
    with pytest.raises(error, match="batch_size must"):
        minibatches(torch.zeros(5), size)


def test_images_ask_neither_the_default_device_nor_dtype():
    def every():
        x, labels = data.digits()
        rows = next(minibatches(x[:40], 7, generator=generator()))
        return x, labels, rows, to_signed(rows), to_uint8(to_signed(rows))

    expected = every()
    with other_defaults():
        found = every()
    assert_close(found, expected, rtol=0, atol=0)


# A folder of pictures


LEVELS = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28)


def saved(place, name, pixels=LEVELS, **how):
    Image.fromarray(pixels).save(place / name, **how)


def test_a_folder_is_read_in_the_order_of_its_names_and_by_every_way_of_writing_grey(tmp_path):
    colours = np.stack([LEVELS] * 3, 2)
    opaque = np.full_like(LEVELS, 255)[..., None]
    saved(tmp_path, "b.png", 255 - LEVELS)
    saved(tmp_path, "a.PNG")
    saved(tmp_path, "c.png", colours)
    saved(tmp_path, "d.png", np.concatenate([colours, opaque], 2))
    saved(tmp_path, "e.png", LEVELS > 128)  # one bit a pixel
    saved(tmp_path, "f.jpg", np.full_like(LEVELS, 70), quality=95)
    (tmp_path / "notes.txt").write_text("not a picture")
    found = data.folder(tmp_path)
    assert found.dtype == torch.uint8 and found.shape == (6, 28, 28)
    for picture in (found[0], found[2], found[3], 255 - found[1]):
        np.testing.assert_array_equal(picture, LEVELS)
    np.testing.assert_array_equal(found[4], 255 * (LEVELS > 128))
    assert (found[5] == 70).all()
    assert data.to_signed(data.folder(str(tmp_path))).shape == (6, 1, 28, 28)


WIDE = np.zeros((28, 30), dtype=np.uint8)
RED = np.stack([LEVELS, LEVELS, 255 - LEVELS], 2)
CLEAR = np.stack([LEVELS] * 3 + [np.full_like(LEVELS, 254)], 2)


@pytest.mark.parametrize(
    "pixels, said",
    [
        (WIDE, "which is 30 x 28"),
        (RED, "which is not grey"),
        (CLEAR, "which is not grey"),
        (LEVELS.astype(np.uint16) * 256, "which is not grey"),
    ],
    ids=["size", "colour", "transparent", "16 bits"],
)
def test_a_picture_that_does_not_fit_is_refused_by_its_name(tmp_path, pixels, said):
    saved(tmp_path, "a.png")
    saved(tmp_path, "odd one.png", pixels)
    with pytest.raises(ValueError, match=f"^path must hold .*'odd one.png', {said}"):
        data.folder(tmp_path)


def test_a_file_that_is_no_picture_is_refused_by_its_name(tmp_path):
    saved(tmp_path, "whole.png")
    raw = (tmp_path / "whole.png").read_bytes()
    for name, part in (("cut.png", raw[: len(raw) // 2]), ("text.jpg", b"hello"), ("no.png", b"")):
        (tmp_path / name).write_bytes(part)
        with pytest.raises(ValueError, match=f"^path must .*'{name}', which cannot be read"):
            data.folder(tmp_path)
        (tmp_path / name).unlink()
    (tmp_path / "not a file.png").mkdir()
    with pytest.raises(ValueError, match=r"'not a file\.png', which cannot be read"):
        data.folder(tmp_path)


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(ValueError, match="path must be a folder with pictures"):
        data.folder(tmp_path)
    with pytest.raises(ValueError, match="path must be a folder that is there"):
        data.folder(tmp_path / "none")
    with pytest.raises(TypeError, match="path must be that of a folder, got None"):
        data.folder(None)
