"""Variables as text for everything that reads them, quoted the way each of the readers unquotes.

Sources: POSIX XCU 2.2 (sh); fish "Quotes"; ``pam_env.c`` (``/etc/environment``); systemd ``env-file.c``
(``EnvironmentFile=``), environment.d(5) and systemd-system.conf(5); docker ``opts/file.go`` (``--env-file``);
crontab(5).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from enum import Enum

from zitcache.errors import UsageError

MAX_VALUE_CHARACTERS = 4096
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Syntax(str, Enum):
    """Who reads the text. The first five are the values of ``--format``."""

    SH = "sh"
    FISH = "fish"
    DOTENV = "dotenv"
    SYSTEMD = "systemd"
    JSON = "json"
    PAM = "pam"
    ENVIRONMENT_D = "environment.d"
    SYSTEM_CONF = "system.conf"
    CRONTAB = "crontab"


PRINTED = (Syntax.SH, Syntax.FISH, Syntax.DOTENV, Syntax.SYSTEMD, Syntax.JSON)
"""What ``zitcache env --format`` prints."""


def check_variables(variables: Mapping[str, str]) -> None:
    """Raise :class:`UsageError` for a name or value that some of the readers cannot hold at all."""
    for name, value in variables.items():
        if _NAME.fullmatch(name) is None:
            raise UsageError(
                f"{name!r} is no name for a variable.", hint="Use letters, digits and underscores."
            )
        problem = _unusable(value)
        if problem:
            raise UsageError(
                f"{name} cannot be {value!r}: {problem}.",
                hint="Give the directory a plain name, or set a symlink to it and name that.",
            )


def unsuitable(variables: Mapping[str, str], syntax: Syntax) -> str | None:
    """Why ``variables`` cannot be written in ``syntax``, as a phrase; None when they can."""
    for name, value in variables.items():
        if syntax is Syntax.SYSTEM_CONF and "%" in value:
            # Doubled since version 250, literal before.
            return f"not every version of systemd reads the percent sign in the value of {name} alike"
        if syntax is not Syntax.PAM:
            continue
        if "#" in value or value[:1] in {"'", '"'} or value != value.strip() or value.endswith("\\"):
            return f"it has no way to write the value {value!r} of {name}"
    return None


def write_lines(variables: Mapping[str, str], syntax: Syntax) -> list[str]:
    """One line per variable, sorted by name (JSON and system.conf take more or fewer lines)."""
    ordered = sorted(variables.items())
    if syntax is Syntax.JSON:
        return json.dumps(dict(ordered), indent=2, ensure_ascii=False).splitlines()
    if syntax is Syntax.SYSTEM_CONF:
        words = " ".join(_system_conf(name, value) for name, value in ordered)
        return ["[Manager]", f"DefaultEnvironment={words}"]
    return [_WRITERS[syntax](name, value) for name, value in ordered]


def _unusable(value: str) -> str | None:
    if not value:
        return "it is empty"
    if len(value) > MAX_VALUE_CHARACTERS:
        return f"it is longer than {MAX_VALUE_CHARACTERS} characters"
    if _CONTROL.search(value):
        return "it has a line break or another control character in it"
    if any("\ud800" <= character <= "\udfff" for character in value):
        return "it is not UTF-8"
    return None


def _sh(name: str, value: str) -> str:
    from shlex import quote

    return f"export {name}={quote(value)}"


def _fish(name: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"set -gx {name} '{escaped}'"


def _plain(name: str, value: str) -> str:
    """No quoting at all: docker's env file, pam_env."""
    return f"{name}={value}"


def _env_file(name: str, value: str) -> str:
    """``EnvironmentFile=``: in double quotes a backslash escapes ``" \\ ` $`` and nothing else."""
    return f'{name}="{_escape(value)}"'


def _environment_d(name: str, value: str) -> str:
    """Unquoted like an environment file, and only then are variables put in: ``$$`` is a dollar sign."""
    return f'{name}="{_escape(value.replace("$", "$$"))}"'


def _escape(value: str) -> str:
    return re.sub(r'(["\\`$])', r"\\\1", value)


def _system_conf(name: str, value: str) -> str:
    """A word with C escapes, in which ``$`` is nothing special."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{name}={escaped}"'


def _crontab(name: str, value: str) -> str:
    """Quotes are taken off only when the same one stands at both ends."""
    if value != value.strip() or (value[0] == value[-1] and value[0] in "'\""):
        quote = "'" if value[0] == '"' or value[-1] == '"' else '"'
        return f"{name}={quote}{value}{quote}"
    return f"{name}={value}"


_WRITERS: dict[Syntax, Callable[[str, str], str]] = {
    Syntax.SH: _sh,
    Syntax.FISH: _fish,
    Syntax.DOTENV: _plain,
    Syntax.SYSTEMD: _env_file,
    Syntax.PAM: _plain,
    Syntax.ENVIRONMENT_D: _environment_d,
    Syntax.CRONTAB: _crontab,
}
