"""Every setting, its value, and where it comes from."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from zitcache.events import Outcome, Session
from zitcache.schedule.sections import Section
from zitcache.tasks.configuration import Config, set_names
from zitcache.tasks.settings import config_path, load_config

_SECRET = frozenset({"notify.ping", "notify.webhook", "notify.apprise", "hooks.before", "hooks.after"})


class SettingState(msgspec.Struct, kw_only=True):
    """``name``: dotted, as in the file. ``origin``: "environment", "config" or "default".

    ``source``: the variable or the file. A value that may hold a secret shows only that it is set.
    """

    name: str
    value: Any
    origin: str
    source: str = ""


class ConfigReport(msgspec.Struct, kw_only=True):
    """``path``: the configuration file, None if there is none. ``settings``: all of them."""

    path: str | None
    settings: list[SettingState]


def show(session: Session, environ: Mapping[str, str] = os.environ) -> Outcome[ConfigReport]:
    """All settings. Raises ``UsageError`` if the file cannot be used."""
    loaded = load_config(environ)
    path, config = loaded if loaded else (None, Config())
    in_file: set[str] = set()
    if path is not None:
        in_file = set_names(path, path.read_bytes())
    place, _ = config_path(environ)
    settings = [
        _state(name, value, in_file, str(path or place or ""), environ) for name, value in _flat(config, "")
    ]
    report = ConfigReport(path=None if path is None else str(path), settings=settings)
    return Outcome(data=report, warnings=session.warnings)


def _state(name: str, value: Any, in_file: set[str], path: str, environ: Mapping[str, str]) -> SettingState:
    variable = f"ZITCACHE_{name.upper()}"
    if "." not in name and environ.get(variable):
        return SettingState(name=name, value=environ[variable], origin="environment", source=variable)
    shown = _hidden(value) if name in _SECRET else value
    if name in in_file:
        return SettingState(name=name, value=shown, origin="config", source=path)
    return SettingState(name=name, value=shown, origin="default")


def _hidden(value: Any) -> Any:
    """A ping URL, a chat hook and a command line may all be passwords."""
    if not value:
        return value
    if isinstance(value, list):
        return [_hidden(item) for item in value]
    match = re.match(r"[a-z][a-z0-9+.-]*://", str(value), re.IGNORECASE)
    return f"{match[0] if match else ''}…"


def _flat(section: Section, prefix: str) -> Iterator[tuple[str, Any]]:
    for field in msgspec.structs.fields(section):
        value = getattr(section, field.name)
        if isinstance(value, Section):
            yield from _flat(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", value
