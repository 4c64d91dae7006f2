"""The scratch folder of a drill: on a disk with enough room, a new folder of its own, and gone afterwards."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zitcache.errors import NoSpace, UsageError, from_os_error
from zitcache.machine.files import nearest_existing, remove_tree
from zitcache.machine.mounts import data_mounts, free_space, mount_of

PREFIX = "zitcache-drill-"


@dataclass(frozen=True, slots=True)
class Room:
    """What a drill needs: bytes and names (inodes)."""

    size_bytes: int
    names: int


@dataclass(frozen=True, slots=True)
class Scratch:
    """A folder that this drill has made; ``made``: folders above it that it had to make, innermost first."""

    path: Path
    made: tuple[Path, ...]

    def remove(self) -> None:
        """Remove it with everything in it. Raises ``OSError``."""
        remove_tree(self.path)
        for folder in self.made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def make_scratch(named: str | None, room: Room, forbidden: dict[str, Path]) -> Scratch:
    """Make a new folder in ``named``, or in the first temporary folder with enough room.

    ``forbidden``: folders (by what they are) that it must not be in. Raises :class:`NoSpace` before anything
    is written if it cannot hold the drill, :class:`UsageError` if ``named`` is no place for it.
    """
    place = _named(named) if named is not None else _roomy(room)
    for what, folder in forbidden.items():
        if place == folder or folder in place.parents:
            raise UsageError(
                f"The scratch folder {place} lies inside the {what} {folder}.",
                hint="Choose another place: zitcache drill --scratch DIR",
            )
    try:
        _require(place, room)
        made = tuple(_make(place))
        return Scratch(Path(tempfile.mkdtemp(prefix=PREFIX, dir=place)), made)
    except OSError as error:
        raise from_os_error(error, f"making a scratch folder in {place}") from error


def _named(text: str) -> Path:
    place = Path(os.path.realpath(Path(text).expanduser()))
    if not nearest_existing(place).is_dir():
        raise UsageError(
            f"{place} cannot be a scratch folder: {nearest_existing(place)} is a file.",
            hint="Name a directory: zitcache drill --scratch DIR",
        )
    return place


def _roomy(room: Room) -> Path:
    """The first temporary folder on a real disk that has the room, else one in memory that has it."""
    places = list(_temporary_folders())
    for place in places:
        if _has(place, room):
            return place
    return places[0]


def _temporary_folders() -> Iterator[Path]:
    names = dict.fromkeys((tempfile.gettempdir(), "/var/tmp"))
    folders = [Path(os.path.realpath(name)) for name in names]
    usable = [folder for folder in folders if folder.is_dir() and os.access(folder, os.W_OK)] or folders[:1]
    # What lies in memory takes it away from everything else.
    yield from sorted(usable, key=lambda folder: mount_of(folder).is_memory)


def _has(place: Path, room: Room) -> bool:
    free = free_space(place)
    return free.bytes_free >= room.size_bytes and (free.inodes_free is None or free.inodes_free >= room.names)


def _require(place: Path, room: Room) -> None:
    if _has(place, room):
        return
    roomy = [mount.mount_point for mount in data_mounts() if _has(Path(mount.mount_point), room)]
    other = f"{roomy[0].rstrip('/')}/drill" if roomy else "DIR"
    free = free_space(place)
    if free.bytes_free < room.size_bytes:
        raise NoSpace(
            f"The drill needs {room.size_bytes / 1e9:.2f} GB of scratch space; the disk of {place} has "
            f"{free.bytes_free / 1e9:.2f} GB free. Nothing was written.",
            hint=f"Use a larger disk: zitcache drill --scratch {other}",
        )
    raise NoSpace(
        f"The drill needs {room.names} inodes; the disk of {place} has {free.inodes_free} left. "
        "Nothing was written.",
        hint=f"Use another disk: zitcache drill --scratch {other}",
    )


def _make(place: Path) -> Iterator[Path]:
    """Make ``place`` and yield every folder that was missing, innermost first."""
    missing = []
    folder = place
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    place.mkdir(parents=True, exist_ok=True)
    yield from missing
