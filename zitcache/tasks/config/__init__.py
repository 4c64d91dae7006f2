"""``config``: what is set and by whom, whether it makes sense, and a first file that asks the machine.

``show``: every setting with its origin · ``writing``: the first file · here: validation.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from zitcache.errors import Exit, UsageError
from zitcache.events import Outcome, Session
from zitcache.schedule.times import parse_times
from zitcache.tasks.config.showing import ConfigReport, SettingState, show
from zitcache.tasks.config.writing import ConfigInitReport, init_config
from zitcache.tasks.configuration import Config, parse_config
from zitcache.tasks.night.words import policy_of, share_of
from zitcache.tasks.settings import MAX_CONFIG_BYTES, config_path


class ConfigValidation(msgspec.Struct, kw_only=True):
    """``path``: the file that was read, None if there is none. ``problems``: sentences."""

    path: str | None
    problems: list[str]


def validate(path: str | None, session: Session) -> Outcome[ConfigValidation]:
    """Read a configuration and try every value. Exit codes: 0; 2 if something is wrong with it.

    ``path``: another file than the one in use. A file that does not exist is a problem only if it was named.
    """
    place, named = (Path(path).expanduser(), True) if path else config_path()
    if place is None or (not place.exists() and not named):
        return Outcome(data=ConfigValidation(path=None, problems=[]), warnings=session.warnings)
    problems: list[str] = []
    try:
        with place.open("rb") as file:
            config = parse_config(place, file.read(MAX_CONFIG_BYTES))
    except OSError as error:
        problems.append(f"{place} cannot be read: {error.strerror or error}.")
    except UsageError as error:
        problems.append(f"{error.message} {error.hint or ''}".strip())
    else:
        problems += _nonsense(config)
    exit_code = Exit.USAGE if problems else Exit.OK
    report = ConfigValidation(path=str(place), problems=problems)
    return Outcome(data=report, warnings=session.warnings, exit_code=exit_code)


def _nonsense(config: Config) -> list[str]:
    """What a type cannot tell: times that never come, shares above one, a textfile nobody reads."""
    problems = [
        *_refusal(lambda: parse_times(config.schedule.at)),
        *_refusal(lambda: share_of(config.night.reread, "night.reread")),
        *_refusal(lambda: share_of(config.night.read_data, "night.read_data")),
        *_refusal(lambda: policy_of(config)),
    ]
    if _keeps_nothing(config):
        problems.append("The section [retention] keeps nothing; every night would forget all but the last.")
    textfile = config.metrics.textfile
    if textfile and not textfile.endswith(".prom"):
        problems.append(f"metrics.textfile must end in .prom, or the exporter passes it over: {textfile}")
    for name in ("ping", "webhook"):
        url = getattr(config.notify, name)
        if url and not url.startswith(("https://", "http://")):
            problems.append(f"notify.{name} must begin with https:// (or http://).")
    if config.night.report and not os.path.isabs(os.path.expanduser(config.night.report)):
        problems.append("night.report must be an absolute path: a scheduled run has no working directory.")
    return problems


def _refusal(try_it: Callable[[], object]) -> list[str]:
    try:
        try_it()
    except UsageError as error:
        return [f"{error.message} {error.hint or ''}".strip()]
    return []


def _keeps_nothing(config: Config) -> bool:
    """Whether the retention of the configuration keeps nothing."""
    try:
        return policy_of(config).is_empty
    except UsageError:
        return False


__all__ = [
    "ConfigInitReport",
    "ConfigReport",
    "ConfigValidation",
    "SettingState",
    "init_config",
    "show",
    "validate",
]
