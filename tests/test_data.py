"""The data layer against a folder and a server of its own."""

import gzip
import hashlib
import http.server
import itertools
import os
import socket
import struct
import threading
import time

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.testing import assert_close

from diffusion_core import available_devices, data
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
    """An empty DIFFUSION_DATA, an empty user cache, tiny files expected, no network."""
    digests = {name: hashlib.sha256(raw).hexdigest() for name, raw in FILES.items()}
    monkeypatch.setattr(data, "SHA256", digests)
    monkeypatch.setattr(data, "MIRRORS", (closed_port(), closed_port()))
    monkeypatch.setattr(data, "_failed_mirrors", [])
    monkeypatch.setattr(data.pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("DIFFUSION_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def fill(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in FILES.items():
        (folder / name).write_bytes(raw)


@pytest.fixture
def serve():
    """serve(files) starts a server on localhost; returns its address and the paths asked for."""
    servers = []

    def start(files):
        asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                raw = files.get(self.path.lstrip("/"))
                self.send_response(404 if raw is None else 200)
                self.send_header("Content-Length", str(len(raw or b"")))
                self.end_headers()
                self.wfile.write(raw or b"")

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/", asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def assert_is_mnist(images, split="train"):
    prefix = "train" if split == "train" else "t10k"
    assert (images.source, images.note) == ("MNIST", "")
    assert images.x.dtype == torch.uint8 and images.labels.dtype == torch.int64
    assert (images.x.numpy() == ARRAYS[f"{prefix}-images-idx3-ubyte.gz"]).all()
    assert (images.labels.numpy() == ARRAYS[f"{prefix}-labels-idx1-ubyte.gz"]).all()


def assert_is_digits(images):
    assert images.source == "scikit-learn digits"
    assert "DIFFUSION_DATA" in images.note and "network" in images.note and "\n" not in images.note
    assert images.x.dtype == torch.uint8 and images.x.shape[1:] == (28, 28)


@pytest.mark.parametrize("split", ["train", "test"])
def test_files_in_the_folder_are_used_without_a_network(folder, split):
    fill(folder)
    assert_is_mnist(data.images(split), split)


def test_the_user_cache_is_used_where_no_folder_is_named(folder, monkeypatch):
    fill(folder.parent / "cache" / "diffusion_course")
    assert_is_digits(data.images())
    monkeypatch.delenv("DIFFUSION_DATA")
    assert_is_mnist(data.images())


def test_without_files_and_network_the_digits_come_fast_and_say_so(folder):
    start = time.monotonic()
    train, test = data.images(), data.images("test")
    assert time.monotonic() - start < 5
    assert_is_digits(train)
    assert_is_digits(test)
    assert (len(train.x), len(test.x)) == (len(train.labels), len(test.labels)) == (1497, 300)
    with pytest.raises(data.DataUnavailable, match=r"is missing in .*127\.0\.0\.1.*DIFFUSION_DATA"):
        data.mnist()
    assert not list(folder.iterdir())


@pytest.mark.parametrize("change", [lambda raw: raw[:-9] + b"?" + raw[-8:], lambda raw: raw[:99]])
def test_a_corrupt_or_cut_file_is_not_used(folder, change):
    fill(folder)
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(change(path.read_bytes()))
    assert_is_digits(data.images())
    with pytest.raises(data.DataUnavailable, match="wrong sha256"):
        data.mnist()


def test_a_corrupt_file_is_replaced_when_there_is_a_network(folder, monkeypatch, serve):
    fill(folder)
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(b"junk")
    address, asked = serve(FILES)
    monkeypatch.setattr(data, "MIRRORS", (address,))
    assert_is_mnist(data.images())
    assert asked == ["/train-labels-idx1-ubyte.gz"]


@pytest.mark.parametrize("first", ["closed", "missing", "wrong"])
def test_the_second_mirror_is_tried(folder, monkeypatch, serve, capfd, first):
    wrong = dict.fromkeys(FILES, b"<html>Please log in to this wireless network</html>")
    address = {"closed": closed_port(), "missing": serve({})[0], "wrong": serve(wrong)[0]}[first]
    monkeypatch.setattr(data, "MIRRORS", (address, serve(FILES)[0]))
    assert_is_mnist(data.images())
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)  # nothing else
    assert capfd.readouterr().out == ""  # the progress bar goes to stderr
    monkeypatch.setattr(data, "MIRRORS", (closed_port(),))
    assert_is_mnist(data.images())


def test_after_a_failure_the_network_is_left_alone_but_files_are_seen(folder, monkeypatch, serve):
    assert_is_digits(data.images())
    address, asked = serve(FILES)
    monkeypatch.setattr(data, "MIRRORS", (address,))
    assert_is_digits(data.images())
    assert not asked
    fill(folder)
    assert_is_mnist(data.images())


def test_a_name_look_up_that_hangs_does_not_hang_the_lesson(folder, monkeypatch):
    answer = threading.Event()

    def hang(*args, **kwargs):
        answer.wait(60)
        raise socket.gaierror("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(data, "OPEN_SECONDS", 0.2)
    start = time.monotonic()
    assert_is_digits(data.images())
    assert time.monotonic() - start < 5
    answer.set()


def test_a_folder_that_cannot_be_is_said_so(folder, monkeypatch):
    (folder / "file").write_text("not a folder")
    monkeypatch.setenv("DIFFUSION_DATA", str(folder / "file"))
    assert_is_digits(data.images())
    with pytest.raises(data.DataUnavailable, match="is missing in"):
        data.mnist()


def test_only_missing_data_falls_back(folder, monkeypatch):
    fill(folder)
    bad = FILES["train-labels-idx1-ubyte.gz"]  # where the images should be
    (folder / "train-images-idx3-ubyte.gz").write_bytes(bad)
    digest = hashlib.sha256(bad).hexdigest()
    monkeypatch.setitem(data.SHA256, "train-images-idx3-ubyte.gz", digest)
    with pytest.raises(ValueError, match="idx file of bytes with 3 dimensions"):
        data.images()


@pytest.mark.parametrize(
    "raw", [b"", b"\0\0\x08", b"\0\0\x08\1\0\0", b"\0\0\x0d\x01\0\0\0\x01x", b"\0\0\x08\1\0\0\0\2x"]
)
def test_bad_idx_files_are_refused(tmp_path, raw):
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(raw))
    with pytest.raises(ValueError, match=r"labels\.gz must be an idx file of bytes"):
        data._read_idx(str(path), 1)


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
