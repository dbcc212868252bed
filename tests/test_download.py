"""A download against servers on localhost that misbehave, folders that refuse, and interrupts."""

import _thread
import errno
import gzip
import hashlib
import http.server
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from diffusion_core import download

NAME = "numbers.gz"
RAW = np.random.default_rng(0).bytes(60_000)
SHA256 = hashlib.sha256(RAW).hexdigest()
TRICKLED = 375  # seconds until all of RAW has trickled in, 8 bytes each twentieth of a second
HANGS = 300  # seconds, for what takes a moment: no machine is so slow


# Servers


@contextmanager
def mirror(behave):
    """Start a server that answers each GET with behave(handler); yield address, paths asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            with suppress(ConnectionError):  # the other side gave up, as it should
                behave(self)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.closing = threading.Event()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", asked
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()


def head(handler, status=200, **headers):
    handler.send_response(status)
    for key, value in headers.items():
        handler.send_header(key.replace("_", "-"), str(value))
    handler.end_headers()


def send(raw, **headers):
    """Return a behaviour: send raw with its length, or with the headers that are given."""

    def behave(handler):
        head(handler, **(headers or {"Content_Length": len(raw)}))
        handler.wfile.write(raw)

    return behave


def status(code, **headers):
    return lambda handler: head(handler, code, Content_Length=0, **headers)


def silent(handler):
    handler.server.closing.wait()


def stall(handler):
    head(handler, Content_Length=len(RAW))
    handler.wfile.write(RAW[: len(RAW) // 2])
    handler.server.closing.wait()


def trickle(handler, piece=8, pause=0.05):
    head(handler, Content_Length=len(RAW))
    for start in range(0, len(RAW), piece):
        handler.wfile.write(RAW[start : start + piece])
        if handler.server.closing.wait(pause):
            return


def trickle_in_chunks(handler):
    handler.protocol_version = "HTTP/1.1"
    head(handler, Transfer_Encoding="chunked")
    while not handler.server.closing.wait(0.05):
        handler.wfile.write(b"8\r\n8 bytes.\r\n")


def hang_up(handler):
    handler.connection.shutdown(socket.SHUT_RDWR)


HALF = RAW[: len(RAW) // 2]
WRONG = "sent another file"
SLOW = "was silent or too slow"
BAD = {  # what a mirror may do, and what is said about it
    "404": (status(404), r"answered 404 \(Not Found\)"),
    "500": (status(500), r"answered 500 \(Internal Server Error\)"),
    "closes the connection without a word": (hang_up, r"failed \(ConnectionError\)"),
    "closes the connection half way": (send(HALF, Content_Length=len(RAW)), "broke off"),
    "sends half and names no length": (send(HALF, Connection="close"), WRONG),
    "sends half and stops without closing": (stall, r"failed \(ConnectionError\)"),
    "sends nothing": (send(b""), WRONG),
    "sends other bytes of the right length": (send(RAW[:-1] + b"?"), WRONG),
    "sends a gzip of something else": (send(gzip.compress(b"something else")), WRONG),
    "sends a login page with status 200": (send(b"<html>Please log in</html>"), WRONG),
    "sends a length that is no number": (send(RAW, Content_Length="many"), r"failed \(ValueError"),
    "accepts and never answers": (silent, SLOW),
    "trickles": (trickle, SLOW),
    "trickles chunk by chunk": (trickle_in_chunks, SLOW),
    "redirects in a circle": (status(302, Location="/"), r"failed \(TooManyRedirects\)"),
    "redirects to nonsense": (status(302, Location="http://[/"), r"failed \(\w+\)"),
}


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(download, "_failed", {})
    monkeypatch.setattr(download, "PATIENCE", 1.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def serve():
    """serve(behave) starts a server, as mirror() does, that stops after the test."""
    with ExitStack() as stack:
        yield lambda behave: stack.enter_context(mirror(behave))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def fetch(folder, *mirrors):
    path = download.fetch(NAME, SHA256, mirrors, folder)
    assert path == folder / NAME and path.read_bytes() == RAW
    return path


def names(folder):
    return sorted(path.name for path in folder.rglob("*"))


# Mirrors


@pytest.mark.parametrize("behave, said", BAD.values(), ids=BAD)
def test_a_mirror_that(behave, said, serve, folder, recwarn):
    bad, asked = serve(behave)
    start = time.monotonic()
    path = fetch(folder, bad, serve(send(RAW))[0])
    assert time.monotonic() - start < TRICKLED / 3 and names(folder) == [NAME]
    assert [str(w.message).split(" is not used: ")[0] for w in recwarn] == [bad + NAME] * (
        said == WRONG
    )
    path.unlink()
    before = len(asked)
    with pytest.raises(ConnectionError, match=f"^{NAME} could not be downloaded: {bad} {said}"):
        fetch(folder, bad)
    assert len(asked) == before and not names(folder)  # a mirror that failed is asked once


def test_when_all_mirrors_fail_it_is_said_what_each_did(serve, folder):
    (first, _), (second, _) = serve(status(404)), serve(send(HALF, Content_Length=len(RAW)))
    said = rf"downloaded: {first} answered 404 \(Not Found\); {second} broke off\. Connect to the"
    with pytest.raises(ConnectionError, match=said):
        fetch(folder, first, second)
    assert not names(folder)


def test_a_good_mirror_is_asked_once_and_prints_nothing(serve, folder, capfd):
    address, asked = serve(send(RAW))
    fetch(folder, address, "http://never.asked/")
    fetch(folder, address, "http://never.asked/")
    assert asked == [f"/{NAME}"] and names(folder) == [NAME]
    assert capfd.readouterr().out == ""  # the progress bar goes to stderr


def test_a_redirect_is_followed(serve, folder):
    address, _ = serve(status(302, Location=serve(send(RAW))[0] + "elsewhere"))
    fetch(folder, address)


def test_a_mirror_is_not_asked_to_compress(serve, folder):
    def behave(handler):
        compress = "gzip" in handler.headers["Accept-Encoding"]
        send(RAW, **{"Content_Encoding": "gzip"} if compress else {})(handler)

    fetch(folder, serve(behave)[0])


def test_a_mirror_may_take_longer_than_our_patience_when_it_is_not_too_slow(serve, folder):
    address, _ = serve(lambda handler: trickle(handler, piece=6_000, pause=0.15))
    start = time.monotonic()
    fetch(folder, address)
    assert time.monotonic() - start > download.PATIENCE


def test_a_name_look_up_that_hangs_hangs_nothing(serve, folder, monkeypatch):
    answer = threading.Event()
    look_up = socket.getaddrinfo

    def hang(host, *args, **kwargs):
        if host == "127.0.0.1":
            return look_up(host, *args, **kwargs)
        answer.wait(60)
        raise socket.gaierror("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    fetch(folder, "http://mirror.invalid/", serve(send(RAW))[0])
    answer.set()


# Files that are there


def test_a_corrupt_file_is_set_aside_and_fetched_again(serve, folder):
    folder.mkdir()
    (folder / NAME).write_bytes(HALF)
    address, asked = serve(send(RAW))
    with pytest.warns(UserWarning, match=f"now {NAME}.corrupt, is not used") as warned:
        fetch(folder, address)
    assert len(warned) == 1 and SHA256 in str(warned[0].message)
    assert hashlib.sha256(HALF).hexdigest() in str(warned[0].message)
    assert (folder / f"{NAME}.corrupt").read_bytes() == HALF
    assert names(folder) == [NAME, f"{NAME}.corrupt"] and len(asked) == 1


def test_a_corrupt_file_is_not_used_without_a_network_either(serve, folder):
    folder.mkdir()
    (folder / NAME).write_bytes(b"junk")
    address, _ = serve(status(404))
    with pytest.warns(UserWarning, match="not used"), pytest.raises(ConnectionError, match="404"):
        fetch(folder, address)
    with pytest.raises(ConnectionError, match="answered 404"):  # and it is reported once
        fetch(folder, address)
    assert names(folder) == [f"{NAME}.corrupt"]


def test_a_folder_in_the_place_of_the_file_is_set_aside(serve, folder):
    (folder / NAME).mkdir(parents=True)
    with pytest.warns(UserWarning, match="is not used"):
        fetch(folder, serve(send(RAW))[0])
    assert (folder / f"{NAME}.corrupt").is_dir()


def test_a_file_is_hashed_once_and_again_when_it_has_changed(tmp_path, monkeypatch):
    path, hashed, file_hash = tmp_path / NAME, [], download.pooch.file_hash
    monkeypatch.setattr(download.pooch, "file_hash", lambda p: hashed.append(p) or file_hash(p))
    assert download.sha256_of(path) == ""
    path.write_bytes(RAW)
    assert download.sha256_of(path) == download.sha256_of(path) == SHA256 and len(hashed) == 1
    path.write_bytes(RAW[:-1] + b"?")  # as long as before
    os.utime(path, ns=(0, 0))
    assert download.sha256_of(path) == hashlib.sha256(RAW[:-1] + b"?").hexdigest()
    path.write_bytes(RAW + b"?")
    os.utime(path, ns=(0, 0))
    assert download.sha256_of(path) == hashlib.sha256(RAW + b"?").hexdigest()


def test_another_process_may_set_it_aside_first(serve, folder, monkeypatch):
    def too_late(path, target):
        os.rename(path, target)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    folder.mkdir()
    (folder / NAME).write_bytes(b"junk")
    monkeypatch.setattr(Path, "replace", too_late)
    fetch(folder, serve(send(RAW))[0])  # without a warning: the other process gives it
    assert (folder / f"{NAME}.corrupt").read_bytes() == b"junk"


# Folders that refuse


def raises(number):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    return refuse


def write_half(error):
    def write_bytes(path, raw):
        with open(path, "wb") as file:
            file.write(raw[: len(raw) // 2])
        raise error

    return write_bytes


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
REFUSALS = {
    "the disk is full": (Path, "write_bytes", write_half(FULL)),
    "the disk has no room for a folder": (tempfile, "TemporaryDirectory", raises(errno.ENOSPC)),
    "the folder is read-only": (tempfile, "TemporaryDirectory", raises(errno.EACCES)),
    "the file cannot be moved into place": (os, "replace", raises(errno.EROFS)),
}


def assert_refused(serve, folder):
    said = rf"^{NAME} cannot be kept in {re.escape(str(folder))} \([A-Z][a-z -]+\): make room there"
    with pytest.raises(OSError, match=said):
        fetch(folder, serve(send(RAW))[0])


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_it_is_said_when(refusal, serve, folder, monkeypatch):
    monkeypatch.setattr(*refusal)
    assert_refused(serve, folder)
    assert names(folder) == []


@pytest.mark.parametrize("inner", ["", "inner"])
def test_it_is_said_when_a_file_is_in_the_place_of_the_folder(inner, serve, folder):
    folder.write_bytes(b"mine")
    assert_refused(serve, folder / inner)
    assert folder.read_bytes() == b"mine"


@pytest.mark.parametrize("corrupt", [False, True])
def test_a_folder_that_is_truly_read_only(corrupt, serve, folder):
    folder.mkdir()
    if corrupt:
        (folder / NAME).write_bytes(b"junk")
    folder.chmod(0o555)
    if os.access(folder, os.W_OK):
        pytest.skip("this user, root perhaps, may write into a read-only folder")
    assert_refused(serve, folder)
    folder.chmod(0o755)
    assert names(folder) == [NAME] * corrupt


def test_a_corrupt_file_in_a_read_only_folder_is_not_used(serve, folder, monkeypatch):
    folder.mkdir()
    (folder / NAME).write_bytes(b"junk")
    monkeypatch.setattr(Path, "replace", raises(errno.EACCES))
    assert_refused(serve, folder)
    assert names(folder) == [NAME]


def test_another_process_may_download_it_first(serve, folder, monkeypatch):
    """Windows refuses to move a file onto one that another process has just put there and reads."""

    def too_late(source, target):
        Path(target).write_bytes(RAW)
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "replace", too_late)
    fetch(folder, serve(send(RAW))[0])
    assert names(folder) == [NAME]


# Interrupts and other processes


@pytest.fixture
def interruptible():
    """A shell starts its background jobs with interrupts ignored; here they arrive all the same."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_bytes_come_leaves_nothing(serve, folder):
    def interrupt(handler):
        head(handler, Content_Length=len(RAW))
        handler.wfile.write(HALF)
        _thread.interrupt_main()
        handler.server.closing.wait()

    with pytest.raises(KeyboardInterrupt):
        fetch(folder, serve(interrupt)[0])
    assert not names(folder)
    fetch(folder, serve(send(RAW))[0])  # and nothing is held against anybody


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("step", ["while it is written", "before it is moved"])
def test_an_interrupt_leaves_nothing(step, serve, folder, monkeypatch):
    if step == "while it is written":
        monkeypatch.setattr(Path, "write_bytes", write_half(KeyboardInterrupt()))
    else:
        monkeypatch.setattr(os, "replace", lambda *args: _thread.interrupt_main() or time.sleep(9))
    with pytest.raises(KeyboardInterrupt):
        fetch(folder, serve(send(RAW))[0])
    assert not names(folder)


# The package without its __init__, which loads torch: these processes start at once.
PROCESS = """
import sys, types, pathlib
sys.modules["diffusion_core"] = package = types.ModuleType("diffusion_core")
package.__path__ = [sys.argv[1]]
from diffusion_core import download
print("ready", flush=True)
input()
path = download.fetch(*sys.argv[2:4], [sys.argv[4]], pathlib.Path(sys.argv[5]))
sys.exit(download.sha256_of(path) != sys.argv[3])
"""


def start(address, folder):
    """Start a process that fetches the file into the folder as soon as it reads a line."""
    arguments = [str(Path(download.__file__).parent), NAME, SHA256, address, str(folder)]
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, *arguments],
        env={**os.environ, "TQDM_DISABLE": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until_ready(process):
    assert process.stdout.readline() == "ready\n"


def go(process):
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.mark.parametrize("there", ["nothing", "a corrupt file"])
def test_two_processes_that_download_at_once(there, serve, folder):
    both = threading.Barrier(2, timeout=HANGS)

    def behave(handler):
        both.wait()  # neither gets a byte before the other has asked
        send(RAW)(handler)

    folder.mkdir()
    if there == "a corrupt file":
        (folder / NAME).write_bytes(b"junk")
    address, _ = serve(behave)
    with start(address, folder) as first, start(address, folder) as second:
        for process in (first, second):
            wait_until_ready(process)
        for process in (first, second):
            go(process)
        said = first.communicate(timeout=HANGS)[1] + second.communicate(timeout=HANGS)[1]
    assert first.returncode == second.returncode == 0, said
    assert (folder / NAME).read_bytes() == RAW
    assert said.count("is not used") == (there == "a corrupt file")
    assert names(folder) == [NAME] + [f"{NAME}.corrupt"] * (there == "a corrupt file")


def test_a_process_that_is_killed_in_the_middle_leaves_nothing(serve, folder):
    half_way = threading.Event()

    def behave(handler):
        head(handler, Content_Length=len(RAW))
        handler.wfile.write(HALF)
        half_way.set()
        handler.server.closing.wait()

    with start(serve(behave)[0], folder) as process:
        wait_until_ready(process)
        go(process)
        assert half_way.wait(HANGS)
        time.sleep(0.1)
        process.kill()
    assert process.returncode != 0 and not folder.exists()
