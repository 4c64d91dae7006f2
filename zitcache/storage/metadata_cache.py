"""Small immutable things of a remote repository, kept in a local directory that may vanish at any time.

Everything is named by the BLAKE3 of its bytes and checked against it whenever it is used, so a damaged or
foreign file in there can cost a second look at the network and nothing else. Many processes share it: files
appear by a rename. Where it cannot be written (a read-only home, a full disk), it is done without.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from blake3 import blake3

VARIABLE = "ZITCACHE_METADATA_CACHE"
"""A directory to use instead, or "off"."""

MAX_BYTES = 512 << 20
MAX_OBJECT_BYTES = 64 << 20
MAX_MEMORY_BYTES = 32 << 20
_OFF = frozenset({"off", "no", "none", "0", "false"})
_HASH_BYTES = 32
_TOUCH_AFTER_SECONDS = 86400.0
_PART = ".part-"
_MODEL_CACHES = ("ZITCACHE_CACHE", "MODELSCOPE_CACHE", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")


def default_directory(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Where the caches of all repositories lie; None for "without one".

    :data:`VARIABLE`, else ``zitcache`` below ``$XDG_CACHE_HOME`` or ``~/.cache``. Never inside a model cache
    that the environment names: it would be backed up, and restoring would wipe it.
    """
    named = environ.get(VARIABLE, "")
    if named.strip().lower() in _OFF:
        return None
    base = environ.get("XDG_CACHE_HOME", "")
    home = environ.get("HOME", "")
    if named:
        place = Path(named if not named.startswith("~/") else home + named[1:])
    elif base.startswith("/"):
        place = Path(base, "zitcache")
    elif home.startswith("/"):
        place = Path(home, ".cache", "zitcache")
    else:
        return None
    place = Path(os.path.realpath(place))
    for variable in _MODEL_CACHES:
        model_cache = environ.get(variable, "")
        if model_cache and _is_inside(place, Path(os.path.realpath(model_cache))):
            return None
    return place


def _is_inside(place: Path, folder: Path) -> bool:
    return place == folder or folder in place.parents


class MetadataCache:
    """What is kept of one repository. Every method may be called from any thread; none raises ``OSError``.

    ``directory``: of all repositories; ``repository_id`` tells them apart. None: nothing is kept on a disk.
    What was used last is kept in memory as well, so that one process asks the network once in any case.
    """

    def __init__(self, directory: Path | None, repository_id: str, *, max_bytes: int = MAX_BYTES) -> None:
        self._base = directory
        self._root = None if directory is None else directory / repository_id
        self._max_bytes = max_bytes
        self._may_write = directory is not None
        self._is_trimmed = False
        self._memory: dict[tuple[str, str], bytes] = {}
        self._memory_bytes = 0
        self._lock = threading.Lock()

    def get(self, folder: str, name: str) -> bytes | None:
        """The bytes whose BLAKE3 is ``name`` (64 hex digits); None if they are not here."""
        known = self._memory.get((folder, name))
        if known is not None:
            return known
        data = self._read(folder, name)
        if data is None:
            return None
        if blake3(data).hexdigest() == name:
            self._remember(folder, name, data)
            return data
        self.forget(folder, name)
        return None

    def put(self, folder: str, name: str, data: bytes | bytearray | memoryview) -> None:
        """Keep ``data``, whose BLAKE3 is ``name``: the caller has made sure."""
        self._remember(folder, name, bytes(data))
        self._write(folder, name, data)

    def get_sealed(self, folder: str, name: str) -> bytes | None:
        """What :meth:`put_sealed` kept under ``name``; None if it is not here or no longer whole."""
        data = self._read(folder, name)
        if data is None:
            return None
        seal, content = data[:_HASH_BYTES], data[_HASH_BYTES:]
        if _seal(name, content) == seal:
            return content
        self.forget(folder, name)
        return None

    def put_sealed(self, folder: str, name: str, data: bytes) -> None:
        """Keep ``data`` under a name that is not its hash, with a hash over both before it."""
        self._write(folder, name, _seal(name, data) + data)

    def forget(self, folder: str, name: str) -> None:
        """Let go of one thing."""
        with self._lock:
            self._memory_bytes -= len(self._memory.pop((folder, name), b""))
        if self._root is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._root / folder / name)

    def _remember(self, folder: str, name: str, data: bytes) -> None:
        with self._lock:
            if len(data) > MAX_MEMORY_BYTES // 4 or (folder, name) in self._memory:
                return
            if self._memory_bytes + len(data) > MAX_MEMORY_BYTES:
                self._memory, self._memory_bytes = {}, 0
            self._memory[folder, name] = data
            self._memory_bytes += len(data)

    def _read(self, folder: str, name: str) -> bytes | None:
        if self._root is None:
            return None
        path = self._root / folder / name
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_OBJECT_BYTES + _HASH_BYTES:
                return None
            with open(fd, "rb", closefd=False) as file:
                data = file.read(status.st_size)
            if status.st_mtime < time.time() - _TOUCH_AFTER_SECONDS:
                with contextlib.suppress(OSError):
                    os.utime(fd)  # what is used stays longest
        except OSError:
            return None
        finally:
            os.close(fd)
        return data

    def _write(self, folder: str, name: str, data: bytes | bytearray | memoryview) -> None:
        if self._root is None or not self._may_write or len(data) > MAX_OBJECT_BYTES:
            return
        self._trim()
        path = self._root / folder / name
        part = path.with_name(f"{_PART}{os.getpid()}-{os.urandom(8).hex()}")
        try:
            try:
                fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                file.write(data)
            os.replace(part, path)
        except OSError:
            self._may_write = False
            with contextlib.suppress(OSError):
                os.unlink(part)

    def _trim(self) -> None:
        """Once in a process: when there is too much, drop what was unused for longest, of any repository."""
        if self._is_trimmed or self._base is None:
            return
        self._is_trimmed = True
        found = sorted(_files_below(self._base))
        total = sum(size for _, size, _ in found)
        if total <= self._max_bytes:
            return
        for _, size, path in found:
            with contextlib.suppress(OSError):
                os.unlink(path)
            total -= size
            if total <= self._max_bytes * 3 // 4:
                return


def _seal(name: str, content: bytes) -> bytes:
    return blake3(name.encode() + b"\n" + content).digest()


def _files_below(base: Path) -> Iterator[tuple[float, int, str]]:
    """Time of last use, size and path of every file that such a cache keeps."""
    for folder, _, names in os.walk(base):
        # <repository id>/<folder>/<name>: whatever else lies there is not ours.
        if len(Path(folder).relative_to(base).parts) != 2:
            continue
        for name in names:
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                status = os.lstat(path)
                if stat.S_ISREG(status.st_mode):
                    yield status.st_mtime, status.st_size, path
