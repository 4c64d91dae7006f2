"""The contract between the repository and the place where its bytes lie.

Objects are immutable and named by their content, except the few created with :meth:`Storage.create`.
Names are relative POSIX paths of ``[a-z0-9._-]`` segments (``packs/3fa4…``). Every implementation passes
``tests/storage/test_conformance.py``. Calls may come from many threads at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """Name and size in bytes of a stored object, and when it was written (seconds since the epoch)."""

    name: str
    size: int
    modified: float


class ObjectWriter(Protocol):
    """An object being written whose name is not known yet (it is the hash of what is written).

    Nothing is visible before :meth:`commit`. Leaving the ``with`` block without it removes every trace.
    """

    def write(self, data: Buffer) -> None:
        """Append ``data``. Raises ``NoSpace`` and the like; then the object is gone."""

    def commit(self, name: str) -> None:
        """Make the object durable and visible as ``name``, all or nothing. If that exists, keep it."""

    def __enter__(self) -> ObjectWriter: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Storage(Protocol):
    """Where objects live. Raises only :class:`~zitcache.errors.ZitcacheError` subclasses."""

    @property
    def location(self) -> str:
        """What the user calls it: an absolute path or a URL."""

    @property
    def is_remote(self) -> bool:
        """Whether each call is a round trip over a network: few large ones at once beat many small ones."""

    @property
    def concurrency(self) -> int:
        """How many calls it pays to have in flight at once; 1 where a disk does the queueing."""

    def store(self, name: str, data: Buffer) -> None:
        """Write an object durably, all or nothing. A no-op when ``name`` exists with the same size."""

    def create(self, name: str, data: Buffer) -> bool:
        """Write ``name`` durably unless it exists; False, and nothing changed, when it does (atomic)."""

    def writer(self) -> ObjectWriter:
        """Begin an object whose name comes with its commit."""

    def load(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes ``offset .. offset+length`` (to the end if None). Shorter objects give what is there.

        Raises ``ObjectNotFound``."""

    def load_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """Fill the whole of ``buffer`` (writable bytes) with what lies at ``offset``, without a copy.

        Raises ``ObjectNotFound``, or ``ObjectTruncated`` when the object ends before the buffer is full."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object directly in the folder ``prefix`` ("packs"), in no order; nothing if it is missing."""

    def info(self, name: str) -> ObjectInfo:
        """Size and time of one object. Raises ``ObjectNotFound``."""

    def delete(self, name: str) -> None:
        """Remove an object durably; no error when it is already gone. "Denied" is an error."""
