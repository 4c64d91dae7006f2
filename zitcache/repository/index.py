"""The index: which blob lies where. In memory a dictionary; on disk a few write-once objects.

Losing index objects loses nothing: packs that no index object names are read for their tables of contents.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from zitcache.repository.records import PackRecord


class Location(NamedTuple):
    """Where a blob's frame lies: pack id, offset and length in bytes; ``raw_size`` when decoded."""

    pack: str
    offset: int
    length: int
    raw_size: int
    kind: int


class Index:
    """All known blobs. Lookups are safe from many threads; additions from one at a time."""

    def __init__(self) -> None:
        self._first: dict[str, Location] = {}
        self._others: dict[str, list[Location]] = {}
        self.packs: dict[str, int] = {}
        self.lost_packs: set[str] = set()

    def add_pack(self, pack: PackRecord) -> None:
        """Learn what a pack holds. Adding a pack twice changes nothing."""
        if pack.id in self.packs:
            return
        self.packs[pack.id] = pack.size
        first, others, pack_id = self._first, self._others, pack.id
        for blob in pack.blobs:
            location = Location(pack_id, blob.offset, blob.length, blob.raw_size, blob.kind)
            if first.setdefault(blob.id, location) is not location:
                others.setdefault(blob.id, []).append(location)

    def add_packs(self, packs: Iterable[PackRecord]) -> None:
        """Learn what several packs hold."""
        for pack in packs:
            self.add_pack(pack)

    def forget_packs(self, pack_ids: Iterable[str]) -> None:
        """Take packs out that turned out not to exist, so that their blobs count as missing."""
        gone = set(pack_ids) & self.packs.keys()
        if not gone:
            return
        self.lost_packs |= gone
        for pack_id in gone:
            del self.packs[pack_id]
        for blob_id in [key for key in self._first if any(at.pack in gone for at in self.locations(key))]:
            self._set(blob_id, [at for at in self.locations(blob_id) if at.pack not in gone])

    def forget_copies(self, copies: Iterable[tuple[str, str, int]]) -> None:
        """Take single copies (pack id, blob id, kind) out: they are known to be damaged."""
        bad = set(copies)
        for blob_id in {blob_id for _, blob_id, _ in bad} & self._first.keys():
            self._set(
                blob_id, [at for at in self.locations(blob_id) if (at.pack, blob_id, at.kind) not in bad]
            )

    def _set(self, blob_id: str, locations: list[Location]) -> None:
        self._others.pop(blob_id, None)
        if locations:
            self._first[blob_id] = locations[0]
            if locations[1:]:
                self._others[blob_id] = locations[1:]
        else:
            self._first.pop(blob_id, None)

    def has(self, blob_id: str, kind: int) -> bool:
        """Whether a copy of a blob of this kind is known."""
        return any(at.kind == kind for at in self.locations(blob_id))

    def locations(self, blob_id: str) -> list[Location]:
        """Every place where a blob lies; empty if it is unknown. Two writers may have stored it twice."""
        first = self._first.get(blob_id)
        return [] if first is None else [first, *self._others.get(blob_id, ())]

    def __contains__(self, blob_id: str) -> bool:
        return blob_id in self._first

    def __len__(self) -> int:
        return len(self._first)

    def __iter__(self) -> Iterator[str]:
        return iter(self._first)

    def raw_size(self, blob_id: str) -> int | None:
        """Size in bytes of a decoded blob; None if it is unknown."""
        location = self._first.get(blob_id)
        return None if location is None else location.raw_size
