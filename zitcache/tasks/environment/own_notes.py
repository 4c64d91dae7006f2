"""The note in an own cache that says what in it was made by ``env --own``: the rest is the user's."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import msgspec

from zitcache.cache.exclusions import OWN_PREFIX
from zitcache.errors import IntegrityError, from_os_error
from zitcache.machine.files import write_durably

NOTE_NAME = f"{OWN_PREFIX}shared.json"
MAX_NOTE_BYTES = 64 << 20


class OwnNote(msgspec.Struct, kw_only=True):
    """``shared``: the cache the links lead to. ``links``: path -> target. ``copies``: path -> SHA-256.

    Paths are relative to the own cache. A name that is not as written here belongs to the user.
    """

    format: str = "zitcache-shared"
    version: int = 1
    shared: str
    links: dict[str, str] = {}
    copies: dict[str, str] = {}


def read_note(own: Path) -> OwnNote | None:
    """The note in the root of ``own``; None if there is none. Raises :class:`IntegrityError`."""
    path = own / NOTE_NAME
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            data = file.read(MAX_NOTE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise from_os_error(error, f"reading {path}") from error
    try:
        note = msgspec.json.decode(data, type=OwnNote)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise IntegrityError(f"{path} makes no sense: {error}.", hint=_HINT) from None
    if (note.format, note.version) != ("zitcache-shared", 1) or not note.shared.startswith("/"):
        raise IntegrityError(f"{path} is not of this version of zitcache.", hint=_HINT)
    for name in (*note.links, *note.copies):
        if name.startswith("/") or "\0" in name or ".." in name.split("/"):
            raise IntegrityError(f"{path} names {name[:100]!r}, which is outside the cache.", hint=_HINT)
    return note


def write_note(own: Path, note: OwnNote) -> None:
    """Write the note durably. Raises ``OSError``."""
    try:
        data = msgspec.json.encode(note)
    except UnicodeEncodeError as error:
        raise OSError(errno.EILSEQ, "A name in the shared cache is not UTF-8", str(own)) from error
    write_durably(own / NOTE_NAME, data, mode=0o644)


def digest(data: bytes) -> str:
    """What ``copies`` holds."""
    return hashlib.sha256(data).hexdigest()


_HINT = "Remove that file, or name an empty directory."
