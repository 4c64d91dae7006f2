"""The schedule that runs zitcache here, as text: taken along, and put back on a machine that has lost it.

Three places: the user's crontab (the lines that run zitcache), ``/etc/cron.d/zitcache*``, and systemd units
called ``zitcache*`` of the system and of the user. What belongs to others is never touched, and what is there
already is never put there twice. ``ZITCACHE_SYSTEM_ROOT`` stands for ``/`` in tests.

Sources: ``crontab(1)``, ``crontab(5)``, ``systemd.unit(5)``.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from zitcache.machine.files import create_durably, write_durably
from zitcache.machine.schedule_calls import adapter, calls, essence
from zitcache.machine.schedulers import find_schedulers

_SYSTEM_ROOT = "ZITCACHE_SYSTEM_ROOT"
_CRON_FOLDER = "etc/cron.d"
_SYSTEM_UNITS = "etc/systemd/system"
_PREFIX = "zitcache"
_TIMEOUT_SECONDS = 10
_MAX_FILES = 64
_MAX_TEXT = 64 << 10
_NO_CRONTAB = ("no crontab for", "no such file")
_BLOCK = ("# >>> zitcache schedule >>>", "# <<< zitcache schedule <<<")
_CRON_TIME = re.compile(r"\s*(?:@[a-z]+|(?:[0-9*][^\s]*\s+){4}[^\s]+)\s+\S", re.IGNORECASE)
_CRON_NAME = re.compile(r"zitcache[A-Za-z0-9_-]{0,120}")  # cron itself ignores names with a dot
_UNIT_NAME = re.compile(r"zitcache[A-Za-z0-9@_.-]{0,120}\.(?:service|timer|path|target)")

Text = Annotated[str, msgspec.Meta(max_length=_MAX_TEXT)]
FileName = Annotated[str, msgspec.Meta(pattern=rf"^{_CRON_NAME.pattern}\Z")]
UnitName = Annotated[str, msgspec.Meta(pattern=rf"^{_UNIT_NAME.pattern}\Z")]
TargetName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9@_-][A-Za-z0-9@_.-]{0,120}\Z")]


class Unit(msgspec.Struct, frozen=True, kw_only=True):
    """A systemd unit file. ``enabled``: the units that pull it in ("timers.target")."""

    scope: Literal["system", "user"]
    name: UnitName
    text: Text
    enabled: list[TargetName] = []


class ScheduleEntries(msgspec.Struct, frozen=True, kw_only=True):
    """``crontab``: lines in their order; ``cron_files``: text by name in ``/etc/cron.d``; ``units``.

    ``daemon``: whether zitcache's own scheduler was running, which nothing here can start again.
    """

    crontab: Annotated[list[Text], msgspec.Meta(max_length=_MAX_FILES)] = []
    cron_files: Annotated[dict[FileName, Text], msgspec.Meta(max_length=_MAX_FILES)] = {}
    units: Annotated[list[Unit], msgspec.Meta(max_length=_MAX_FILES)] = []
    daemon: bool = False

    def __bool__(self) -> bool:
        return bool(self.crontab or self.cron_files or self.units or self.daemon)

    @property
    def needs_cron(self) -> bool:
        """Whether a cron daemon has to run for some of it."""
        return bool(self.crontab or self.cron_files)


def capture() -> ScheduleEntries:
    """What runs zitcache on this machine. What cannot be read is not in it; never raises ``OSError``."""
    return ScheduleEntries(
        crontab=_own_lines(read_crontab() or "")[:_MAX_FILES],
        cron_files=dict(_cron_files()),
        units=[*_units("system"), *_units("user")][:_MAX_FILES],
        daemon=find_schedulers().own_daemon is not None,
    )


def arm(
    entries: ScheduleEntries,
    *,
    launcher: str | None = None,
    moved: Mapping[str, str] | None = None,
    dry_run: bool = False,
) -> list[str]:
    """Put back what is missing; returns what that was (would be, in a ``dry_run``), a phrase each.

    ``launcher``: words for a shell that run zitcache ("/bin/sh /data/kit/zitcache"), used where the program
    that an entry names does not exist any more. ``moved``: directories that lie elsewhere now. Raises
    ``OSError`` for what cannot be written; entries before it are armed.
    """
    adapt = adapter(launcher, moved or {})
    done = _arm_crontab(entries.crontab, adapt, dry_run)
    for name, text in entries.cron_files.items():
        if os.geteuid() == 0 or _root() != Path("/"):
            done += _arm_file(_root() / _CRON_FOLDER / name, adapt(text), dry_run)
    done += _arm_units(entries.units, adapt, dry_run)
    return done


def runs_zitcache(line: str) -> bool:
    """Whether a line of a crontab, or a command, calls zitcache (and does not just name a path of it)."""
    return bool(calls(line))


# -- crontab ------------------------------------------------------------------------------------------


def read_crontab() -> str | None:
    """The crontab of this user, "" if there is none yet.

    None where there is no program ``crontab`` or it does not answer: that is not an empty crontab.
    """
    program = _crontab_program()
    if program is None:
        spool = _spool()
        return spool.read_text(errors="surrogateescape") if spool and spool.is_file() else None
    try:
        found = subprocess.run([program, "-l"], capture_output=True, timeout=_TIMEOUT_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if found.returncode == 0:
        return found.stdout.decode(errors="surrogateescape")
    said = found.stderr.decode(errors="replace").lower()
    return "" if any(words in said for words in _NO_CRONTAB) else None


def write_crontab(text: str) -> None:
    """Replace the crontab of this user. Raises ``OSError`` where there is no cron or it refuses."""
    program = _crontab_program()
    data = text.encode(errors="surrogateescape")
    if program is None:
        spool = _spool()
        if spool is None:
            raise FileNotFoundError(2, "There is no program crontab here", "crontab")
        spool.parent.mkdir(parents=True, exist_ok=True)
        write_durably(spool, data, mode=0o600)
        return
    try:
        done = subprocess.run([program, "-"], input=data, capture_output=True, timeout=_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise OSError(110, "crontab did not answer", program) from error
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        raise OSError(5, reason[-1] if reason else "crontab refused", program)


def _crontab_program() -> str | None:
    if _root() == Path("/"):
        return shutil.which("crontab", path=f"{os.environ.get('PATH', '')}:/usr/bin:/bin")
    program = _root() / "usr/bin/crontab"
    return str(program) if program.exists() else None


def _spool() -> Path | None:
    """Where tests keep the crontab: the real place is never written behind cron's back."""
    return None if _root() == Path("/") else _root() / "var/spool/cron/crontabs" / _user()


def _own_lines(crontab: str) -> list[str]:
    return [line for line in crontab.splitlines() if line.strip() in _BLOCK or _is_own_job(line)]


def _is_own_job(line: str) -> bool:
    return not line.lstrip().startswith("#") and bool(_CRON_TIME.match(line)) and runs_zitcache(line)


def _arm_crontab(lines: list[str], adapt: Callable[[str], str], dry_run: bool) -> list[str]:
    jobs = [line for line in lines if _is_own_job(line)]
    if not jobs:
        return []
    present = read_crontab()
    if present is None:
        if _crontab_program() is not None:
            raise OSError(5, "the crontab could not be read, so nothing was added to it", "crontab")
        present = ""  # writing it says that there is no such program
    known = {essence(line) for line in present.splitlines() if _is_own_job(line)}
    has_block = any(line.strip() == _BLOCK[0] for line in present.splitlines())
    wanted: list[str] = []
    added: list[str] = []
    inside = False
    for line in lines:
        if line.strip() in _BLOCK:
            inside = line.strip() == _BLOCK[0]
            if not has_block:
                wanted.append(line.strip())
        elif _is_own_job(line) and not (inside and has_block):
            changed = adapt(line)
            if essence(changed) not in known:
                wanted.append(changed)
                added.append(changed)
                known.add(essence(changed))
    if not added:
        return []
    if not dry_run:
        start = present if not present or present.endswith("\n") else present + "\n"
        write_crontab(start + "\n".join(_without_empty_block(wanted)) + "\n")
    return [f"crontab: {line.strip()}" for line in added]


def _without_empty_block(lines: list[str]) -> list[str]:
    text = "\n".join(lines)
    return [line for line in text.replace("\n".join(_BLOCK), "").split("\n") if line]


# -- files --------------------------------------------------------------------------------------------


def _cron_files() -> Iterator[tuple[str, str]]:
    for path in _named(_root() / _CRON_FOLDER):
        text = _read(path)
        if text is not None and _CRON_NAME.fullmatch(path.name):
            yield path.name, text


def _named(folder: Path) -> list[Path]:
    try:
        names = sorted(name for name in os.listdir(folder) if name.startswith(_PREFIX))
    except OSError:
        return []
    return [folder / name for name in names[:_MAX_FILES]]


def _read(path: Path) -> str | None:
    """The text of a plain file of ours; None for a link (a masked unit, say) and what is not text."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= _MAX_TEXT:
            return path.read_text(encoding="utf-8")
    return None


def _arm_file(path: Path, text: str, dry_run: bool) -> list[str]:
    if os.path.lexists(path):
        return []
    if not dry_run:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not create_durably(path, text.encode(), mode=0o644):
            return []
        path.chmod(0o644)  # whatever the umask is: cron and systemd must be able to read it
    return [str(path)]


# -- systemd ------------------------------------------------------------------------------------------


def _unit_folder(scope: str) -> Path:
    if scope == "system":
        return _root() / _SYSTEM_UNITS
    given = os.environ.get("XDG_CONFIG_HOME") or ""
    base = Path(given) if given.startswith("/") else Path.home() / ".config"
    return base / "systemd/user"


def _units(scope: Literal["system", "user"]) -> Iterator[Unit]:
    folder = _unit_folder(scope)
    for path in _named(folder):
        text = _read(path)
        if text is None or not re.fullmatch(
            r"zitcache[A-Za-z0-9@_.-]{0,120}\.(service|timer|path|target)", path.name
        ):
            continue
        pulled_in_by = [
            wants.name.removesuffix(".wants")
            for wants in sorted(folder.glob("*.wants"))
            if os.path.lexists(wants / path.name)
        ]
        yield Unit(scope=scope, name=path.name, text=text, enabled=pulled_in_by)


def _arm_units(units: list[Unit], adapt: Callable[[str], str], dry_run: bool) -> list[str]:
    done: list[str] = []
    scopes: dict[str, list[str]] = {}
    for unit in units:
        if unit.scope == "system" and os.geteuid() != 0 and _root() == Path("/"):
            continue
        folder = _unit_folder(unit.scope)
        made = _arm_file(folder / unit.name, adapt(unit.text), dry_run)
        for target in unit.enabled:
            wants = folder / f"{target}.wants" / unit.name
            if os.path.lexists(wants):
                continue
            made = made or [f"{folder / unit.name} (enabled)"]
            if not dry_run:
                wants.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileExistsError):
                    wants.symlink_to(f"../{unit.name}")
        if made and unit.enabled and unit.name.endswith(".timer"):
            scopes.setdefault(unit.scope, []).append(unit.name)
        done += made
    if not dry_run and done:
        for scope in {unit.scope for unit in units}:
            _tell_systemd(scope, scopes.get(scope, []))
    return done


def _tell_systemd(scope: str, timers: list[str]) -> None:
    """Have a running systemd read the units and start the timers. It does so itself at the next start."""
    if _root() != Path("/") or not Path("/run/systemd/system").is_dir() or not shutil.which("systemctl"):
        return
    base = ["systemctl", "--no-ask-password", *(["--user"] if scope == "user" else [])]
    for words in (["daemon-reload"], *([["start", *timers]] if timers else [])):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run([*base, *words], capture_output=True, timeout=_TIMEOUT_SECONDS)


def _root() -> Path:
    return Path(os.path.abspath(os.environ.get(_SYSTEM_ROOT) or "/"))


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
