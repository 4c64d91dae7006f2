"""Which packs to read: all, a share that goes round, or a fixed part."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from zitcache.errors import UsageError

_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)\s*%")
_PART = re.compile(r"(\d{1,6})\s*/\s*(\d{1,6})")


@dataclass(frozen=True, slots=True)
class Share:
    """At least this fraction (0..1] of the bytes, the packs first that were read longest ago."""

    fraction: float


@dataclass(frozen=True, slots=True)
class Part:
    """Part ``number`` of ``count`` (1/7 to 7/7): together they are everything, whatever is added."""

    number: int
    count: int


def parse_subset(text: str) -> Share | Part:
    """``5%`` or ``1/7``. Raises :class:`UsageError` for anything else."""
    typed = text.strip()
    if (match := _SHARE.fullmatch(typed)) and 0 < float(match[1]) <= 100:
        return Share(float(match[1]) / 100)
    if (match := _PART.fullmatch(typed)) and 1 <= int(match[1]) <= int(match[2]):
        return Part(int(match[1]), int(match[2]))
    raise UsageError(
        f"{text!r} is no part of a repository.",
        hint="Give a percentage or one of equal parts: --read-data-subset 5%, --read-data-subset 1/7",
    )


def choose_packs(
    sizes: Mapping[str, int], verified: Mapping[str, int], subset: Share | Part | None
) -> list[str]:
    """The packs to read out of ``sizes`` (id -> bytes), in the order in which to read them.

    ``verified``: when each was last found sound; those it does not name come first.
    """
    by_age = sorted(sizes, key=lambda pack_id: (verified.get(pack_id, 0), pack_id))
    if subset is None:
        return by_age
    if isinstance(subset, Part):
        return [pack_id for pack_id in by_age if int(pack_id, 16) % subset.count == subset.number - 1]
    goal = subset.fraction * sum(sizes.values())
    chosen: list[str] = []
    chosen_bytes = 0
    for pack_id in by_age:
        if chosen_bytes >= goal:
            break
        chosen.append(pack_id)
        chosen_bytes += sizes[pack_id]
    return chosen
