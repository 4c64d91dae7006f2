"""``config``: what is set and by whom, whether it makes sense, and a first file that asks the machine.

``showing``: every setting with its origin · ``writing``: the first file · ``trying``: every value ·
here: validation.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from zitcache.errors import Exit, UsageError
from zitcache.events import Outcome, Session
from zitcache.tasks.config.showing import ConfigReport, SettingState, show
from zitcache.tasks.config.trying import problems_in
from zitcache.tasks.config.writing import ConfigInitReport, init_config
from zitcache.tasks.configuration import bad, parse_config
from zitcache.tasks.secrets import foreign_hooks, readable_secrets
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
            data = file.read(MAX_CONFIG_BYTES + 1)
        if len(data) > MAX_CONFIG_BYTES:
            raise bad(place, None, f"it is larger than {MAX_CONFIG_BYTES} bytes")
        config = parse_config(place, data)
    except OSError as error:
        problems.append(f"{place} cannot be read: {error.strerror or error}.")
    except UsageError as error:
        problems.append(f"{error.message} {error.hint or ''}".strip())
    else:
        problems += problems_in(config)
        notices = (readable_secrets(place, config), foreign_hooks(place, config))
        problems += [f"{notice.message} {notice.hint}" for notice in notices if notice is not None]
    exit_code = Exit.USAGE if problems else Exit.OK
    report = ConfigValidation(path=str(place), problems=problems)
    return Outcome(data=report, warnings=session.warnings, exit_code=exit_code)


__all__ = [
    "ConfigInitReport",
    "ConfigReport",
    "ConfigValidation",
    "SettingState",
    "init_config",
    "show",
    "validate",
]
