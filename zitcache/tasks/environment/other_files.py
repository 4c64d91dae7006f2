"""Settings in files that are no shell's: pam_env, systemd, environment.d, cron, the environment of PID 1.

Sources: ``pam_env.c`` (``_parse_env_file``, ``_parse_config_file``), systemd ``env-file.c`` and
systemd-system.conf(5), crontab(5), proc_pid_environ(5).
"""

from __future__ import annotations

import re
import shlex

from zitcache.tasks.environment.shell_lines import Assignment, logical_lines

_NAME_VALUE = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*", re.DOTALL)
_PAM_CONF = re.compile(r"(DEFAULT|OVERRIDE)=(?:\"([^\"]*)\"|(\S*))")
_ASSIGNED_WORD = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)


def pam_settings(text: str) -> list[Assignment]:
    """``/etc/environment``: no expansion, ``#`` ends the line, quotes round the value are dropped."""
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip(" \t\r").removeprefix("export ").split("#", 1)[0].strip()
        name, equals, value = stripped.partition("=")
        if equals and name.isidentifier():
            if value[:1] in {"'", '"'}:
                value = value[1:-1] if value[-1:] in {"'", '"'} and len(value) > 1 else value[1:]
            found.append(Assignment(name, value, number, end=number))
    return found


def pam_conf_settings(text: str) -> list[Assignment]:
    """``/etc/security/pam_env.conf``: ``NAME DEFAULT=value OVERRIDE=value``."""
    found = []
    for first, last, line in logical_lines(text, heredocs=False):
        name, _, rest = line.strip().partition(" ")
        given = {match[1]: match[2] or match[3] for match in _PAM_CONF.finditer(rest)}
        if name.isidentifier() and given:
            value = given.get("OVERRIDE") or given.get("DEFAULT", "")
            found.append(Assignment(name, value, first, literal="$" not in value, end=last))
    return found


def environment_d_settings(text: str) -> list[Assignment]:
    """``environment.d`` and ``EnvironmentFile=``: shell-like quotes, one variable a line."""
    found = []
    for first, last, line in logical_lines(text, heredocs=False):
        match = _NAME_VALUE.fullmatch(line)
        if match is None or line.lstrip()[:1] in {"#", ";"}:
            continue
        value = _env_file_value(match[2])
        # Only environment.d puts variables in, within quotes, too; "$$" is a dollar sign.
        literal = "$" not in value.replace("$$", "")
        found.append(Assignment(match[1], value.replace("$$", "$"), first, literal, end=last))
    return found


def _env_file_value(text: str) -> str:
    """The value as systemd's ``parse_env_file`` takes it: quotes may begin anywhere, spaces need none."""
    value, kept, quote, place = "", 0, "", 0
    while place < len(text):
        character, following = text[place], text[place + 1 : place + 2]
        if character == "\\" and following and quote != "'":
            # In double quotes it escapes these alone.
            value += following if not quote or following in '"\\`$' else character + following
            place += 1
            kept = len(value)
        elif quote:
            if character == quote:
                quote = ""
            else:
                value += character
            kept = len(value)
        elif character in "'\"":
            quote = character
        else:
            value += character
            if character not in " \t":
                kept = len(value)
        place += 1
    return value[:kept]


def system_conf_settings(text: str) -> list[Assignment]:
    """``DefaultEnvironment=`` (and ``Environment=`` of a unit): words with quotes; an empty one resets."""
    found: list[Assignment] = []
    for first, last, line in logical_lines(text, heredocs=False):
        key, equals, rest = line.strip().partition("=")
        if not equals or key.strip() not in {"DefaultEnvironment", "Environment", "ManagerEnvironment"}:
            continue
        try:
            words = shlex.split(rest)
        except ValueError:
            continue
        for word in words:
            match = _ASSIGNED_WORD.fullmatch(word)
            if match:
                value = match[2].replace("%%", "%")
                found.append(Assignment(match[1], value, first, "%" not in value, end=last))
    return found


def crontab_settings(text: str) -> list[Assignment]:
    """Lines ``NAME = value`` of a crontab; they hold for the entries below them."""
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        match = _NAME_VALUE.fullmatch(line)
        if match is None or line.lstrip().startswith("#"):
            continue
        value = match[2]
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        found.append(Assignment(match[1], value, number, end=number))
    return found


def has_cron_entries(text: str) -> bool:
    """Whether a crontab starts anything."""
    lines = (line.strip() for line in text.split("\n"))
    return any(line and not line.startswith("#") and not _NAME_VALUE.fullmatch(line) for line in lines)


def process_settings(data: bytes) -> dict[str, str]:
    """The environment of a process as ``/proc/PID/environ`` shows it: that of its start."""
    found: dict[str, str] = {}
    for entry in data.split(b"\0"):
        name, equals, value = entry.decode(errors="surrogateescape").partition("=")
        if equals and name:
            found.setdefault(name, value)
    return found


def fish_variables_settings(text: str) -> list[Assignment]:
    """fish's universal variables: ``SETUVAR --export NAME:value`` with ``\\x2f`` for a slash."""
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        command, _, rest = line.strip().partition(" ")
        if command != "SETUVAR":
            continue
        exported = rest.startswith("--export ")
        name, colon, value = rest.removeprefix("--export ").partition(":")
        if colon:
            value = re.sub(r"\\x([0-9a-fA-F]{2})", lambda match: chr(int(match[1], 16)), value)
            found.append(Assignment(name, value, number, exported=exported, end=number))
    return found
