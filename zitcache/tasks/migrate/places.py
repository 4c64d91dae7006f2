"""Where the cache is and where it goes; what lies there already; and every reason not to."""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from zitcache.cache.marker import MigrationMarker, read_marker
from zitcache.errors import NotFound, UsageError, ZitcacheError, from_os_error
from zitcache.events import Session
from zitcache.machine.files import nearest_existing
from zitcache.tasks.locations import live_cache
from zitcache.tasks.migrate.journal import Plan, read_plan
from zitcache.tasks.migrate.names import (
    JOURNAL_NAME,
    LOST_AND_FOUND,
    OLD_PREFIX,
    maker_of_temporary,
    old_place,
)

_ELSEWHERE = "Name a new directory on a data disk: zitcache migrate /path/on/the/data/disk/model_cache"


class State(Enum):
    """What is at the destination."""

    NEW = "new"
    UNFINISHED = "unfinished"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class Ends:
    """``source``: the real old path; ``target``: the real new one. ``plan``/``marker``: what lies there."""

    source: Path
    target: Path
    state: State
    plan: Plan | None = None
    marker: MigrationMarker | None = None

    @property
    def old(self) -> Path:
        """Where the old copy lies after the switch."""
        return old_place(self.source)

    @property
    def is_linked(self) -> bool:
        """Whether the old path is a symlink that leads to the target."""
        return os.path.islink(self.source) and os.path.realpath(self.source) == os.path.realpath(self.target)


def choose_ends(text: str | None, cache: str | None, session: Session) -> Ends:
    """Both ends of a migration. Raises ``UsageError``, ``CacheNotFound``, ``IntegrityError``."""
    renaming = _rename_under_way(text, cache, session)
    if renaming is not None:
        return renaming
    target = destination(text)
    plan, marker = read_plan(target), read_marker(target)
    if plan is not None and plan.direction == "there":
        ends = Ends(plan.real_source, target, State.UNFINISHED, plan, marker)
        _require_same_cache(ends, cache, session)
        return ends
    if plan is None and marker is not None:
        ends = Ends(Path(marker.real_source), target, State.FINISHED, None, marker)
        _require_same_cache(ends, cache, session)
        return ends
    source = live_cache(cache, session)
    if plan is not None:
        raise UsageError(
            f"An undo to {target} was interrupted.",
            hint=f"Finish it first: zitcache migrate --undo {shlex.quote(str(plan.real_source))}",
        )
    _refuse_overlap(source, target)
    _require_empty(target)
    return Ends(source, target, State.NEW)


def _rename_under_way(text: str | None, cache: str | None, session: Session) -> Ends | None:
    """A rename that was interrupted while the destination was a link to the place of the old copy."""
    if not text or "\0" in text:
        return None
    typed = Path(os.path.abspath(os.path.expanduser(text)))
    typed = Path(os.path.realpath(typed.parent), typed.name)
    if kind_at(typed) != "symlink" or not Path(os.readlink(typed)).name.startswith(OLD_PREFIX):
        return None
    tree = Path(os.readlink(typed))
    renamed = kind_at(tree) == "directory"
    plan = read_plan(tree if renamed else live_cache(cache, session))
    if plan is None or plan.method != "rename" or plan.real_target != typed:
        return None
    if renamed:
        return Ends(plan.real_source, typed, State.UNFINISHED, plan)
    with contextlib.suppress(OSError):
        typed.unlink()  # the cache is where it was: begin anew
    return None


def destination(text: str | None) -> Path:
    """The real path of a destination as it was typed. Raises ``UsageError``."""
    if not text or "\0" in text:
        raise UsageError("The destination is empty.", hint=_ELSEWHERE)
    if "://" in text:
        raise UsageError(
            f"{text} is no directory: programs load a cache from a disk.",
            hint=f"To keep a copy there: zitcache backup -r {shlex.quote(text)}",
        )
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        path = Path(text)
    path = Path(os.path.realpath(path))
    try:
        existing = nearest_existing(path)
        is_directory = existing.is_dir()
    except OSError as error:
        raise from_os_error(error, f"looking at {path}") from error
    if not is_directory:
        what = f"{path} is" if existing == path else f"{path} cannot be made: {existing} is"
        raise UsageError(f"{what} a file, not a directory.", hint=_ELSEWHERE)
    if path == Path("/"):
        raise UsageError("The root of the file system is no place for a cache.", hint=_ELSEWHERE)
    return path


def migrated_ends(text: str | None, cache: str | None, session: Session) -> Ends:
    """Both ends of a migration that is to be undone: found by the destination, or by the cache in use.

    Raises ``NotFound`` when there is no migrated cache.
    """
    target = destination(text) if text is not None else live_cache(cache, session)
    plan, marker = read_plan(target), read_marker(target)
    if plan is not None and plan.direction == "back":
        # The undo has put the tree in its old place; only its last steps are left.
        return Ends(plan.real_target, plan.real_source, State.UNFINISHED, plan)
    if marker is not None:
        ends = Ends(Path(marker.real_source), target, State.FINISHED, plan, marker)
        back = _undo_under_way(ends)
        return Ends(ends.source, target, State.UNFINISHED, back, marker) if back else ends
    found = _finished_but_for_the_end(target, plan, cache, session)
    if found is not None:
        return found
    raise NotFound(
        f"{target} is not a cache that zitcache has migrated: nothing to undo.",
        hint="Name the directory it was migrated to: zitcache migrate --undo DIR",
    )


def _undo_under_way(ends: Ends) -> Plan | None:
    for place in (ends.source, ends.old):
        if not os.path.islink(place) and (plan := read_plan(place)) and plan.direction == "back":
            return plan
    return None


def _finished_but_for_the_end(
    target: Path, plan: Plan | None, cache: str | None, session: Session
) -> Ends | None:
    """An undo that has removed the marker already; the tree in its old place still has the journal."""
    places = [plan.real_source] if plan is not None else []
    with contextlib.suppress(ZitcacheError):
        places.append(live_cache(cache, session))
    for place in places:
        back = read_plan(place)
        if back is not None and back.direction == "back" and back.real_source == target:
            return Ends(place, target, State.UNFINISHED, back)
    return None


def is_empty(directory: Path) -> bool:
    """Whether nothing is in ``directory``. Raises ``OSError``.

    What a file system has in its root does not count, nor what a run left that was killed at its very start.
    """
    names = {name for name in os.listdir(directory) if maker_of_temporary(name) is None}
    if read_plan(directory) is None:
        names.discard(JOURNAL_NAME)
    if os.path.ismount(directory):
        names.discard(LOST_AND_FOUND)
    return not names


def _require_empty(target: Path) -> None:
    try:
        if not os.path.lexists(target) or is_empty(target):
            return
    except OSError as error:
        raise from_os_error(error, f"looking into {target}") from error
    raise UsageError(
        f"{target} is not empty, and what is in it is no migration of this cache. Nothing was changed.",
        hint=f"Name a new directory: zitcache migrate {shlex.quote(str(target / 'model_cache'))}",
    )


def _refuse_overlap(source: Path, target: Path) -> None:
    if source == target or (os.path.lexists(target) and os.path.samefile(source, target)):
        raise UsageError(f"The cache is at {target} already.", hint=_ELSEWHERE)
    if source in target.parents or _lies_in(target, source):
        raise UsageError(f"{target} lies inside the cache {source}.", hint=_ELSEWHERE)
    if target in source.parents or _lies_in(source, target):
        raise UsageError(f"The cache {source} lies inside {target}.", hint=_ELSEWHERE)


def _lies_in(path: Path, directory: Path) -> bool:
    """Whether ``path`` lies in ``directory`` seen under another name (a bind mount)."""
    try:
        wanted = directory.stat()
        for parent in path.parents:
            with_status = parent.stat() if parent.exists() else None
            if with_status is not None and os.path.samestat(with_status, wanted):
                return True
    except OSError:
        return False
    return False


def _require_same_cache(ends: Ends, cache: str | None, session: Session) -> None:
    """Refuse to go on with the migration of another cache than the one that is meant."""
    try:
        live = live_cache(cache, session)
    except ZitcacheError:
        # In the middle of a switch, or after a reset, there may be nothing at the old path.
        if cache is not None and Path(os.path.abspath(os.path.expanduser(cache))) != ends.source:
            raise
        return
    own = {ends.source, Path(os.path.realpath(ends.source)), ends.target, ends.old}
    if live not in own and not any(_same(live, place) for place in own):
        raise UsageError(
            f"{ends.target} holds a migration of {ends.source}, and the cache in use is {live}.",
            hint=f"Name another directory, or the cache: --cache {shlex.quote(str(ends.source))}",
        )


def _same(a: Path, b: Path) -> bool:
    try:
        return os.path.samefile(a, b)
    except OSError:
        return False


def kind_at(path: Path) -> str | None:
    """ "directory", "symlink", "file", or None where nothing is. Raises what the disk refuses."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise from_os_error(error, f"looking at {path}") from error
    if stat.S_ISLNK(mode):
        return "symlink"
    return "directory" if stat.S_ISDIR(mode) else "file"
