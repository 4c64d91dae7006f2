"""A storage in memory, with a clock of its own: for tests that run the same thing thousands of times."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import TracebackType

from zitcache.errors import ObjectNotFound, ObjectTruncated
from zitcache.storage.protocol import Buffer, ObjectInfo, ObjectWriter


class MemoryStorage:
    """Objects in a dictionary. ``clock``: what the storage says the time is; None: the real one."""

    def __init__(self, objects: dict[str, tuple[bytes, float]] | None = None) -> None:
        self.objects = dict(objects or {})
        self.clock: float | None = None
        self._lock = threading.Lock()

    @property
    def location(self) -> str:
        return "memory://test"

    @property
    def is_remote(self) -> bool:
        return False

    @property
    def concurrency(self) -> int:
        return 1

    def copy(self) -> MemoryStorage:
        """The same objects, to be changed apart."""
        other = MemoryStorage(self.objects)
        other.clock = self.clock
        return other

    def age(self, seconds: float) -> None:
        """Everything was written so much earlier."""
        self.objects = {name: (data, when - seconds) for name, (data, when) in self.objects.items()}

    def names(self, folder: str) -> list[str]:
        return sorted(name for name in self.objects if name.rpartition("/")[0] == folder)

    def _now(self) -> float:
        return time.time() if self.clock is None else self.clock

    def store(self, name: str, data: Buffer) -> None:
        with self._lock:
            known = self.objects.get(name)
            if known is None or len(known[0]) != memoryview(data).nbytes:
                self.objects[name] = (bytes(data), self._now())

    def create(self, name: str, data: Buffer) -> bool:
        with self._lock:
            if name in self.objects:
                return False
            self.objects[name] = (bytes(data), self._now())
            return True

    def writer(self) -> ObjectWriter:
        return _Writer(self)

    def load(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        data = self._get(name)
        return data[offset:] if length is None else data[offset : offset + length]

    def load_into(self, name: str, offset: int, buffer: memoryview) -> None:
        data = self._get(name)[offset : offset + buffer.nbytes]
        if len(data) < buffer.nbytes:
            raise ObjectTruncated(f"{name} is too short.")
        buffer[:] = data

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        with self._lock:
            found = [
                ObjectInfo(name, len(data), when)
                for name, (data, when) in sorted(self.objects.items())
                if name.rpartition("/")[0] == prefix
            ]
        return iter(found)

    def info(self, name: str) -> ObjectInfo:
        data = self._get(name)
        return ObjectInfo(name, len(data), self.objects[name][1])

    def delete(self, name: str) -> None:
        with self._lock:
            self.objects.pop(name, None)

    def _get(self, name: str) -> bytes:
        try:
            return self.objects[name][0]
        except KeyError:
            raise ObjectNotFound(f"{name} is missing.") from None


class _Writer:
    def __init__(self, storage: MemoryStorage) -> None:
        self._storage = storage
        self._data = bytearray()

    def write(self, data: Buffer) -> None:
        self._data += data

    def commit(self, name: str) -> None:
        self._storage.store(name, bytes(self._data))

    def __enter__(self) -> _Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._data.clear()
