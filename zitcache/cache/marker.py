"""The note that a migration leaves at its destination: where the cache came from, how to link it again.

After a reset the old path and every setting are gone; this note, on the disk that survived, is what
``restore`` finds. It lies in the migrated cache itself, so that it stays with the data wherever the disk is
mounted next time. It is untrusted input like any other: read it through :func:`read_marker` only.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from zitcache.cache.exclusions import OWN_PREFIX
from zitcache.errors import IntegrityError, from_os_error
from zitcache.machine.files import write_durably
from zitcache.repository.records import Path as PathText
from zitcache.repository.records import decode_record, portable, real_name

MARKER_NAME = f"{OWN_PREFIX}migrated.json"
"""In the root of a migrated cache. Present only once every byte there has been verified."""

KIT_NAME = f"{OWN_PREFIX}kit"
"""The folder in the root of a migrated cache that holds its kit (a repository has ``kit/``)."""

MAX_MARKER_BYTES = 1 << 20

Variable = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}\Z")]
Value = Annotated[str, msgspec.Meta(max_length=65536)]


class MigrationMarker(msgspec.Struct, frozen=True, kw_only=True):
    """``source``: where the cache was; ``target``: where it is (or was, when the marker was written).

    ``*_bytes``: base64 of the exact bytes where a name is not UTF-8. ``method``: "copy", "reflink" or
    "rename". ``files``/``bytes``: what was moved. ``linked``: whether the old path became a symlink.
    ``variables``: what was set in the environment; values below ``target`` move with it. ``time``: ISO 8601,
    UTC. Fields are only ever added.
    """

    format: Literal["zitcache-migration"] = "zitcache-migration"
    version: Literal[1] = 1
    id: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
    source: PathText
    target: PathText
    source_bytes: str | None = None
    target_bytes: str | None = None
    host: str
    time: str
    program: str
    method: Literal["copy", "reflink", "rename"]
    files: Annotated[int, msgspec.Meta(ge=0)]
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    linked: bool
    variables: dict[Variable, Value] = {}

    @property
    def real_source(self) -> str:
        """The old path with undecodable bytes as surrogate escapes, as ``os`` functions take it."""
        return real_name(self.source, self.source_bytes)

    @property
    def real_target(self) -> str:
        """The new path likewise, as it was when the marker was written."""
        return real_name(self.target, self.target_bytes)

    def variables_at(self, place: str) -> dict[str, str]:
        """``variables`` for the cache as it lies at ``place`` now."""
        return {name: _moved(value, self.real_target, place) for name, value in self.variables.items()}


def read_marker(cache: str | os.PathLike[str]) -> MigrationMarker | None:
    """The marker in the root of ``cache``; None if there is none.

    Raises :class:`IntegrityError` for one that makes no sense (its paths must be absolute), and what the disk
    refuses as :func:`~zitcache.errors.from_os_error` says.
    """
    path = Path(cache, MARKER_NAME)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise from_os_error(error, f"reading {path}") from error
    with os.fdopen(fd, "rb") as file:
        try:
            data = file.read(MAX_MARKER_BYTES + 1)
        except OSError as error:
            raise from_os_error(error, f"reading {path}") from error
    if len(data) > MAX_MARKER_BYTES:
        raise IntegrityError(f"{path} is larger than a migration marker can be.")
    marker = decode_record(data, MigrationMarker, f"migration marker {path}")
    for name in (marker.real_source, marker.real_target):
        if not name.startswith("/") or "\0" in name or os.path.normpath(name) != name or name == "/":
            raise IntegrityError(f"{path} names {name[:100]!r}, which is no place for a cache.")
    return marker


def write_marker(cache: str | os.PathLike[str], marker: MigrationMarker) -> None:
    """Put ``marker`` into the root of ``cache`` durably, replacing the one there. Raises ``OSError``."""
    data = msgspec.json.format(msgspec.json.encode(marker), indent=2) + b"\n"
    write_durably(Path(cache, MARKER_NAME), data, mode=0o644)


def marker_paths(source: str, target: str) -> dict[str, str | None]:
    """The four path fields of a marker, as keyword arguments."""
    source_text, source_bytes = portable(source)
    target_text, target_bytes = portable(target)
    return {
        "source": source_text,
        "source_bytes": source_bytes,
        "target": target_text,
        "target_bytes": target_bytes,
    }


def _moved(value: str, old: str, new: str) -> str:
    if value == old:
        return new
    return new + value[len(old) :] if value.startswith(old + "/") else value
