"""What a machine had set, kept in the kit: its config, its variables, its schedule, its migration.

One small file for each machine and cache, because several may share a repository. The newest are kept.
Only the user can read them: a config may hold secrets.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from zitcache.cache.marker import MigrationMarker, Value, Variable, read_marker
from zitcache.errors import IntegrityError, ZitcacheError
from zitcache.machine.files import write_durably
from zitcache.machine.schedule_entries import ScheduleEntries, capture
from zitcache.repository.records import Path as PathText
from zitcache.repository.records import decode_record, portable, real_name
from zitcache.tasks.kit.layout import MACHINES
from zitcache.tasks.settings import MAX_CONFIG_BYTES, config_path

KEEP = 64
NO_CACHE = "/"
"""Stands for the cache where none was known: config and schedule are kept all the same."""

_MAX_BYTES = 4 << 20


class MachineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one machine for one cache. ``time``: when they last changed.

    ``cache``: the cache's real path. ``repository``: where the snapshots go, if they do. ``config``: the text
    of the configuration file that lay at ``config_path``. ``migration``: the marker of the cache, if it was
    migrated: the snapshots do not hold it.
    """

    format: Literal["zitcache-machine"] = "zitcache-machine"
    version: Literal[1] = 1
    host: str
    user: str
    cache: PathText
    cache_bytes: str | None = None
    time: str
    program: str
    repository: str | None = None
    config: Annotated[str, msgspec.Meta(max_length=MAX_CONFIG_BYTES)] | None = None
    config_path: str | None = None
    environment: dict[Variable, Value] = {}
    schedule: ScheduleEntries = ScheduleEntries()
    migration: MigrationMarker | None = None

    @property
    def real_cache(self) -> str:
        """The cache's path as ``os`` functions take it."""
        return real_name(self.cache, self.cache_bytes)


def current_settings(
    cache: str, environment: Mapping[str, str], repository: str | None, program: str
) -> MachineSettings:
    """What is set on this machine now."""
    text, place = _config()
    name, name_bytes = portable(cache)
    migration = None
    with contextlib.suppress(ZitcacheError):
        migration = read_marker(cache)
    return MachineSettings(
        host=socket.gethostname(),
        user=str(os.geteuid()),
        cache=name,
        cache_bytes=name_bytes,
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        program=program,
        repository=repository,
        config=text,
        config_path=place,
        environment=dict(sorted(environment.items())),
        schedule=capture(),
        migration=migration,
    )


def save_settings(kit: Path, settings: MachineSettings) -> bool:
    """Keep ``settings``; whether they differ from what was kept. Raises ``OSError``."""
    folder = kit / MACHINES
    path = folder / _name(settings)
    with contextlib.suppress(OSError, ZitcacheError):
        before = _read(path)
        if msgspec.structs.replace(before, time=settings.time) == settings:
            # The newest are known by this time: which machine was the last here.
            os.utime(path)
            return False
    folder.mkdir(mode=0o700, exist_ok=True)
    data = msgspec.json.format(msgspec.json.encode(settings), indent=1) + b"\n"
    write_durably(path, data, mode=0o600)
    for old in _newest_first(folder)[KEEP:]:
        old.unlink(missing_ok=True)
    return True


def load_settings_by_file(kit: Path) -> list[tuple[Path, int, MachineSettings]]:
    """File, time in ns when last kept or confirmed, and settings: all that are readable, the newest first."""
    found = []
    for path in _newest_first(kit / MACHINES):
        with contextlib.suppress(OSError, ZitcacheError):
            found.append((path, path.lstat().st_mtime_ns, _read(path)))
    return found


def _read(path: Path) -> MachineSettings:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise IntegrityError(f"{path} is larger than settings can be.")
    settings = decode_record(data, MachineSettings, f"settings {path}")
    if not settings.real_cache.startswith("/") or "\0" in settings.real_cache:
        raise IntegrityError(f"{path} names {settings.cache[:100]!r}, which is no place for a cache.")
    return settings


def _newest_first(folder: Path) -> list[Path]:
    try:
        names = [name for name in os.listdir(folder) if name.endswith(".json") and not name.startswith(".")]
    except OSError:
        return []
    dated = []
    for name in names:
        with contextlib.suppress(OSError):
            dated.append(((folder / name).lstat().st_mtime_ns, folder / name))
    return [path for _, path in sorted(dated, reverse=True)]


def _name(settings: MachineSettings) -> str:
    identity = f"{settings.host}\0{settings.user}\0{settings.cache}"
    return sha256(identity.encode()).hexdigest()[:16] + ".json"


def _config() -> tuple[str | None, str | None]:
    """The configuration file as it is, whatever it says, and where it lies."""
    path, _ = config_path()
    if path is None:
        return None, None
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
        return (data.decode(), str(path.absolute())) if len(data) <= MAX_CONFIG_BYTES else (None, None)
    except (OSError, UnicodeDecodeError):
        return None, None
