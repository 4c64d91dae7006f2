"""What an endpoint can do, found out before a repository is trusted to it.

Every promise that the repository rests on is tried with a few small objects in ``probes/``: bytes come back
as they were sent, ranges are ranges, a second conditional write is refused, what was written is listed and
what was replaced is seen. An endpoint that breaks one of them is refused with the reason.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from zitcache.errors import CredentialsError, IntegrityError, ObjectNotFound, UsageError, ZitcacheError
from zitcache.events import Session
from zitcache.storage.s3.errors import Kind
from zitcache.storage.s3.requests import Expected
from zitcache.storage.s3.storage import S3Storage
from zitcache.storage.s3.uploads import checksum_parameters
from zitcache.storage.traits import CRC32, FORBID_OVERWRITE, IF_NONE_MATCH, MD5, NONE, StorageTraits

FOLDER = "probes"
VISIBLE_SECONDS = 60.0
"""How long a write may take to show up in a listing or a read."""
_SIZE = 200_000
_NOTHING: Mapping[str, Any] = {}
_LOOK_AT = 200
_ROUND_TRIPS = 3
_REFUSALS = frozenset({Kind.CHECKSUM, Kind.OTHER, Kind.UNSUPPORTED, Kind.EXISTS})
_WRONG = {
    CRC32: {"ChecksumCRC32": base64.b64encode(b"no!!").decode()},
    MD5: {"ContentMD5": base64.b64encode(b"not this digest!").decode()},
}
_FOREIGN = (
    ("kopia", {"kopia.repository", "kopia.blobcfg"}),
    ("restic or rustic", {"keys", "locks"}),
    ("borg", {"data", "README"}),
    ("borg", {"repo", "cache"}),
    ("duplicacy", {"chunks", "fossils"}),
    ("the hub SDKs (a model cache)", {"hub", "models"}),
)


class BrokenPromise(Exception):
    """The endpoint does not do what it says."""


def refuse_occupied(storage: S3Storage) -> None:
    """Raise ``UsageError`` if there is anything below the prefix but what a probe left behind."""
    base = storage.requests.location.key("")
    found = [item["Key"][len(base) :] for item in storage.lister.keys(base, delimiter="", at_most=_LOOK_AT)]
    found = [key for key in found if key and not key.startswith(f"{FOLDER}/")]
    if not found:
        return
    place = f"s3://{storage.requests.location.bucket}/{base}".rstrip("/")
    if "config" in found and b'"zitcache"' in storage.load("config", 0, 4096):
        raise UsageError(
            f"{place} already holds a repository.",
            hint=f"Use it: zitcache backup --repo {shlex.quote(storage.location)}",
        )
    tops = {key.partition("/")[0] for key in found}
    if {"packs", "snapshots"} & tops and "config" not in tops:
        raise UsageError(
            f"{place} looks like a repository that has lost its config. Nothing was changed.",
            hint="Bring the object `config` back from a copy, or choose another prefix.",
        )
    owner = next((name for name, marks in _FOREIGN if marks & tops and len(tops) > 1), None)
    looks = (
        f"it looks like a place of {owner}" if owner else "it holds " + ", ".join(map(repr, sorted(tops)[:3]))
    )
    raise UsageError(
        f"{place} is not empty ({looks}); a repository needs a prefix of its own.",
        hint=f"Name a new one: zitcache init {shlex.quote(_inside(storage))}",
    )


def _inside(storage: S3Storage) -> str:
    place, question, query = storage.location.partition("?")
    return f"{place}/zitcache{question}{query}"


def probe(storage: S3Storage, session: Session) -> StorageTraits:
    """Try the endpoint; what it can do. Raises ``UsageError`` if a repository would not be safe there.

    Leaves nothing behind, or, if the keys may not delete, some objects in ``probes/``, where no reader looks.
    """
    run = _Probe(storage, session)
    with _refused(storage):
        try:
            return run.traits()
        finally:
            run.clean_up()


class _Probe:
    def __init__(self, storage: S3Storage, session: Session) -> None:
        self._storage = storage
        self._session = session
        self._stem = f"{FOLDER}/{os.urandom(8).hex()}"
        self._names: list[str] = []
        self.may_delete = True

    def traits(self) -> StorageTraits:
        """Everything there is to find out."""
        self._storage.traits = StorageTraits(conditional_put=NONE)
        self._round_trip()
        condition = self._conditional_put()
        checksum = self._checksum()
        listing = self._listing()
        self._replace()
        self._delete()
        return StorageTraits(
            conditional_put=condition,
            checksum=checksum,
            listing=listing,
            deletes="allowed" if self.may_delete else "refused",
        )

    def clean_up(self) -> None:
        """Remove what is left, also when the probe failed half way."""
        with contextlib.suppress(ZitcacheError):
            for name in self._names:
                self._storage.delete(name)

    def _round_trip(self) -> None:
        """Bytes come back as they went. Once more if not: the line may be at fault, and not every time."""
        for _ in range(_ROUND_TRIPS - 1):
            with contextlib.suppress(BrokenPromise):
                self._one_round_trip()
                return
        self._one_round_trip()

    def _one_round_trip(self) -> None:
        data = self._bytes()
        name = self._name()
        self._put(name, data)
        size = self._storage.info(name).size
        if size != len(data):
            raise BrokenPromise(f"it keeps {size} bytes where {len(data)} were sent")
        if self._storage.load(name) != data:
            raise BrokenPromise("what it gives back is not what was sent")
        for offset, length in ((1000, 5000), (len(data) - 10, 100)):
            if self._storage.load(name, offset, length) != data[offset : offset + length]:
                raise BrokenPromise("it cannot read a part of an object")

    def _conditional_put(self) -> str:
        for condition in (IF_NONE_MATCH, FORBID_OVERWRITE):
            name, first, second = self._name(), self._bytes(), self._bytes()
            try:
                self._put(name, first, condition=condition, expected=_REFUSALS)
            except Expected:
                continue
            try:
                self._put(name, second, condition=condition, expected=_REFUSALS)
            except Expected as refusal:
                if refusal.kind is Kind.EXISTS and self._sees(name, first):
                    return condition
            # Accepted a second time: the header is not understood, and nothing said so.
        self._session.warn(
            "no-conditional-write",
            "This endpoint cannot write an object only where there is none: two machines that create the "
            "repository, or prune it, in the same second are told apart by looking afterwards.",
            "Create the repository, and prune it, from one machine.",
        )
        return NONE

    def _checksum(self) -> str:
        """The first digest that it compares, known by its refusing a wrong one and taking a right one."""
        for kind, wrong in _WRONG.items():
            name, data = self._name(), self._bytes()
            try:
                self._put(name, data, parameters=wrong, expected=_REFUSALS)
            except Expected:
                right = checksum_parameters(kind, memoryview(data))
                try:
                    self._put(name, data, parameters=right, expected=_REFUSALS)
                except Expected:
                    continue
                if self._storage.load(name) == data:
                    return kind
        return NONE

    def _listing(self) -> str:
        name = self._name()
        self._put(name, b"listed")

        def is_listed() -> bool:
            return any(found.name == name for found in self._storage.lister.objects(FOLDER))

        if is_listed():
            return "immediate"
        if not self._becomes_true(is_listed):
            raise BrokenPromise(f"an object that it took is not listed {VISIBLE_SECONDS:.0f} seconds later")
        self._session.warn(
            "late-listing",
            "This endpoint lists new objects after a while: other machines do not see a snapshot at once.",
        )
        return "late"

    def _replace(self) -> None:
        name = self._name()
        new = self._bytes()
        self._put(name, self._bytes())
        self._put(name, new)
        if not self._becomes_true(lambda: self._storage.load(name) == new):
            raise BrokenPromise(
                f"an object that was replaced is still the old one {VISIBLE_SECONDS:.0f} seconds later"
            )

    def _delete(self) -> None:
        name = self._names[-1]
        try:
            self._storage.delete(name)
        except CredentialsError:
            self.may_delete = False
            self._session.warn(
                "append-only",
                "These keys may not delete. That is enough for backup, restore and check; forgetting and "
                "pruning need keys that may.",
            )
            return

        def is_gone() -> bool:
            try:
                self._storage.load(name)
            except ObjectNotFound:
                return True
            return False

        if not self._becomes_true(is_gone):
            raise BrokenPromise(
                f"an object that was deleted is still there {VISIBLE_SECONDS:.0f} seconds later"
            )

    def _sees(self, name: str, data: bytes) -> bool:
        return self._storage.load(name) == data

    def _becomes_true(self, condition: Callable[[], bool]) -> bool:
        end = time.monotonic() + VISIBLE_SECONDS
        pause = 0.1
        while not condition():
            if time.monotonic() > end:
                return False
            self._session.cancel.check()
            time.sleep(pause)
            pause = min(2 * pause, 3.0)
        return True

    def _put(
        self,
        name: str,
        data: bytes,
        *,
        condition: str = NONE,
        parameters: Mapping[str, Any] = _NOTHING,
        expected: frozenset[Kind] = frozenset(),
    ) -> None:
        self._storage.uploader.put(
            name, memoryview(data), condition=condition, parameters=parameters, expected=expected
        )

    def _name(self) -> str:
        self._names.append(f"{self._stem}-{len(self._names)}")
        return self._names[-1]

    def _bytes(self) -> bytes:
        # Large enough to go out as a stream, which is where endpoints differ.
        return os.urandom(_SIZE)


@contextmanager
def _refused(storage: S3Storage) -> Iterator[None]:
    """Say of every broken promise that this endpoint is not for repositories."""
    endpoint = storage.requests.connection
    try:
        yield
    except BrokenPromise as broken:
        reason = str(broken)
    except IntegrityError as error:
        reason = error.message.rstrip(".")
    else:
        return
    where = endpoint.endpoint_url or "this endpoint"
    raise UsageError(
        f"No repository can be kept at {where}: {reason}. Nothing was created.",
        hint="Use another endpoint, or a newer version of its software.",
    )
