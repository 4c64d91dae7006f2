"""The drill of a night: beside the repository, where there is a disk for data, and never twice."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from zitcache.errors import NoSpace
from zitcache.events import Outcome, Session
from zitcache.machine.files import remove_tree
from zitcache.tasks.drill import DrillReport, DrillRequest, drill
from zitcache.tasks.drill.scratch import PREFIX
from zitcache.tasks.night.steps import Context, proof_options, require_mounted

_STALE_SECONDS = 86_400.0


def drill_of_night(context: Context, session: Session) -> Outcome[DrillReport]:
    """Drill in the configured place; else beside the repository; without room there, in a temporary one.

    Raises what :func:`~zitcache.tasks.drill.drill` raises, and ``NotFound`` where the configured place is on
    a disk that is not mounted.
    """
    first, *others = _requests(context, session)
    try:
        return drill(first, session)
    except NoSpace:  # found out before anything was written
        if not others:
            raise
        return drill(others[0], session)


def _requests(context: Context, session: Session) -> list[DrillRequest]:
    proof = proof_options(context) if context.draws else None
    configured = context.config.night.scratch
    places: list[str | None] = [None]
    if configured:
        require_mounted(Path(configured).expanduser(), "night.scratch")
        places = [configured]
    elif context.beside is not None:
        places = [f"{context.beside}-drill", None]
    for place in places:
        if place is not None:
            _remove_stale(Path(place).expanduser(), session)
    return [
        DrillRequest(cache=context.cache, repository=context.repository, scratch=place, proof=proof)
        for place in places
    ]


def _remove_stale(place: Path, session: Session) -> None:
    """A drill that failed, or was killed, keeps its folder to be looked at: until the next one."""
    with contextlib.suppress(OSError):
        for folder in place.iterdir():
            old = time.time() - folder.stat().st_mtime > _STALE_SECONDS
            if folder.name.startswith(PREFIX) and folder.is_dir() and not folder.is_symlink() and old:
                remove_tree(folder)
                session.warn("old-drill-removed", f"What an earlier drill left was removed: {folder}")
