"""Find migrated caches, repositories and kits on the mounted disks, with nothing to go by.

A scan reads directories only, breadth first, and is bounded in depth, number and time; each disk is looked
at by a thread of its own, so that one that does not answer holds up nothing. What is found is untrusted:
``problem`` says why something is not to be used, ``trusted`` whether it may be used without being named.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zitcache.cache.inventory import inventory
from zitcache.cache.marker import KIT_NAME, MARKER_NAME, MigrationMarker, read_marker
from zitcache.errors import ZitcacheError
from zitcache.events import Session
from zitcache.machine.mounts import data_mounts, mounts
from zitcache.machine.ownership import distrust_any
from zitcache.repository.repository import CONFIG
from zitcache.tasks.kit.layout import KIT_FOLDER, LAUNCHER, RECOVER, is_kit

MAX_DEPTH = 5
MAX_DIRECTORIES = 20_000
MAX_SECONDS = 3.0
_CONFIG_HEAD_BYTES = 4096
# fmt: off
_NOT_LOOKED_INTO = frozenset({
    "lost+found", "node_modules", "__pycache__", "site-packages", "proc", "sys", "dev",
    "System Volume Information", "$RECYCLE.BIN",
})
# fmt: on
_OF_THE_SYSTEM = ("/usr/", "/etc/", "/var/lib/docker/", "/var/lib/containerd/", "/var/lib/kubelet/")
"""Where mounts belong to the system or to drivers (a container gets its GPU's libraries like that)."""

_HIDDEN_LOOKED_INTO = frozenset({".cache"})


@dataclass(frozen=True, slots=True)
class FoundCache:
    """A cache with the note of a migration. ``alive``: complete as far as names, sizes and headers tell.

    ``problem``: why it is not alive, or why it is not trusted. ``models``: what is in it.
    """

    path: Path
    marker: MigrationMarker
    alive: bool
    problem: str | None
    trusted: bool = True
    models: tuple[str, ...] = ()
    incomplete: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundKit:
    """A kit that may be relied on. ``named``: because the user named the place that it lies in."""

    path: Path
    named: bool


@dataclass(slots=True)
class Finds:
    """Directories that a scan met, in the order met."""

    caches: list[Path] = field(default_factory=list)
    repositories: list[Path] = field(default_factory=list)
    kits: list[Path] = field(default_factory=list)


def migrated_caches(session: Session, places: Sequence[Path] = ()) -> list[FoundCache]:
    """The migrated caches at ``places`` and on the mounted data disks, the newest migration first.

    What lies at ``places`` was named by the user and is trusted.
    """
    return examine_caches(scan(session, places).caches, places, session)


def repositories(session: Session, places: Sequence[Path] = ()) -> list[str]:
    """The repositories at ``places`` and on the mounted data disks, in the order found."""
    return [str(place) for place in scan(session, places).repositories]


def looks_like_repository(place: Path) -> bool:
    """Whether the config there is one of ours: restic's repositories have a ``config``, too."""
    try:
        with (place / CONFIG).open("rb") as config:
            return b'"zitcache"' in config.read(_CONFIG_HEAD_BYTES)
    except OSError:  # nothing there, not allowed, or a disk that does not answer
        return False


def meant_by(place: Path) -> Path:
    """What is meant by naming ``place``: of a kit, the cache or repository that it was made for."""
    real = Path(os.path.realpath(place))
    holder = real.parent
    if is_kit(real) and (os.path.lexists(holder / MARKER_NAME) or looks_like_repository(holder)):
        return holder
    return real


def scan(session: Session, places: Sequence[Path] = ()) -> Finds:
    """Look at ``places`` and at the mounted data disks. A disk that does not answer is warned about."""
    disks = [mount.mount_point for mount in data_mounts()]
    wanted = [Path(disk) for disk in disks if not f"{disk}/".startswith(_OF_THE_SYSTEM)]
    return _look_at(list(dict.fromkeys([*map(meant_by, places), *wanted])), session)


def look_below(place: Path, session: Session) -> Finds:
    """Look at ``place`` alone."""
    return _look_at([meant_by(place)], session)


def _look_at(roots: list[Path], session: Session) -> Finds:
    mount_points = {mount.mount_point for mount in mounts()}
    found = [Finds() for _ in roots]
    deadline = time.monotonic() + MAX_SECONDS
    threads = [
        threading.Thread(target=_look, args=(root, mount_points, deadline, into), daemon=True)
        for root, into in zip(roots, found, strict=True)
    ]
    for thread in threads:
        thread.start()
    for root, thread in zip(roots, threads, strict=True):
        while thread.is_alive() and time.monotonic() < deadline + 1:
            session.cancel.check()
            thread.join(0.05)
        if thread.is_alive():
            session.warn(
                "disk-not-answering",
                f"The disk at {root} did not answer within {MAX_SECONDS:.0f} seconds; it was left out.",
                "If what you need lies there: zitcache restore --from PLACE",
            )
    together = Finds()
    for finds in found:
        for name in ("caches", "repositories", "kits"):
            known = getattr(together, name)
            known += [path for path in list(getattr(finds, name)) if path not in known]
    return together


def examine_caches(found: Sequence[Path], places: Sequence[Path], session: Session) -> list[FoundCache]:
    """Read the markers, and see whether the caches are complete. Damaged markers are warned about."""
    named = [meant_by(place) for place in places]
    examined = []
    for path in found:
        session.cancel.check()
        cache = _examine(path, _is_among(path, named), session)
        if cache is not None:
            examined.append(cache)
    return sorted(examined, key=lambda cache: cache.marker.time, reverse=True)


def kits_for(finds: Finds, places: Sequence[Path]) -> list[FoundKit]:
    """Every kit that may be relied on: of the caches and repositories found, and those that lie alone."""
    named = [meant_by(place) for place in places]
    of_caches = [path / KIT_NAME for path in finds.caches]
    of_repositories = [path / KIT_FOLDER for path in finds.repositories]
    kits = []
    for kit in dict.fromkeys([*of_caches, *of_repositories, *finds.kits]):
        is_named = _is_among(kit, named)
        if is_kit(kit) and (is_named or distrust_any(kit, kit / LAUNCHER, kit / RECOVER) is None):
            kits.append(FoundKit(kit, is_named))
    return kits


def is_named(path: Path, places: Sequence[Path]) -> bool:
    """Whether ``path`` is one of ``places`` that the user named, or lies in one."""
    return _is_among(path, [meant_by(place) for place in places])


def _is_among(path: Path, named: Sequence[Path]) -> bool:
    return any(path == place or place in path.parents for place in named)


def _examine(path: Path, named: bool, session: Session) -> FoundCache | None:
    try:
        marker = read_marker(path)
    except ZitcacheError as error:
        session.warn("marker-unreadable", f"The migrated cache in {path} is passed over: {error.message}")
        return None
    if marker is None:
        return None
    reason = None if named else distrust_any(path, path / MARKER_NAME)
    if reason is not None:
        return FoundCache(
            path, marker, alive=False, problem=f"not used without being named: {reason}", trusted=False
        )
    try:
        stock = inventory(path)
    except (OSError, ZitcacheError) as error:
        return FoundCache(path, marker, alive=False, problem=f"it cannot be read: {error}")
    whole = tuple(model.id for model in stock.models if model.complete)
    broken = [model for model in stock.models if not model.complete]
    problem = None
    if not stock.models:
        problem = "there is no model in it"
    elif broken:
        reasons = broken[0].problems
        said = f": {reasons[0].message}" if reasons else ""
        problem = f"{broken[0].id} is not complete{said}"
    return FoundCache(
        path, marker, alive=bool(whole), problem=problem, models=whole, incomplete=tuple(m.id for m in broken)
    )


def _look(root: Path, mount_points: set[str], deadline: float, into: Finds) -> None:
    """Breadth first below ``root``. Does not leave its disk, follow links, or enter what it has found."""
    pending = deque([(root, 0)])
    seen = 0
    while pending and seen < MAX_DIRECTORIES and time.monotonic() < deadline:
        directory, depth = pending.popleft()
        seen += 1
        try:
            with os.scandir(directory) as entries:
                children = {entry.name: entry for entry in entries}
        except OSError:
            continue
        if MARKER_NAME in children:
            into.caches.append(directory)
            continue
        if CONFIG in children and looks_like_repository(directory):
            into.repositories.append(directory)
            continue
        if RECOVER in children and LAUNCHER in children:
            into.kits.append(directory)
            continue
        if depth < MAX_DEPTH:
            pending += [
                (directory / name, depth + 1)
                for name in sorted(children)
                if _is_looked_into(name)
                and children[name].is_dir(follow_symlinks=False)
                and str(directory / name) not in mount_points
            ]


def _is_looked_into(name: str) -> bool:
    if name.startswith("."):
        return name in _HIDDEN_LOOKED_INTO
    return name not in _NOT_LOOKED_INTO and not name.startswith(("models--", "datasets--"))


__all__ = [
    "Finds",
    "FoundCache",
    "FoundKit",
    "examine_caches",
    "is_named",
    "kits_for",
    "look_below",
    "looks_like_repository",
    "meant_by",
    "migrated_caches",
    "repositories",
    "scan",
]
