"""Which files must hold the variables so that shells, cron and services all see them.

bash reads ``.bashrc`` (also for ``ssh host command``), or for a login ``/etc/profile`` and the first of
``.bash_profile``, ``.bash_login``, ``.profile``; zsh always ``.zshenv``; fish ``conf.d``. cron, sshd and su
take ``/etc/environment`` through pam_env. systemd takes ``system.conf.d`` for its services and
``environment.d`` for those of a user.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zitcache.cache.variables import home_of
from zitcache.tasks.environment.syntax import Syntax

SYSTEM_ROOT = "ZITCACHE_SYSTEM_ROOT"
"""For tests: a directory that stands for ``/`` where system files are read and written."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Whose settings: ``home`` is None when there is no home directory. ``system``: "/" but in tests."""

    home: Path | None
    system: Path
    is_root: bool
    environ: Mapping[str, str]

    @property
    def config(self) -> Path | None:
        """``$XDG_CONFIG_HOME`` or ``~/.config``."""
        given = self.environ.get("XDG_CONFIG_HOME") or ""
        if given.startswith("/"):
            return Path(given)
        return None if self.home is None else self.home / ".config"

    @property
    def zsh_home(self) -> Path | None:
        """Where zsh looks for its files."""
        given = self.environ.get("ZDOTDIR") or ""
        return Path(given) if given.startswith("/") else self.home

    @property
    def has_systemd(self) -> bool:
        """Whether systemd runs this machine: in most containers it does not, installed or not."""
        return (self.system / "run/systemd/system").is_dir()

    @property
    def crontab(self) -> str | None:
        """The program ``crontab``, if there is one."""
        if self.system == Path("/"):
            return shutil.which("crontab")
        program = self.system / "usr/bin/crontab"
        return str(program) if program.exists() else None


@dataclass(frozen=True, slots=True)
class Target:
    """A file for our block. ``only_if_set``: just when it sets one of the variables itself already.

    ``own``: the whole file is ours (in a ``.d`` directory).
    """

    path: Path
    syntax: Syntax
    only_if_set: bool = False
    own: bool = False


def surroundings(environ: Mapping[str, str] = os.environ) -> Surroundings:
    """What the environment of the process says."""
    home = home_of(environ)
    return Surroundings(
        home=home if home.is_absolute() and home.is_dir() else None,
        system=Path(os.path.abspath(environ.get(SYSTEM_ROOT) or "/")),
        is_root=os.geteuid() == 0,
        environ=environ,
    )


def targets(where: Surroundings) -> list[Target]:
    """Every file that may get a block, in the order in which they are written."""
    found = _system_targets(where) if where.is_root else []
    if where.home is not None:
        found += [*_bash(where.home), *_zsh(where), *_fish(where), *_user_services(where)]
    return found


def every_place(where: Surroundings) -> list[Target]:
    """The files of :func:`targets` and those that only another state of the machine would have chosen."""
    seen = {target.path: target for target in targets(where)}
    more: list[Target] = []
    if where.is_root:
        more += [_profile_d(where), _system_conf(where)]
    if where.home is not None:
        names = (".profile", ".bash_profile", ".bash_login", ".bashrc")
        more += [Target(where.home / name, Syntax.SH) for name in names]
    if where.zsh_home is not None:
        more += [Target(where.zsh_home / name, Syntax.SH) for name in _ZSH_FILES]
    if where.config is not None:
        more += [*_fish_files(where.config), _environment_d(where.config)]
    for target in more:
        seen.setdefault(target.path, target)
    return list(seen.values())


_ZSH_FILES = (".zshenv", ".zprofile", ".zshrc", ".zlogin")


def _system_targets(where: Surroundings) -> list[Target]:
    etc = where.system / "etc"
    found = [Target(etc / "environment", Syntax.PAM)]
    if (etc / "profile.d").is_dir():
        found.append(_profile_d(where))
    if where.has_systemd or (etc / "systemd/system.conf.d").is_dir():
        found.append(_system_conf(where))
    return found


def _profile_d(where: Surroundings) -> Target:
    return Target(where.system / "etc/profile.d/zitcache.sh", Syntax.SH, own=True)


def _system_conf(where: Surroundings) -> Target:
    path = where.system / "etc/systemd/system.conf.d/50-zitcache.conf"
    return Target(path, Syntax.SYSTEM_CONF, own=True)


def _bash(home: Path) -> list[Target]:
    login = [home / name for name in (".bash_profile", ".bash_login") if (home / name).exists()]
    found = [Target(home / ".bashrc", Syntax.SH), *(Target(path, Syntax.SH) for path in login[:1])]
    # With one of those two, bash does not read it; other shells and desktops do.
    if not login or (home / ".profile").exists():
        found.append(Target(home / ".profile", Syntax.SH))
    return found


def _zsh(where: Surroundings) -> list[Target]:
    folder = where.zsh_home
    if folder is None:
        return []
    used = any((folder / name).exists() for name in _ZSH_FILES)
    if not (used or _is_shell(where, "zsh")):
        return []
    return [
        Target(folder / ".zshenv", Syntax.SH),
        *(Target(folder / name, Syntax.SH, only_if_set=True) for name in _ZSH_FILES[1:]),
    ]


def _fish(where: Surroundings) -> list[Target]:
    config = where.config
    if config is None or not ((config / "fish").is_dir() or _is_shell(where, "fish")):
        return []
    return _fish_files(config)


def _fish_files(config: Path) -> list[Target]:
    return [
        Target(config / "fish/conf.d/zitcache.fish", Syntax.FISH, own=True),
        Target(config / "fish/config.fish", Syntax.FISH, only_if_set=True),
    ]


def _user_services(where: Surroundings) -> list[Target]:
    config = where.config
    if config is None or not (where.has_systemd or (config / "environment.d").is_dir()):
        return []
    return [_environment_d(config)]


def _environment_d(config: Path) -> Target:
    return Target(config / "environment.d/50-zitcache.conf", Syntax.ENVIRONMENT_D, own=True)


def _is_shell(where: Surroundings, name: str) -> bool:
    """Whether the shell is installed, or is the user's."""
    if Path(where.environ.get("SHELL", "")).name == name:
        return True
    if where.system == Path("/"):
        return shutil.which(name) is not None
    return (where.system / "usr/bin" / name).exists()
