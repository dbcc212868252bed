"""A file from the network: from the first mirror that has it, whole, checked and kept."""

import functools
import hashlib
import io
import os
import tempfile
import threading
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from pathlib import Path

import pooch
import requests

from .progress import progress_bar

PATIENCE = 4.0  # seconds for a mirror to answer: two silent ones cost 8 s, once in a process
SLOWEST = 16_384  # bytes in a second: a slower mirror counts as silent
_failed: dict[str, str] = {}  # mirror -> what happened there: this process does not ask it again


def fetch(name: str, sha256: str, mirrors: Sequence[str], folder: Path) -> Path:
    """Return folder/name, a file with this sha256; download it if need be.

    Another file of that name becomes NAME.corrupt, with a warning. A download is held in memory
    until it is whole and right, and then moved into place in one step: no process ever finds
    half a file there, or a wrong one.
    Raises OSError, which says what happened at each mirror, or to the folder.
    """
    if not (isinstance(name, str) and name):
        raise TypeError(f"name must be that of a file, got {name!r:.60}")
    if not (isinstance(sha256, str) and len(sha256) == 64):
        raise ValueError(f"sha256 must have 64 digits, got {sha256!r:.80}")
    if not (isinstance(mirrors, Sequence) and all(isinstance(mirror, str) for mirror in mirrors)):
        raise TypeError(f"mirrors must be addresses, got {mirrors!r:.60}")
    path = _path("folder", folder) / name
    found = sha256_of(path)
    if found == sha256:
        return path
    try:
        if found:
            _set_aside(path, found, sha256)
        _keep(_download(name, sha256, mirrors), path)
    except ConnectionError:  # no mirror helped, and it says so
        raise
    except OSError as error:
        if sha256_of(path) != sha256:  # unless another process has just put it there
            why = f"{name} cannot be kept in {folder} ({error.strerror})"
            raise OSError(f"{why}: make room there, or make the folder writable.") from error
    return path


def sha256_of(path: Path) -> str:
    """Return a file's sha256, "" if there is no file; it is read once per size and mtime."""
    path = _path("path", path)
    try:
        state = path.stat()
        return _hash(path, state.st_size, state.st_mtime_ns)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        return f"unreadable ({error.strerror})"


def _path(name: str, given: str | Path) -> Path:
    if not isinstance(given, str | os.PathLike):
        raise TypeError(f"{name} must be a path, got {type(given).__name__}")
    return Path(given)


@functools.cache
def _hash(path: Path, size: int, mtime: int) -> str:
    return pooch.file_hash(path)


def refusal(place: str, found: str, sha256: str) -> str:
    """Return the sentence that refuses a file: where it is, its sha256 and the right one."""
    return f"{place} is not used: its sha256 is {found}, not {sha256}."


def _set_aside(path: Path, found: str, sha256: str) -> None:
    aside = path.with_name(f"{path.name}.corrupt")
    with suppress(FileNotFoundError):  # another process has done it
        path.replace(aside)
        warnings.warn(refusal(f"{path}, now {aside.name},", found, sha256), stacklevel=3)


def _keep(raw: bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:  # gone whatever happens
        new = Path(folder, path.name)
        new.write_bytes(raw)
        os.replace(new, path)


def _download(name: str, sha256: str, mirrors: Sequence[str]) -> bytes:
    for mirror in mirrors:
        if mirror in _failed:
            continue
        try:
            raw = _receive(mirror + name)
        except (OSError, ValueError) as error:  # ValueError: a header that makes no sense
            _failed[mirror] = _reason(error)
            continue
        found = hashlib.sha256(raw).hexdigest()
        if found == sha256:
            return raw
        _failed[mirror] = "sent another file"
        warnings.warn(refusal(mirror + name, found, sha256), stacklevel=3)
    tried = "; ".join(f"{mirror} {_failed[mirror]}" for mirror in mirrors)
    raise ConnectionError(f"{name} could not be downloaded: {tried}. Connect to the network.")


def _reason(error: Exception) -> str:
    if isinstance(error, requests.HTTPError):
        return f"answered {error.response.status_code} ({error.response.reason})"
    if isinstance(error, TimeoutError | requests.Timeout):
        return "was silent or too slow"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "broke off"
    return f"failed ({type(error).__name__})"


def _receive(url: str) -> bytes:
    """Return what url sends; in a thread, as a look-up of a name knows no time limit."""
    done, start = Future(), time.monotonic()

    def work() -> None:
        try:
            headers = {"Accept-Encoding": "identity"}
            with requests.get(url, stream=True, timeout=PATIENCE, headers=headers) as response:
                response.raise_for_status()
                bar.reset(int(response.headers.get("Content-Length", 0)) or None)
                for chunk in response.iter_content(4096):
                    bar.update(body.write(chunk))
            done.set_result(None)
        except Exception as error:
            done.set_exception(error)

    bar = progress_bar(unit="B", unit_scale=True, desc=url.rsplit("/", 1)[-1])
    with bar, io.BytesIO() as body:  # closed when we leave early: then the thread ends, too
        threading.Thread(target=work, daemon=True).start()
        while not wait([done], timeout=0.1).done:
            if time.monotonic() - start > PATIENCE + body.tell() / SLOWEST:
                raise TimeoutError
        done.result()
        return body.getvalue()
