"""Which parts of packs to read in one go: a network is fast at large requests and slow at many small ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from zitcache.repository.index import Location

RANGE_BYTES = 8 << 20
GAP_BYTES = 256 << 10
"""Bytes nobody wants that are read along, because another request would take longer."""

MEMORY_FOR_RANGES = 192 << 20
"""For all ranges that are in flight together."""

PartT = TypeVar("PartT")


@dataclass(frozen=True, slots=True)
class Range(Generic[PartT]):
    """``length`` bytes at ``offset`` of a pack; ``parts``: where each wanted frame lies, and what for."""

    pack: str
    offset: int
    length: int
    parts: list[tuple[Location, PartT]]

    def frame(self, data: memoryview, location: Location) -> memoryview:
        """The bytes of one frame, ``data`` being those of the range."""
        start = location.offset - self.offset
        return data[start : start + location.length]


def coalesce(
    parts: Iterable[tuple[Location, PartT]], *, max_bytes: int = RANGE_BYTES, max_gap: int = GAP_BYTES
) -> list[Range[PartT]]:
    """Put frames that lie near each other in one pack into common ranges of at most ``max_bytes``.

    A larger frame is a range of its own. The ranges come in the order in which their first part was given,
    the parts of each by offset.
    """
    given = list(parts)
    order = sorted(range(len(given)), key=lambda at: (given[at][0].pack, given[at][0].offset, at))
    ranges: list[tuple[int, Range[PartT]]] = []
    for position in order:
        location, part = given[position]
        end = location.offset + location.length
        if ranges:
            first, last = ranges[-1]
            reach = last.offset + last.length
            if (
                last.pack == location.pack
                and location.offset <= reach + max_gap
                and max(end, reach) - last.offset <= max_bytes
            ):
                grown = Range(last.pack, last.offset, max(end, reach) - last.offset, last.parts)
                grown.parts.append((location, part))
                ranges[-1] = (min(first, position), grown)
                continue
        ranges.append((position, Range(location.pack, location.offset, location.length, [(location, part)])))
    return [found for _, found in sorted(ranges, key=lambda pair: pair[0])]


def ranges_in_flight(concurrency: int, range_bytes: int) -> int:
    """How many ranges of ``range_bytes`` to read at once, as the storage takes and the memory allows."""
    return max(1, min(concurrency, MEMORY_FOR_RANGES // max(1, range_bytes)))
