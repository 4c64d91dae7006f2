"""The configuration file: what may stand in it, and a clear word about what may not.

One TOML file; ``settings`` says where it is looked for and what outranks it. Every name is known here: a
misspelt one is refused with the one that was meant, because a setting that is silently ignored is found out
about in the night when it was needed.
"""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from zitcache.errors import UsageError
from zitcache.schedule.sections import (
    HookConfig,
    MetricsConfig,
    NightConfig,
    NotifyConfig,
    RetentionConfig,
    ScheduleConfig,
    Section,
    StatusConfig,
)


class Config(Section, frozen=True, kw_only=True):
    """The whole file. Top-level names are those of the options (``--repo`` is ``repo``).

    ``endpoint_url`` … ``limit_download``: for repositories in S3. ``kit``: keep a kit in the repository.
    """

    repo: str | None = None
    cache: str | None = None
    endpoint_url: str = ""
    region: str = ""
    profile: str = ""
    concurrency: int = 0
    limit_upload: str = ""
    limit_download: str = ""
    kit: bool = True
    schedule: ScheduleConfig = ScheduleConfig()
    retention: RetentionConfig = RetentionConfig()
    night: NightConfig = NightConfig()
    notify: NotifyConfig = NotifyConfig()
    hooks: HookConfig = HookConfig()
    metrics: MetricsConfig = MetricsConfig()
    status: StatusConfig = StatusConfig()


_MEANT = {"repository": "repo", "cache_dir": "cache", "endpoint": "endpoint_url", "cron": "schedule"}
_AT = re.compile(r"^(?P<reason>.*?)(?: - at `\$(?:\.(?P<place>[^`]*))?`)?$", re.DOTALL)
_TYPES = {
    "str": "a text in quotes",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a section",
    "null": "nothing",
}


def parse_config(path: Path, raw: bytes) -> Config:
    """Decode the file's bytes. Raises ``UsageError`` that names ``path``, the line and what was meant."""
    values, text = _toml(path, raw)
    _refuse_unknown(path, text, values, Config, "")
    for key, value in _texts(values):
        if "\0" in value:
            raise bad(path, _line_of(text, key), f"{key} holds a NUL character")
    try:
        return msgspec.convert(values, Config)
    except msgspec.ValidationError as error:
        raise _wrong_value(path, text, str(error)) from None


def set_names(path: Path, raw: bytes) -> set[str]:
    """The dotted names that the file really sets ("repo", "notify.ping"). Raises as :func:`parse_config`."""
    values, _ = _toml(path, raw)
    found: set[str] = set()
    for key, value in values.items():
        if isinstance(value, dict):
            found.update(f"{key}.{inner}" for inner in value)
        else:
            found.add(key)
    return found


def bad(path: Path, line: int | None, reason: str, hint: str | None = None) -> UsageError:
    """The error for a configuration that cannot be used."""
    place = f"{path}, line {line}" if line else str(path)
    return UsageError(
        f"The configuration is not usable: {place}: {reason}.", hint=hint or f"Correct it: {path}"
    )


def _toml(path: Path, raw: bytes) -> tuple[dict[str, Any], str]:
    tomllib = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise bad(path, raw.count(b"\n", 0, error.start) + 1, "it is not UTF-8 text") from None
    try:
        return tomllib.loads(text), text
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        reason = str(error) or "it is nested too deeply"
        match = re.search(r"\(at line (\d+), column \d+\)", reason)
        line = int(match[1]) if match else text.count("\n") + 1
        raise bad(path, line, reason.partition(" (at ")[0]) from None


def _refuse_unknown(path: Path, text: str, values: dict[str, Any], section: type[Section], name: str) -> None:
    known = {field.name: field.type for field in msgspec.structs.fields(section)}
    for key, value in values.items():
        if key not in known:
            raise _unknown(path, text, key, list(known), name)
        inner = known[key]
        if isinstance(inner, type) and issubclass(inner, Section) and isinstance(value, dict):
            _refuse_unknown(path, text, value, inner, key)


def _unknown(path: Path, text: str, key: str, known: list[str], section: str) -> UsageError:
    from difflib import get_close_matches

    near = get_close_matches(key.lower().replace("-", "_"), [*known, *_MEANT], n=1)
    meant = _MEANT.get(near[0], near[0]) if near else None
    where = f" in [{section}]" if section else ""
    reason = f"there is no setting {key!r}{where}"
    hint = f"Did you mean {meant!r}?" if meant in known else f"Known settings{where}: {', '.join(known)}."
    return bad(path, _line_of(text, key), reason, hint)


def _wrong_value(path: Path, text: str, problem: str) -> UsageError:
    """msgspec's sentence ("Expected `str`, got `int` - at `$.repo`") in words for a person."""
    match = _AT.match(problem)
    place = (match["place"] or "" if match else "").partition("[")[0]
    reason = match["reason"] if match else problem
    key = place.rpartition(".")[2]
    types = re.match(r"Expected `([a-z]+)(?: \| null)?`, got `", reason)
    if types and types[1] in _TYPES:
        example = f', as in {place} = "/data/zitcache"' if types[1] == "str" and "." not in place else ""
        reason = f"{place} must be {_TYPES[types[1]]}{example}"
    else:
        reason = f"{place}: {reason[0].lower()}{reason[1:]}".replace("`", "'")
    return bad(path, _line_of(text, key), reason)


def _texts(values: dict[str, Any]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, str):
            found.append((key, value))
        elif isinstance(value, dict):
            found += _texts(value)
        elif isinstance(value, list):
            found += [(key, item) for item in value if isinstance(item, str)]
    return found


def _line_of(text: str, key: str) -> int | None:
    """The line that sets ``key``, found well enough to show: quoted, dotted and table forms included."""
    pattern = re.compile(rf"""^\s*\[*\s*["']?{re.escape(key)}["']?\s*[=.\]]""", re.MULTILINE)
    match = pattern.search(text)
    return text.count("\n", 0, match.end()) + 1 if match else None
