"""A repository in a bucket, behind the storage protocol."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from zitcache.errors import CredentialsError, IntegrityError, ObjectNotFound
from zitcache.storage.names import check_name
from zitcache.storage.protocol import Buffer, ObjectInfo, ObjectWriter
from zitcache.storage.s3.errors import Kind
from zitcache.storage.s3.limits import RateLimit, parse_rate
from zitcache.storage.s3.listing import Lister, whole_seconds
from zitcache.storage.s3.location import S3Location
from zitcache.storage.s3.reading import PIECE_SIZE, RangeReader, read_pieces, truncated
from zitcache.storage.s3.requests import Expected, Requests
from zitcache.storage.s3.uploads import BufferPool, S3Writer, Uploader, checksum_parameters
from zitcache.storage.traits import FORBID_OVERWRITE, IF_NONE_MATCH, NONE, StorageTraits

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from types_boto3_s3 import S3Client

_SIZE_ROUNDS = 3
"""How often an object is sent again that the endpoint keeps with another size."""
_NO_BODY = frozenset({Kind.DENIED, Kind.OTHER, Kind.KEYS, Kind.REGION})
_REFUSED = frozenset({Kind.EXISTS, Kind.UNSUPPORTED})


class S3Storage:
    """Objects as keys below a prefix. See :class:`~zitcache.storage.protocol.Storage`.

    Nothing is asked of the endpoint before the first call. An object is durable when the endpoint has
    accepted it and shows it with the right size.
    """

    def __init__(self, location: S3Location, traits: StorageTraits | None = None) -> None:
        self._location = location
        self.requests = Requests(location)
        self.lister = Lister(self.requests)
        self.traits = traits or StorageTraits()
        self._uploader = Uploader(self.requests, RateLimit(_rate("limit_upload", location.limit_upload)))
        self._download_limit = RateLimit(_rate("limit_download", location.limit_download))
        self._buffers = BufferPool()
        self._pool: Executor | None = None
        self._pool_lock = threading.Lock()
        self._written: dict[str, int] = {}

    @property
    def location(self) -> str:
        """The URL, with all that is needed to open it again."""
        return str(self._location)

    @property
    def is_remote(self) -> bool:
        """True: each call is a round trip."""
        return True

    @property
    def concurrency(self) -> int:
        """How many requests may be in flight."""
        return self.requests.concurrency

    @property
    def uploader(self) -> Uploader:
        """For the probe, which sends objects in ways that the storage would not."""
        return self._uploader

    def adapt(self, traits: StorageTraits) -> None:
        """Use what ``init`` found out about this endpoint."""
        self.traits = traits

    def store(self, name: str, data: Buffer) -> None:
        """See :meth:`Storage.store`."""
        check_name(name)
        self.store_new(name, memoryview(data).cast("B"))

    def create(self, name: str, data: Buffer) -> bool:
        """See :meth:`Storage.create`.

        Where the endpoint knows no conditional write, two that create one name within the same second may
        both look at it first: then the one whose bytes are there afterwards has created it.
        """
        check_name(name)
        view = memoryview(data).cast("B")
        if self.traits.conditional_put not in {IF_NONE_MATCH, FORBID_OVERWRITE}:
            return self._create_by_looking(name, view)
        try:
            self._put(name, view, only_new=True)
        except Expected as found:
            if found.kind is Kind.UNSUPPORTED:
                self._forgo_conditions()
                return self._create_by_looking(name, view)
            # After a connection that broke, the object that is in the way may be this very one.
            return found.retries > 0 and self._holds(name, view)
        self._confirm(name, view)
        return True

    def writer(self) -> ObjectWriter:
        """See :meth:`Storage.writer`."""
        return S3Writer(self, self._buffers)

    def store_new(self, name: str, data: memoryview) -> None:
        """Write an object that is most likely not there; keep it if it is, with the same size."""
        if self.traits.conditional_put == NONE:
            if self._size(name) == len(data):
                return
            self._put(name, data, only_new=False)
        else:
            try:
                self._put(name, data, only_new=True)
            except Expected as found:
                if found.kind is Kind.UNSUPPORTED:
                    self._forgo_conditions()
                    self.store_new(name, data)
                    return
                if self._size(name) == len(data):
                    self._written[name] = len(data)
                    return
                # One of another size is damaged, and this one has the right to the name.
                self._put(name, data, only_new=False)
        self._confirm(name, data)

    def load(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """See :meth:`Storage.load`."""
        check_name(name)
        if offset < 0 or (length is not None and length < 0):
            raise IntegrityError(f"Bytes {offset}+{length} of {name} were asked for, which is no range.")
        if length == 0:
            self.info(name)
            return b""
        first = bytearray(PIECE_SIZE if length is None else min(length, PIECE_SIZE))
        reader = RangeReader(self.requests, self._download_limit, name, offset, memoryview(first))
        count = reader.read()
        size = reader.object_size
        end = size if length is None or size is None else min(size, offset + length)
        if count < len(first) or end is None or end <= offset + count:
            return bytes(memoryview(first)[:count])
        whole = bytearray(end - offset)
        whole[:count] = first
        rest = memoryview(whole)[count:]
        found = read_pieces(self.requests, self._download_limit, self._executor(), name, offset + count, rest)
        return bytes(memoryview(whole)[: count + found])

    def load_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """See :meth:`Storage.load_into`."""
        check_name(name)
        if offset < 0:
            raise IntegrityError(f"Bytes from {offset} of {name} were asked for, which is no place.")
        view = buffer.cast("B")
        count = read_pieces(self.requests, self._download_limit, self._executor(), name, offset, view)
        if count < len(view):
            raise truncated(name, offset, len(view), count)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See :meth:`Storage.list`. What this process wrote is in it, even where listings lag behind."""
        check_name(prefix)
        seen: set[str] = set()
        for found in self.lister.objects(prefix):
            seen.add(found.name)
            yield found
        for name in [name for name in list(self._written) if name.rpartition("/")[0] == prefix]:
            if name not in seen and name in self._written:
                try:
                    yield self.info(name)
                except ObjectNotFound:
                    self._written.pop(name, None)

    def info(self, name: str) -> ObjectInfo:
        """See :meth:`Storage.info`."""
        check_name(name)
        key = self._location.key(name)
        try:
            found: Any = self.requests.run(
                f"looking for {name}",
                lambda client: client.head_object(Bucket=self._location.bucket, Key=key),
                expected=_NO_BODY,
            )
        except Expected:
            # An answer to HEAD has no body that says why: ask again in a way that has.
            found = self.requests.run(f"looking for {name}", lambda client: self._first_byte(client, key))
        return ObjectInfo(name, int(found["ContentLength"]), whole_seconds(found["LastModified"]))

    def delete(self, name: str) -> None:
        """See :meth:`Storage.delete`. An object that is locked, or keys that may not delete, are errors."""
        check_name(name)
        key = self._location.key(name)
        try:
            self.requests.run(
                f"deleting {name}",
                lambda client: client.delete_object(Bucket=self._location.bucket, Key=key),
                expected=frozenset({Kind.NO_KEY, Kind.DENIED, Kind.IMMUTABLE}),
            )
        except Expected as found:
            if found.kind is not Kind.NO_KEY:
                raise CredentialsError(
                    f"{name} may not be deleted from s3://{self._location.bucket}: {found.answer.text}.",
                    hint="These keys may only add, or the object is locked: delete with other keys, or when "
                    "the retention is over.",
                ) from None
        self._written.pop(name, None)

    def close(self) -> None:
        """Close connections and give memory back. The storage can still be used."""
        with self._pool_lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
        self._buffers.clear()
        self.requests.connection.close()

    # -- the steps of a write -----------------------------------------------------------------------

    def _put(self, name: str, data: memoryview, *, only_new: bool) -> None:
        self._uploader.put(
            name,
            data,
            condition=self.traits.conditional_put if only_new else NONE,
            parameters={**checksum_parameters(self.traits.checksum, data), **self._retention()},
            expected=_REFUSED if only_new else frozenset(),
        )

    def _confirm(self, name: str, data: memoryview) -> None:
        """Raise ``IntegrityError`` unless the endpoint shows the object with its size."""
        for _ in range(_SIZE_ROUNDS):
            found = self._size(name)
            if found == len(data):
                self._written[name] = len(data)
                return
            self._put(name, data, only_new=False)
        raise IntegrityError(
            f"{name} has {found} bytes in s3://{self._location.bucket}, where {len(data)} were sent.",
            hint="This endpoint does not keep what it is given: keep the repository elsewhere.",
        )

    def _create_by_looking(self, name: str, data: memoryview) -> bool:
        if self._size(name) is not None:
            return False
        self._put(name, data, only_new=False)
        return self._holds(name, data)

    def _holds(self, name: str, data: memoryview) -> bool:
        try:
            return self.load(name) == data
        except ObjectNotFound:
            return False

    def _size(self, name: str) -> int | None:
        try:
            return self.info(name).size
        except ObjectNotFound:
            return None

    def _forgo_conditions(self) -> None:
        self.traits = StorageTraits(
            conditional_put=NONE, checksum=self.traits.checksum, listing=self.traits.listing
        )

    def _retention(self) -> dict[str, Any]:
        if self._location.object_lock_days is None:
            return {}
        from datetime import datetime, timedelta, timezone

        until = datetime.now(timezone.utc) + timedelta(days=self._location.object_lock_days)
        return {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": until}

    def _first_byte(self, client: S3Client, key: str) -> Any:
        found: Any = client.get_object(Bucket=self._location.bucket, Key=key, Range="bytes=0-0")
        found["Body"].close()
        total = str(found.get("ContentRange", "")).rpartition("/")[2]
        return {**found, "ContentLength": int(total) if total.isdigit() else found["ContentLength"]}

    def _executor(self) -> Executor:
        with self._pool_lock:
            if self._pool is None:
                from concurrent.futures import ThreadPoolExecutor

                self._pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="range")
            return self._pool


def _rate(name: str, text: str | None) -> int | None:
    return None if text is None else parse_rate(name, text)
