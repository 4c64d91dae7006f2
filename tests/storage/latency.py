"""A storage that is far away: every call takes a round trip and is counted, for what requests cost."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator

from zitcache.storage.protocol import Buffer, ObjectInfo, ObjectWriter, Storage


class DistantStorage:
    """``inner``, ``seconds`` away, as remote storages are: ``concurrency`` calls at once pay.

    ``calls``: how often each verb was used on each folder ("load packs"). ``most_at_once``: of all calls.
    """

    def __init__(self, inner: Storage, seconds: float = 0.0, concurrency: int = 8) -> None:
        self.inner = inner
        self.seconds = seconds
        self.is_remote = True
        self.concurrency = concurrency
        self.calls: Counter[str] = Counter()
        self.bytes_read = 0
        self.largest_read = 0
        self.at_once = 0
        self.most_at_once = 0
        self._lock = threading.Lock()

    @property
    def location(self) -> str:
        return self.inner.location

    def reset(self) -> None:
        """Count from zero again."""
        self.calls.clear()
        self.bytes_read = self.largest_read = self.most_at_once = 0

    def store(self, name: str, data: Buffer) -> None:
        with self._call("store", name):
            self.inner.store(name, data)

    def create(self, name: str, data: Buffer) -> bool:
        with self._call("create", name):
            return self.inner.create(name, data)

    def writer(self) -> ObjectWriter:
        return _Writer(self, self.inner.writer())

    def load(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        with self._call("load", name):
            data = self.inner.load(name, offset, length)
            self._count_bytes(len(data))
            return data

    def load_into(self, name: str, offset: int, buffer: memoryview) -> None:
        with self._call("load", name):
            self.inner.load_into(name, offset, buffer)
            self._count_bytes(buffer.nbytes)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        with self._call("list", prefix):
            return iter(tuple(self.inner.list(prefix)))

    def info(self, name: str) -> ObjectInfo:
        with self._call("info", name):
            return self.inner.info(name)

    def delete(self, name: str) -> None:
        with self._call("delete", name):
            self.inner.delete(name)

    def _call(self, verb: str, name: str) -> _Call:
        return _Call(self, f"{verb} {name.partition('/')[0]}")

    def _count_bytes(self, count: int) -> None:
        with self._lock:
            self.bytes_read += count
            self.largest_read = max(self.largest_read, count)


class _Call:
    def __init__(self, storage: DistantStorage, what: str) -> None:
        self._storage, self._what = storage, what

    def __enter__(self) -> None:
        storage = self._storage
        with storage._lock:
            storage.calls[self._what] += 1
            storage.at_once += 1
            storage.most_at_once = max(storage.most_at_once, storage.at_once)
        if storage.seconds:
            time.sleep(storage.seconds)

    def __exit__(self, *error: object) -> None:
        with self._storage._lock:
            self._storage.at_once -= 1


class _Writer:
    """Sends nothing before the commit, as one PUT does."""

    def __init__(self, storage: DistantStorage, inner: ObjectWriter) -> None:
        self._storage, self._inner = storage, inner

    def write(self, data: Buffer) -> None:
        self._inner.write(data)

    def commit(self, name: str) -> None:
        with self._storage._call("commit", name):
            self._inner.commit(name)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self._inner.__exit__(*error)  # type: ignore[arg-type]
