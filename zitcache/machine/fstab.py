"""Disks that should be mounted and are not: what is written to their mount points lands on the system disk.

Source: ``fstab(5)``.
"""

from __future__ import annotations

import os
from pathlib import Path

from zitcache.machine.mount_table import mounts

_ESCAPES = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}
_MOUNT_POINT = 1


def unmounted(path: str | os.PathLike[str]) -> str | None:
    """The mount point of ``/etc/fstab`` on which ``path`` should lie, if nothing is mounted there now.

    None where no line speaks of it, as in most containers. ``ZITCACHE_SYSTEM_ROOT`` stands for ``/``
    when the table is read (tests). Raises nothing.
    """
    wanted = os.path.abspath(path)
    holding = [place for place in _mount_points() if _contains(place, wanted)]
    if not holding:
        return None
    place = max(holding, key=len)
    present = {mount.mount_point for mount in mounts()}
    return None if place in present or os.path.realpath(place) in present else place


def _mount_points() -> list[str]:
    table = Path(os.environ.get("ZITCACHE_SYSTEM_ROOT") or "/", "etc/fstab")
    try:
        lines = table.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        words = line.split()
        if len(words) <= _MOUNT_POINT or words[0].startswith("#"):
            continue
        place = words[_MOUNT_POINT]
        for escape, character in _ESCAPES.items():
            place = place.replace(escape, character)
        if place.startswith("/") and place.rstrip("/"):
            found.append(place.rstrip("/"))
    return found


def _contains(directory: str, path: str) -> bool:
    return path == directory or path.startswith(directory + "/")
