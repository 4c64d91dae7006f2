"""What ``--fix`` does by itself. The list is short on purpose: safe means that nothing can be lost by it.

- The variables that name the cache are written for shells, cron and services: blocks of our own, taken away
  again by ``zitcache env --remove``. Only when a check found them missing or at odds.
- The kit is made in the repository or the migrated cache. Only when there is none.

Not in it: moving or deleting anything (``migrate``, ``clean``), backing up (it takes minutes and space),
starting daemons and schedules (they are for the user to want), and changes in lines that somebody wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from zitcache.cache.marker import KIT_NAME
from zitcache.cache.variables import variables_for
from zitcache.errors import ZitcacheError
from zitcache.events import Session
from zitcache.tasks.doctor.facts import Facts
from zitcache.tasks.doctor.report import Check, Fixed
from zitcache.tasks.environment import EnvRequest, env
from zitcache.tasks.kit import keep_kit
from zitcache.tasks.kit.layout import KIT_FOLDER, RECOVER

_ABOUT_VARIABLES = frozenset(
    {"variables-reach", "variables-differ", "modelscope-cache", "huggingface-cache", "cache-choice"}
)


def apply_fixes(facts: Facts, checks: Iterable[Check], session: Session) -> list[Fixed]:
    """Do what is safe and needed; what could not be done is a warning."""
    wrong = {check.id for check in checks if check.status in {"warn", "fail"}}
    fixes: list[tuple[bool, str, Callable[[Facts, Session], Fixed | None]]] = [
        (bool(wrong & _ABOUT_VARIABLES), "variables", _write_variables),
        ("kit" in wrong, "kit", _make_kit),
    ]
    done: list[Fixed] = []
    for is_needed, name, fix in fixes:
        if not is_needed:
            continue
        session.cancel.check()
        try:
            fixed = fix(facts, session)
        except (OSError, ZitcacheError) as error:
            hint = error.hint if isinstance(error, ZitcacheError) else None
            session.warn("not-fixed", f"{name}: {error}", hint)
        else:
            if fixed is not None:
                done.append(fixed)
    return done


def _write_variables(facts: Facts, session: Session) -> Fixed | None:
    cache = facts.cache()
    if cache.path is None:
        return None
    outcome = env(EnvRequest(cache=str(cache.path), write=True), session)
    if not outcome.data.written:
        return None
    names = ", ".join(sorted(outcome.data.selected))
    return Fixed(
        id="variables", done=f"Set {names} for shells, cron and services.", files=outcome.data.written
    )


def _make_kit(facts: Facts, session: Session) -> Fixed | None:
    repository, cache = facts.repository(), facts.cache()
    if cache.path is None:
        return None
    if repository.is_usable and repository.location is not None:
        place = Path(repository.location, KIT_FOLDER)
    else:
        place = cache.path / KIT_NAME
    report = keep_kit(
        place,
        session,
        environment=variables_for(cache.path, facts.environ),
        repository=repository.location if repository.is_usable else None,
        cache=str(cache.path),
    )
    if report.problem is not None:
        return None
    return Fixed(id="kit", done=f"Made the kit. After a reset: sh {place}/{RECOVER}", files=[str(place)])
