"""Which repository and which cache: flag > environment > configuration file > unset.

The configuration is TOML (what may stand in it: ``configuration``), read from ``$ZITCACHE_CONFIG``, else
``$XDG_CONFIG_HOME/zitcache/config.toml``, else ``~/.config/zitcache/config.toml``. Empty values count as
unset. A leading ``~`` is expanded everywhere (cron and systemd do not do it); a relative path in the
configuration is taken from the folder of that file, so that both can travel on a data disk together.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from zitcache.errors import UsageError
from zitcache.events import Session
from zitcache.tasks.configuration import Config, bad, parse_config

MAX_CONFIG_BYTES = 1 << 20
_WORDS = {
    "yes": True,
    "true": True,
    "1": True,
    "on": True,
    "no": False,
    "false": False,
    "0": False,
    "off": False,
}
_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


class Origin(str, Enum):
    """Where a setting came from."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    CONFIG = "config"
    UNSET = "unset"


@dataclass(frozen=True, slots=True)
class Setting:
    """A value, where it came from, and the same for a person ("ZITCACHE_REPO", "/etc/zitcache.toml").

    ``empty``: the places looked at before whose value was empty, most likely by mistake.
    """

    value: str | None
    origin: Origin
    source: str = ""
    empty: tuple[str, ...] = ()


def resolve_repository(flag: str | None, environ: Mapping[str, str] = os.environ) -> Setting:
    """Which repository: ``flag`` (``--repo``), ``ZITCACHE_REPO``, or ``repo`` of the configuration.

    Raises ``UsageError`` when the configuration is needed and cannot be used.
    """
    setting = _resolve(flag, "--repo", "ZITCACHE_REPO", "repo", environ)
    return setting if setting.value is None else replace(setting, value=connected(setting.value, environ))


def connected(place: str, environ: Mapping[str, str] = os.environ) -> str:
    """``place``; in S3, with what environment and configuration say about the endpoint and it does not.

    Raises ``UsageError`` for a place in S3 that cannot be one.
    """
    if not place[:5].lower().startswith("s3:/"):
        return place
    from zitcache.storage.s3.location import SETTINGS, fill

    found = load_config(environ)
    config = found[1] if found is not None else Config()
    values = {name: environ.get(f"ZITCACHE_{name.upper()}") or getattr(config, name) for name in SETTINGS}
    return fill(place, {name: str(value) for name, value in values.items() if value})


def resolve_cache(flag: str | None, environ: Mapping[str, str] = os.environ) -> Setting:
    """Which cache: ``flag`` (``--cache``), ``ZITCACHE_CACHE``, or ``cache`` of the configuration.

    Raises ``UsageError`` when the configuration is needed and cannot be used.
    """
    return _resolve(flag, "--cache", "ZITCACHE_CACHE", "cache", environ)


def keeps_kit(refused: bool, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a backup keeps a kit: not with ``--no-kit``, ``ZITCACHE_KIT=no``, or ``kit = false``.

    Raises ``UsageError`` for a value that is neither yes nor no.
    """
    if refused:
        return False
    value = environ.get("ZITCACHE_KIT") or ""
    if value:
        wanted = _WORDS.get(value.lower())
        if wanted is None:
            raise UsageError(f"ZITCACHE_KIT cannot be {value!r}.", hint="Set it to yes or no.")
        return wanted
    config = load_config(environ)
    return config is None or config[1].kit


def warn_ignored(setting: Setting, session: Session) -> None:
    """Warn about every place whose empty value was passed over."""
    for place in setting.empty:
        used = f"{setting.source} is used" if setting.value is not None else "nothing else is set"
        session.warn("empty-setting", f"{place} is set but empty, which counts as not set; {used}.")


def config_path(environ: Mapping[str, str] = os.environ) -> tuple[Path | None, bool]:
    """Where the configuration is looked for, and whether the user named that file."""
    named = environ.get("ZITCACHE_CONFIG")
    if named:
        return Path(_expand(named, environ)), True
    # The XDG specification says that a relative value is to be ignored.
    base = environ.get("XDG_CONFIG_HOME") or ""
    if not base.startswith("/"):
        base = _expand("~/.config", environ)
    return (Path(base) / "zitcache" / "config.toml", False) if base.startswith("/") else (None, False)


def load_config(environ: Mapping[str, str] = os.environ) -> tuple[Path, Config] | None:
    """The configuration file and what it sets; None when there is none.

    Raises ``UsageError`` when it was named and is missing, cannot be read, or holds anything unknown.
    """
    path, named = config_path(environ)
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CONFIG_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        if not named:
            return None
        raise UsageError(
            f"The configuration file {path} does not exist.", hint="Correct or unset ZITCACHE_CONFIG."
        ) from None
    except OSError as error:
        raise UsageError(
            f"The configuration file {path} cannot be read: {error.strerror or error}.",
            hint=f"See: ls -l {path}",
        ) from error
    if len(raw) > MAX_CONFIG_BYTES:
        raise bad(path, None, f"it is larger than {MAX_CONFIG_BYTES} bytes")
    return path, parse_config(path, raw)


def _resolve(flag: str | None, option: str, variable: str, key: str, environ: Mapping[str, str]) -> Setting:
    empty: list[str] = []
    for value, origin, source in (
        (flag, Origin.FLAG, option),
        (environ.get(variable), Origin.ENVIRONMENT, variable),
    ):
        if value:
            return Setting(_expand(value, environ), origin, source, tuple(empty))
        if value is not None:
            empty.append(source)
    config = load_config(environ)
    found = Setting(None, Origin.UNSET)
    if config is not None:
        path, values = config
        value = getattr(values, key)
        if value:
            found = Setting(_from_config(value, path, environ), Origin.CONFIG, str(path))
        elif value is not None:
            empty.append(f"{key} in {path}")
    return replace(found, empty=tuple(empty))


def _expand(value: str, environ: Mapping[str, str]) -> str:
    home = environ.get("HOME")
    if home and (value == "~" or value.startswith("~/")):
        return home.rstrip("/") + value[1:] or "/"
    return str(Path(value).expanduser()) if value.startswith("~") and _has_home(value) else value


def _has_home(value: str) -> bool:
    try:
        Path(value).expanduser()
    except RuntimeError:  # no such user, or no HOME and no entry in the user database
        return False
    return True


def _from_config(value: str, config: Path, environ: Mapping[str, str]) -> str:
    expanded = _expand(value, environ)
    if expanded.startswith("/") or _URL.match(expanded):
        return expanded
    return os.path.normpath(config.absolute().parent / expanded)
