"""Every file that may set the variables of interest, and what it says about them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from zitcache.cache.environment import IGNORED_VARIABLES
from zitcache.cache.variables import HOME_VARIABLE, HUB_VARIABLES, MODELSCOPE_VARIABLE, OWN_VARIABLE
from zitcache.tasks.environment.crontab import CrontabError, read_crontab
from zitcache.tasks.environment.files import read_file
from zitcache.tasks.environment.other_files import (
    crontab_settings,
    environment_d_settings,
    fish_variables_settings,
    pam_conf_settings,
    pam_settings,
    process_settings,
    system_conf_settings,
)
from zitcache.tasks.environment.placing import expanded
from zitcache.tasks.environment.shell_lines import Assignment, fish_settings, shell_settings
from zitcache.tasks.environment.targets import Surroundings, surroundings

DIRECTORY_VARIABLES = (MODELSCOPE_VARIABLE, *HUB_VARIABLES, HOME_VARIABLE, "XDG_CACHE_HOME", OWN_VARIABLE)
"""Those whose value is a directory that matters here."""

OTHER_VARIABLES = ("ZITCACHE_REPO", "ZITCACHE_CONFIG", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
VARIABLES = (*DIRECTORY_VARIABLES, *OTHER_VARIABLES, *IGNORED_VARIABLES)
"""Every variable of interest, in the order in which they are shown."""

CRONTAB = "crontab"
_FILES_PER_FOLDER = 200


class Reach(str, Enum):
    """Who gets what a file sets."""

    SHELLS = "shells"
    LOGINS = "logins and cron"
    SERVICES = "services"
    CRON = "cron"
    CONTAINER = "container"


@dataclass(frozen=True, slots=True)
class Source:
    """One line that sets a variable. ``place``: the file, or "crontab". Line 0: the place has no lines."""

    place: str
    reach: Reach
    assignment: Assignment

    @property
    def label(self) -> str:
        """``/root/.bashrc:12``."""
        line = self.assignment.line
        return f"{self.place}:{line}" if line else self.place


_Reader = Callable[[str], list[Assignment]]


def sources(where: Surroundings, names: Collection[str] = VARIABLES) -> list[Source]:
    """All lines that set one of ``names``, in about the order in which a login reads them.

    What cannot be read says nothing. Nothing is executed.
    """
    pid_1 = process_environment(where, 1)
    found = [
        Source("PID 1", Reach.CONTAINER, Assignment(name, pid_1[name], 0)) for name in names if name in pid_1
    ]
    found += _of_files(where, names)
    found += _of_crontab(where, names)
    return found


def set_anywhere(environ: Mapping[str, str], names: Collection[str] = VARIABLES) -> dict[str, str]:
    """``environ``, and what the files set for shells, logins and services beside it.

    A variable that only ``~/.bashrc`` sets counts in the user's shells, though not for a program that cron
    or ``sudo`` started.
    """
    where = surroundings(environ)
    home = where.home or Path("/")
    found: dict[str, str] = {}
    for source in _of_files(where, names):
        value = expanded(source.assignment, home)
        if value is not None and source.assignment.exported and source.reach is not Reach.CRON:
            found[source.assignment.name] = value
    return {**found, **environ}


def process_environment(where: Surroundings, pid: int) -> dict[str, str]:
    """The environment with which a process was started; empty when it cannot be read."""
    try:
        return process_settings((where.system / f"proc/{pid}/environ").read_bytes())
    except OSError:
        return {}


def _of_files(where: Surroundings, names: Collection[str]) -> list[Source]:
    found: list[Source] = []
    for path, reach, read in _files(where):
        try:
            data = read_file(path)
        except OSError:
            continue
        if data is not None and any(name.encode() in data for name in names):
            text = data.decode(errors="surrogateescape")
            found += [Source(str(path), reach, one) for one in read(text) if one.name in names]
    return found


def _of_crontab(where: Surroundings, names: Collection[str]) -> list[Source]:
    try:
        text = read_crontab(where)
    except CrontabError:
        return []
    return [Source(CRONTAB, Reach.CRON, one) for one in crontab_settings(text or "") if one.name in names]


def _files(where: Surroundings) -> Iterator[tuple[Path, Reach, _Reader]]:
    etc = where.system / "etc"
    yield etc / "security/pam_env.conf", Reach.LOGINS, pam_conf_settings
    yield etc / "environment", Reach.LOGINS, pam_settings
    yield etc / "systemd/system.conf", Reach.SERVICES, system_conf_settings
    for path in _folder(etc / "systemd/system.conf.d", ".conf"):
        yield path, Reach.SERVICES, system_conf_settings
    for path in _folder(etc / "environment.d", ".conf"):
        yield path, Reach.SERVICES, environment_d_settings
    yield from ((path, Reach.SHELLS, shell_settings) for path in _system_shell_files(etc))
    yield etc / "fish/config.fish", Reach.SHELLS, fish_settings
    for path in _folder(etc / "fish/conf.d", ".fish"):
        yield path, Reach.SHELLS, fish_settings
    yield etc / "crontab", Reach.CRON, crontab_settings
    for path in _folder(etc / "cron.d", ""):
        yield path, Reach.CRON, crontab_settings
    yield from _home_files(where)


def _system_shell_files(etc: Path) -> Iterator[Path]:
    yield etc / "profile"
    yield from _folder(etc / "profile.d", ".sh")
    for name in ("bash.bashrc", "bashrc", "zshenv", "zprofile", "zshrc", "zlogin"):
        yield etc / name
    for name in ("zshenv", "zprofile", "zshrc", "zlogin"):
        yield etc / "zsh" / name


def _home_files(where: Surroundings) -> Iterator[tuple[Path, Reach, _Reader]]:
    if where.home is not None:
        yield where.home / ".pam_environment", Reach.LOGINS, pam_conf_settings
        for name in (".profile", ".bash_login", ".bash_profile", ".bashrc", ".bash_aliases"):
            yield where.home / name, Reach.SHELLS, shell_settings
    if where.zsh_home is not None:
        for name in (".zshenv", ".zprofile", ".zshrc", ".zlogin"):
            yield where.zsh_home / name, Reach.SHELLS, shell_settings
    if where.config is not None:
        yield where.config / "fish/fish_variables", Reach.SHELLS, fish_variables_settings
        for path in _folder(where.config / "fish/conf.d", ".fish"):
            yield path, Reach.SHELLS, fish_settings
        yield where.config / "fish/config.fish", Reach.SHELLS, fish_settings
        for path in _folder(where.config / "environment.d", ".conf"):
            yield path, Reach.SERVICES, environment_d_settings


def _folder(folder: Path, suffix: str) -> list[Path]:
    """The files of a ``.d`` directory in the order in which they are read."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(suffix))
    except OSError:
        return []
    return [folder / name for name in names[:_FILES_PER_FOLDER] if re.match(r"[^.#]", name)]
