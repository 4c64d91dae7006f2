"""``zitcache kit``: make a kit by hand, or prove one."""

from __future__ import annotations

import os
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from zitcache.cache.marker import KIT_NAME, MARKER_NAME
from zitcache.cache.variables import variables_for
from zitcache.errors import CacheNotFound, Exit, NotFound, UsageError, ZitcacheError, from_os_error
from zitcache.events import Outcome, Session
from zitcache.tasks.discovery import looks_like_repository
from zitcache.tasks.environment import installed
from zitcache.tasks.kit.check import check_kit
from zitcache.tasks.kit.keep import write_kit
from zitcache.tasks.kit.layout import KIT_FOLDER, LOCK, is_kit
from zitcache.tasks.kit.report import KitReport
from zitcache.tasks.kit.scripts import POINTER
from zitcache.tasks.kit.settings import NO_CACHE
from zitcache.tasks.locations import chosen_location, locate

_OURS = frozenset({"lost+found", POINTER, LOCK})


@dataclass(frozen=True, slots=True)
class KitRequest:
    """``directory``: where; None for the repository or the migrated cache in use. ``check``: prove it."""

    directory: str | None = None
    repository: str | None = None
    check: bool = False


def kit(request: KitRequest, session: Session) -> Outcome[KitReport]:
    """Make a kit, always anew, or prove the one that is there.

    Exit codes: 0; 1 if the kit does not work. Raises ``NotFound`` where there is no kit to check,
    ``UsageError`` for a directory that holds something else, ``NoSpace`` and the like.
    """
    started = time.monotonic()
    folder = _folder(request, session)
    if request.check:
        if not is_kit(folder):
            raise NotFound(
                f"There is no kit in {folder}.", hint=f"Make one: zitcache kit {shlex.quote(str(folder))}"
            )
        report = check_kit(folder, session)
        report.seconds = time.monotonic() - started
        code = Exit.OK if all(step.ok for step in report.steps) else Exit.DAMAGE
        return Outcome(data=report, warnings=session.warnings, exit_code=code)
    _refuse_occupied(folder)
    cache = _cache(folder, session)
    try:
        report = write_kit(
            folder,
            session,
            environment=variables_for(cache, {**installed(), **os.environ}) if cache else {},
            repository=_repository(folder, request, session),
            cache=str(cache) if cache else NO_CACHE,
            again=True,
        )
    except OSError as error:
        raise from_os_error(error, f"writing the kit {folder}") from error
    report.seconds = time.monotonic() - started
    return Outcome(data=report, warnings=session.warnings)


def _folder(request: KitRequest, session: Session) -> Path:
    """The folder of the kit that is meant."""
    if request.directory is not None:
        if not request.directory or "\0" in request.directory:
            raise UsageError("The folder for the kit is empty.", hint="Name it: zitcache kit /data/kit")
        return _kit_of(Path(os.path.abspath(os.path.expanduser(request.directory))))
    try:
        location = chosen_location(request.repository, session)
    except ZitcacheError:
        if request.repository is not None:
            raise
        migrated = _migrated_cache(session)
        if migrated is None:
            raise
        return migrated / KIT_NAME
    if "://" in location:
        raise UsageError(
            f"The repository {location} is no directory, so that nothing can be run from it.",
            hint="Name a folder on a disk that survives: zitcache kit /path/on/the/data/disk/kit",
        )
    return Path(os.path.abspath(location)) / KIT_FOLDER


def _kit_of(directory: Path) -> Path:
    """The folder of the kit in ``directory``: a repository and a migrated cache have it at a fixed place."""
    if looks_like_repository(directory):
        return directory / KIT_FOLDER
    if os.path.lexists(directory / MARKER_NAME):
        return directory / KIT_NAME
    return directory


def _migrated_cache(session: Session) -> Path | None:
    try:
        path = locate(None, session).path
    except ZitcacheError:
        return None
    return path if os.path.lexists(path / MARKER_NAME) else None


def _refuse_occupied(folder: Path) -> None:
    """A kit must have a folder of its own."""
    if is_kit(folder):
        return
    try:
        found = sorted(name for name in os.listdir(folder) if name not in _OURS)
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(error, f"looking into {folder}") from error
    if found:
        names = ", ".join(repr(name) for name in found[:3]) + (", …" if len(found) > 3 else "")
        raise UsageError(
            f"{folder} is not empty (it holds {names}); a kit needs a folder of its own.",
            hint=f"Name a new one: zitcache kit {shlex.quote(str(folder / 'kit'))}",
        )


def _cache(folder: Path, session: Session) -> Path | None:
    """The cache that the kit is to bring back: the one around it, else the one in use, if there is one."""
    if folder.name == KIT_NAME:
        return Path(os.path.realpath(folder.parent))
    try:
        return locate(None, session).path
    except CacheNotFound:
        session.warn(
            "no-cache", "No model cache was found here: the kit knows no variables to set.", "zitcache models"
        )
        return None


def _repository(folder: Path, request: KitRequest, session: Session) -> str | None:
    if looks_like_repository(folder.parent):
        return str(folder.parent)
    try:
        return chosen_location(request.repository, session)
    except ZitcacheError:
        return None
