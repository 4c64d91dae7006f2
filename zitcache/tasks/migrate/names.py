"""The names that a migration uses for itself. All begin with ``.zitcache-``, so no snapshot holds them."""

from __future__ import annotations

import os
import re
from hashlib import sha256
from pathlib import Path

from zitcache.cache.exclusions import OWN_PREFIX
from zitcache.cache.marker import KIT_NAME, MARKER_NAME
from zitcache.machine.files import TEMPORARY_PREFIX

JOURNAL_NAME = f"{OWN_PREFIX}migrating"
"""The folder in the tree that is being written: what was done so far. Gone when all is done."""

LEFTOVERS_NAME = f"{OWN_PREFIX}leftovers"
"""The folder in a destination for what lay there and is no longer in the cache."""

PART_PREFIX = f"{OWN_PREFIX}part-"
LINK_PREFIX = f"{OWN_PREFIX}link-"
OLD_PREFIX = f"{OWN_PREFIX}old-"

OWN_AT_ROOT = frozenset({JOURNAL_NAME, LEFTOVERS_NAME, MARKER_NAME, KIT_NAME})
LOST_AND_FOUND = "lost+found"
"""What ext2 to ext4 keep in the root of every file system; it belongs to no cache."""

_LONGEST_NAME = 160


_TEMPORARY = re.compile(re.escape(TEMPORARY_PREFIX) + r"(\d+)-[0-9a-f]{16}")


def maker_of_temporary(name: str) -> int | None:
    """The process that made the temporary ``name``; None if it is no such name."""
    match = _TEMPORARY.fullmatch(name)
    return int(match[1]) if match else None


def part_name(path: str) -> str:
    """The temporary name of the file with that path in the cache, the same in every run."""
    return PART_PREFIX + sha256(os.fsencode(path)).hexdigest()[:32]


def old_place(source: Path) -> Path:
    """Where the old copy of the cache at ``source`` lies after the switch: beside it."""
    raw = os.fsencode(source.name)
    if len(raw) <= _LONGEST_NAME:
        return source.with_name(OLD_PREFIX + source.name)
    return source.with_name(f"{OLD_PREFIX}{os.fsdecode(raw[:32])}-{sha256(raw).hexdigest()[:32]}")


def is_own(prefix: str, name: str) -> bool:
    """Whether ``prefix + name`` is one of these. ``prefix``: "" in the root, else ends in "/"."""
    return name.startswith((PART_PREFIX, LINK_PREFIX)) or (not prefix and name in OWN_AT_ROOT)
