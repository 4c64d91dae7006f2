"""Reading ranges of objects straight into the caller's memory, resumed where a body broke off."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from zitcache.errors import IntegrityError, ObjectTruncated
from zitcache.storage.s3.errors import Kind, ShortBody
from zitcache.storage.s3.limits import RateLimit
from zitcache.storage.s3.requests import Expected, Requests

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from types_boto3_s3 import S3Client
    from types_boto3_s3.type_defs import GetObjectOutputTypeDef

PIECE_SIZE = 8 << 20
"""Bytes of one GET; a larger range is several of them at once."""
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_UNSATISFIED = re.compile(r"bytes \*/(\d{1,18})")


class RangeReader:
    """Fills a buffer from one object, by as many requests as it takes."""

    def __init__(
        self, requests: Requests, limit: RateLimit, name: str, offset: int, buffer: memoryview
    ) -> None:
        self._requests = requests
        self._limit = limit
        self._name = name
        self._key = requests.location.key(name)
        self._offset = offset
        self._buffer = buffer
        self._done = 0
        self._etag: str | None = None
        self.object_size: int | None = None
        """The object's size, once an answer said it."""

    def read(self) -> int:
        """Fill the buffer as far as the object goes; the bytes read. Raises ``ObjectNotFound``, ….

        What lies behind the end of an object is simply not there.
        """
        while self._done < len(self._buffer):
            if self.object_size is not None and self._offset + self._done >= self.object_size:
                break
            try:
                self._requests.run(
                    f"reading {self._name}",
                    self._attempt,
                    expected=frozenset({Kind.RANGE, Kind.EXISTS}),
                )
            except Expected as found:
                if found.kind is Kind.EXISTS and self._etag is not None:
                    # 412: another object has this name now. Begin anew with that one.
                    self._etag, self._done, self.object_size = None, 0, None
                    continue
                break
        return self._done

    def _attempt(self, client: S3Client) -> None:
        begin = self._offset + self._done
        end = self._offset + len(self._buffer)
        if self.object_size is not None:
            end = min(end, self.object_size)
        condition: Any = {"IfMatch": self._etag} if self._etag else {}
        response = client.get_object(
            Bucket=self._requests.location.bucket,
            Key=self._key,
            Range=f"bytes={begin}-{end - 1}",
            **condition,
        )
        body = response["Body"]
        finished = False
        try:
            count = self._accept(response, begin)
            if count is None:
                return
            before = self._done
            try:
                self._receive(body, self._done + count)
            except Exception as error:
                # What arrived stays; the next attempt begins behind it.
                raise ShortBody(self._done - before, f"the connection broke: {error}") from error
            finished = True
        finally:
            _finish(body, finished)

    def _accept(self, response: GetObjectOutputTypeDef, begin: int) -> int | None:
        """How many bytes of the body to take; None to ask again, with the end that is known now."""
        status = response["ResponseMetadata"]["HTTPStatusCode"]
        self._etag = response.get("ETag")
        length = response["ContentLength"]
        if status == 206:
            match = _CONTENT_RANGE.fullmatch(response.get("ContentRange", ""))
            if match is None or int(match[1]) != begin or int(match[2]) - begin + 1 != length:
                raise IntegrityError(
                    f"The endpoint sent another range of {self._name} than it was asked for."
                )
            if match[3] != "*":
                self.object_size = int(match[3])
            return min(length, len(self._buffer) - self._done)
        # 200: the whole object. OSS does that for a range that ends behind the object's end.
        was_known = self.object_size is not None
        self.object_size = length
        if begin == 0:
            return min(length, len(self._buffer))
        if was_known and begin < length:
            raise IntegrityError(
                f"The endpoint sent all of {self._name} where bytes from {begin} were asked for.",
                hint="This endpoint cannot read parts of objects: keep the repository elsewhere.",
            )
        return None

    def _receive(self, body: Any, end: int) -> None:
        readinto = _readinto(body)
        while self._done < end:
            piece = self._buffer[self._done : min(end, self._done + self._limit.piece_size)]
            self._limit.take(len(piece))
            count = readinto(piece)
            if not count:
                raise ConnectionError(f"{end - self._done} bytes are missing")
            self._done += count


def read_pieces(
    requests: Requests, limit: RateLimit, pool: Executor, name: str, offset: int, buffer: memoryview
) -> int:
    """As :meth:`RangeReader.read`, with several requests at once where the buffer is large."""
    if len(buffer) <= 2 * PIECE_SIZE:
        return RangeReader(requests, limit, name, offset, buffer).read()
    futures = [
        pool.submit(
            RangeReader(requests, limit, name, offset + at, buffer[at : at + PIECE_SIZE]).read,
        )
        for at in range(0, len(buffer), PIECE_SIZE)
    ]
    try:
        counts = [future.result() for future in futures]
    except BaseException:
        for future in futures:
            future.cancel()
        for future in futures:
            if not future.cancelled():
                future.exception()  # they write into the caller's buffer
        raise
    total = 0
    for count in counts:
        total += count
        if count < PIECE_SIZE:
            break
    return total


def truncated(name: str, offset: int, needed: int, found: int) -> ObjectTruncated:
    """The error for an object that ends too early."""
    return ObjectTruncated(
        f"{name} is too short: {needed} bytes from {offset} were needed, {found} are there."
    )


def _readinto(body: Any) -> Any:
    """How to receive into memory of ours.

    urllib3's own ``readinto`` reads into memory of its own and copies: half the speed on a fast line.
    The response of ``http.client`` below it does not.
    """
    raw = getattr(body, "_raw_stream", None)
    response = getattr(raw, "_fp", None)
    if response is not None and hasattr(response, "readinto"):
        return response.readinto

    def copy(piece: memoryview) -> int:
        data = body.read(len(piece))
        piece[: len(data)] = data
        return len(data)

    return copy


def _finish(body: Any, finished: bool) -> None:
    """Give the connection back for the next request, or close it when it is in the middle of a body."""
    raw = getattr(body, "_raw_stream", None)
    response = getattr(raw, "_fp", None)
    if finished and raw is not None and hasattr(raw, "release_conn") and getattr(response, "fp", 0) is None:
        raw.release_conn()
    else:
        body.close()
