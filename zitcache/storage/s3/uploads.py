"""Writing objects: one PutObject each, checked by the endpoint where it can, and by its size afterwards."""

from __future__ import annotations

import base64
import hashlib
import threading
import zlib
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from zitcache.errors import IntegrityError, UsageError
from zitcache.storage.names import check_name
from zitcache.storage.protocol import Buffer
from zitcache.storage.s3.errors import Kind
from zitcache.storage.s3.limits import RateLimit
from zitcache.storage.s3.requests import Requests
from zitcache.storage.traits import CRC32, FORBID_OVERWRITE, IF_NONE_MATCH, MD5, NONE

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

    from zitcache.storage.s3.storage import S3Storage

SMALL_BYTES = 64 << 10
"""Up to this size a body goes out with its headers, without asking first whether it is welcome."""
_GROWTH = 4 << 20
_KEPT_BUFFERS = 8
_BODY_PIECE = 256 << 10
_FORBID_OVERWRITE_HEADER = "x-oss-forbid-overwrite"


class Body:
    """The bytes of an upload as the file that botocore wants, without a copy.

    ``read`` gives larger pieces than it is asked for: http.client asks for 16 KiB. Not all at once: the
    timeout of a socket counts for a whole ``sendall``.
    """

    def __init__(self, data: memoryview, limit: RateLimit) -> None:
        self._data = data
        self._limit = limit
        self._at = 0

    def __len__(self) -> int:
        return len(self._data)

    def tell(self) -> int:
        """Where the next piece begins."""
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        """As for a file."""
        self._at = offset + (0, self._at, len(self._data))[whence]
        return self._at

    def read(self, size: int = -1) -> memoryview | bytes:
        """The next piece; empty at the end."""
        if size is None or size < 0:
            size = len(self._data)
        end = min(self._at + max(size, min(_BODY_PIECE, self._limit.piece_size)), len(self._data))
        piece = self._data[self._at : end]
        self._limit.take(len(piece))
        self._at = end
        return piece


def checksum_parameters(kind: str, data: memoryview) -> dict[str, str]:
    """The parameters of PutObject that let the endpoint compare what it received."""
    if kind == CRC32:
        return {"ChecksumCRC32": base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()}
    if kind == MD5:
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        return {"ContentMD5": base64.b64encode(digest).decode()}
    if kind == NONE:
        return {}
    raise IntegrityError(f"{kind!r} is no checksum that this zitcache knows.")


class Uploader:
    """Sends objects."""

    def __init__(self, requests: Requests, limit: RateLimit) -> None:
        self._requests = requests
        self._limit = limit

    def put(
        self,
        name: str,
        data: memoryview,
        *,
        condition: str = NONE,
        parameters: Mapping[str, Any],
        expected: frozenset[Kind] = frozenset(),
    ) -> None:
        """One PutObject, made again while that may help.

        ``condition``: how to say "only if there is none" (see :class:`StorageTraits`). ``parameters``: more
        of PutObject. Raises :class:`Expected` for failures of an ``expected`` kind, and ``ZitcacheError``.
        """
        location = self._requests.location
        conditions: dict[str, Any] = {"IfNoneMatch": "*"} if condition == IF_NONE_MATCH else {}
        headers = {_FORBID_OVERWRITE_HEADER: "true"} if condition == FORBID_OVERWRITE else {}

        def attempt(client: S3Client) -> None:
            small = len(data) <= SMALL_BYTES
            self._requests.connection.set_headers(headers)
            try:
                client.put_object(
                    Bucket=location.bucket,
                    Key=location.key(name),
                    Body=bytes(data) if small else cast("Any", Body(data, self._limit)),
                    ContentType="application/octet-stream",
                    **conditions,
                    **parameters,
                )
            finally:
                self._requests.connection.set_headers({})

        self._requests.run(f"writing {name}", attempt, expected=expected)


class BufferPool:
    """Memory for packs that are being filled or sent, used again for the next ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[bytearray] = []

    def take(self) -> bytearray:
        """A buffer of any size."""
        with self._lock:
            return self._free.pop() if self._free else bytearray()

    def give_back(self, buffer: bytearray) -> None:
        """Let somebody else use it."""
        with self._lock:
            if len(self._free) < _KEPT_BUFFERS:
                self._free.append(buffer)

    def clear(self) -> None:
        """Give the memory back."""
        with self._lock:
            self._free.clear()


class S3Writer:
    """See :class:`~zitcache.storage.protocol.ObjectWriter`: kept in memory, sent by the commit."""

    def __init__(self, storage: S3Storage, pool: BufferPool) -> None:
        self._storage = storage
        self._pool = pool
        self._buffer: bytearray | None = pool.take()
        self._size = 0

    def write(self, data: Buffer) -> None:
        """See :meth:`ObjectWriter.write`."""
        buffer = self._open()
        view = memoryview(data).cast("B")
        end = self._size + len(view)
        if end > len(buffer):
            # Doubling a pack of 32 MiB would waste as much again, and several are in memory.
            grown = max(end, min(2 * len(buffer), len(buffer) + _GROWTH))
            buffer.extend(bytes(grown - len(buffer)))
        with memoryview(buffer) as target:
            target[self._size : end] = view
        self._size = end

    def commit(self, name: str) -> None:
        """See :meth:`ObjectWriter.commit`."""
        check_name(name)
        with memoryview(self._open()) as whole, whole[: self._size] as data:
            self._storage.store_new(name, data)
        self._close()

    def __enter__(self) -> S3Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _open(self) -> bytearray:
        if self._buffer is None:
            raise UsageError("This object was finished already.")
        return self._buffer

    def _close(self) -> None:
        if self._buffer is not None:
            self._pool.give_back(self._buffer)
            self._buffer = None
