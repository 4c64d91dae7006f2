"""What a check finds, collected from many threads until it is told as a list of damage."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec


class DamagedBlob(msgspec.Struct, kw_only=True):
    """A blob or object that is wrong. ``pack``: the pack it lies in, "" for what does not lie in one.

    ``files``: what cannot be restored because of it, as ``snapshot:path`` (the short id, and ``*`` where the
    list of files is itself unreadable); empty where another sound copy exists. ``tampered``: it is
    well-formed and yet not what its name or the index says, which no failing disk brings about.
    """

    id: str
    pack: str
    problem: str
    files: list[str]
    tampered: bool = False


class Blob(NamedTuple):
    """A blob by its id and frame kind: the same bytes may be stored as a file's and as a piece list."""

    id: str
    kind: int


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with some bytes; ``tampered`` as in :class:`DamagedBlob`."""

    message: str
    tampered: bool = False


@dataclass(slots=True)
class Finding:
    """``blobs``: those that are lost with it unless another copy is sound; ``files``: what else is affected.

    ``final``: another copy of the same bytes would be just as wrong.
    """

    id: str
    pack: str
    problem: Problem
    blobs: list[Blob]
    files: list[str] = field(default_factory=list)
    final: bool = False


class Findings:
    """All findings of one check, one for each copy of a blob and each object. Thread-safe."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, int], Finding] = {}
        self._packs: set[str] = set()
        self._gone_with_packs: set[Blob] = set()
        self._lock = threading.Lock()

    def add_blob(self, blob: Blob, pack_id: str, problem: Problem, *, final: bool = False) -> None:
        """A copy of a blob is wrong; ``final``: so is every other one."""
        self._add(Finding(blob.id, pack_id, problem, [blob], final=final), blob.kind)

    def add_missing(self, blob: Blob) -> None:
        """There is no copy of a blob. Not said again if the pack that held it is gone as a whole."""
        if blob not in self._gone_with_packs:
            self._add(Finding(blob.id, "", Problem("No pack holds it."), [blob]), blob.kind)

    def add_pack(self, pack_id: str, problem: Problem, blobs: Iterable[Blob] = ()) -> None:
        """A pack is wrong as a whole; ``blobs``: those that cannot be read because of it."""
        gone = list(blobs)
        with self._lock:
            self._gone_with_packs.update(gone)
        self._add(Finding(pack_id, pack_id, problem, gone))

    def add_object(self, object_id: str, problem: Problem, files: list[str] | None = None) -> None:
        """A snapshot or an index object is wrong; ``files``: what that costs."""
        self._add(Finding(object_id, "", problem, [], files or []))

    def _add(self, finding: Finding, kind: int = -1) -> None:
        with self._lock:
            self._found.setdefault((finding.id, finding.pack, kind), finding)
            if finding.pack:
                self._packs.add(finding.pack)

    def concerns_pack(self, pack_id: str) -> bool:
        """Whether anything is wrong with this pack or in it."""
        with self._lock:
            return pack_id in self._packs

    def concerns_copy(self, blob: Blob, pack_id: str) -> bool:
        """Whether this copy of a blob was found wrong."""
        with self._lock:
            return (blob.id, pack_id, blob.kind) in self._found

    def bad_copies(self) -> list[tuple[str, str, int]]:
        """(pack id, blob id, frame kind) of every copy in a pack that was found wrong."""
        with self._lock:
            return [(pack, blob, kind) for blob, pack, kind in self._found if pack and kind >= 0]

    def all(self) -> list[Finding]:
        """Every finding, those of one pack together."""
        with self._lock:
            return [self._found[key] for key in sorted(self._found, key=lambda key: (key[1], key[0], key[2]))]
