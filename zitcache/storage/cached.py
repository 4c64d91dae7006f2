"""A remote storage whose small immutable objects are kept on the local disk as well.

Only objects named by the BLAKE3 of their bytes are kept, and only one that this process has seen in a
listing, or written itself, is taken from there: an object that was deleted meanwhile does not live on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from blake3 import blake3

from zitcache.storage.metadata_cache import MAX_OBJECT_BYTES, MetadataCache
from zitcache.storage.protocol import Buffer, ObjectInfo, ObjectWriter, Storage

KEPT_FOLDERS = frozenset(
    {"index", "snapshots", "digests", "checks", "goldens", "forgotten", "damaged", "runs"}
)
_OBJECT_ID = re.compile("[0-9a-f]{64}")


class CachedStorage:
    """``inner``, with what ``cache`` knows of it. See :class:`~zitcache.storage.protocol.Storage`."""

    def __init__(self, inner: Storage, cache: MetadataCache) -> None:
        self.inner = inner
        self.cache = cache
        self._present: dict[str, int] = {}

    @property
    def location(self) -> str:
        """See :attr:`Storage.location`."""
        return self.inner.location

    @property
    def is_remote(self) -> bool:
        """See :attr:`Storage.is_remote`."""
        return self.inner.is_remote

    @property
    def concurrency(self) -> int:
        """See :attr:`Storage.concurrency`."""
        return self.inner.concurrency

    def store(self, name: str, data: Buffer) -> None:
        """See :meth:`Storage.store`."""
        self.inner.store(name, data)
        if _is_kept(name):
            view = memoryview(data).cast("B")
            self._present[name] = view.nbytes
            self._keep(name, view)

    def create(self, name: str, data: Buffer) -> bool:
        """See :meth:`Storage.create`."""
        return self.inner.create(name, data)

    def writer(self) -> ObjectWriter:
        """See :meth:`Storage.writer`."""
        return self.inner.writer()

    def load(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """See :meth:`Storage.load`. Of an object that is kept, all of it is loaded at once."""
        size = self._present.get(name)
        if size is None or size > MAX_OBJECT_BYTES or offset < 0 or (length is not None and length < 0):
            return self.inner.load(name, offset, length)
        folder, _, object_id = name.partition("/")
        data = self.cache.get(folder, object_id)
        if data is None:
            data = self.inner.load(name)
            self._keep(name, data)
        return data[offset:] if length is None else data[offset : offset + length]

    def load_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """See :meth:`Storage.load_into`."""
        self.inner.load_into(name, offset, buffer)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See :meth:`Storage.list`."""
        if prefix not in KEPT_FOLDERS:
            yield from self.inner.list(prefix)
            return
        found = list(self.inner.list(prefix))
        present = {info.name: info.size for info in found if _is_kept(info.name)}
        for name in [name for name in self._present if name.startswith(f"{prefix}/") and name not in present]:
            self._present.pop(name, None)
        self._present.update(present)
        yield from found

    def info(self, name: str) -> ObjectInfo:
        """See :meth:`Storage.info`."""
        return self.inner.info(name)

    def delete(self, name: str) -> None:
        """See :meth:`Storage.delete`."""
        self._present.pop(name, None)
        if _is_kept(name):
            folder, _, object_id = name.partition("/")
            self.cache.forget(folder, object_id)
        self.inner.delete(name)

    def _keep(self, name: str, data: bytes | memoryview) -> None:
        folder, _, object_id = name.partition("/")
        if blake3(data).hexdigest() == object_id:
            self.cache.put(folder, object_id, data)


def _is_kept(name: str) -> bool:
    folder, _, object_id = name.partition("/")
    return folder in KEPT_FOLDERS and _OBJECT_ID.fullmatch(object_id) is not None
