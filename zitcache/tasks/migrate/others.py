"""What other tasks do for a migration: the environment, the kit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from zitcache.cache.marker import KIT_NAME
from zitcache.cache.variables import variables_for
from zitcache.errors import UsageError, ZitcacheError
from zitcache.events import Session
from zitcache.tasks.environment import install, uninstall
from zitcache.tasks.environment.sources import set_anywhere
from zitcache.tasks.kit import keep_kit as keep
from zitcache.tasks.settings import resolve_repository


def set_environment(target: Path, session: Session) -> tuple[dict[str, str], list[str]]:
    """Make both SDKs use the cache at ``target`` in shells, cron and services: (variables, files written).

    What cannot be written is warned about.
    """
    variables = variables_for(target, set_anywhere(os.environ))
    try:
        return variables, list(install(variables, session))
    except UsageError as error:  # a path that no settings file can hold
        session.warn("environment-not-set", f"The environment was not set: {error.message}", error.hint)
        return variables, []


def unset_environment(session: Session) -> list[str]:
    """Take away what :func:`set_environment` wrote: the files changed."""
    return list(uninstall(session))


def keep_kit(target: Path, variables: Mapping[str, str], session: Session) -> Path | None:
    """Put the kit for a bare machine into the migrated cache; None, and a warning, where that fails."""
    place = target / KIT_NAME
    kept = keep(place, session, environment=variables, repository=named_repository())
    return place if kept.problem is None else None


def named_repository() -> str | None:
    """The repository that settings name; None without one, or where settings cannot be read."""
    try:
        return resolve_repository(None).value
    except ZitcacheError:
        return None
