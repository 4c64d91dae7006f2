"""Who else can read or change the configuration: it may hold passwords, and commands that nights run."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from zitcache.events import Notice
from zitcache.tasks.configuration import Config

_READABLE = stat.S_IRGRP | stat.S_IROTH
_WRITABLE = stat.S_IWGRP | stat.S_IWOTH


def readable_secrets(path: Path, config: Config) -> Notice | None:
    """A notice if others can read a file that names somebody to tell: such a URL is a password."""
    mode = _mode(path)
    notify = config.notify
    if mode is None or not mode & _READABLE or not (notify.ping or notify.webhook or notify.apprise):
        return None
    return Notice(
        code="secrets-readable",
        message=f"Other users can read {path}, and the URLs in its section [notify] are secrets.",
        hint=f"chmod 600 {shlex.quote(str(path))}",
    )


def foreign_hooks(path: Path, config: Config) -> Notice | None:
    """A notice if somebody else can change the commands that nights run; they must not be run then."""
    if not (config.hooks.before or config.hooks.after):
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    if status.st_uid in {0, os.geteuid()} and not stat.S_IMODE(status.st_mode) & _WRITABLE:
        return None
    return Notice(
        code="hooks-refused",
        message=f"Other users can change {path}, so its hooks are not run.",
        hint=f"chown {os.geteuid()} {shlex.quote(str(path))}; chmod 600 {shlex.quote(str(path))}",
    )


def _mode(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None
