"""Put back what lived beside the cache: links, variables, config, the program's name, the schedule.

Each of them is tried on its own: what cannot be put back is warned about, and the rest is. All of it is
idempotent; what is right already is not touched and not reported.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zitcache.cache.variables import HOME_VARIABLE, HUB_VARIABLES, MODELSCOPE_VARIABLE, OWN_VARIABLE
from zitcache.errors import UsageError, ZitcacheError
from zitcache.events import Session
from zitcache.machine.files import create_durably, write_durably
from zitcache.machine.schedule_calls import adapter
from zitcache.machine.schedule_entries import ScheduleEntries, arm
from zitcache.machine.schedulers import find_schedulers
from zitcache.tasks.kit.layout import LAUNCHER
from zitcache.tasks.kit.settings import MachineSettings
from zitcache.tasks.restore.relink import LinkReport, LinkState, relink
from zitcache.tasks.settings import config_path

KNOWN_VARIABLES = frozenset({MODELSCOPE_VARIABLE, *HUB_VARIABLES, HOME_VARIABLE, OWN_VARIABLE})
"""The only variables that a marker or a kit may set: any other name could be a trap for every shell."""

_LAUNCHER_MARK = "# zitcache, run from the kit on the data disk: `zitcache restore` made this file."


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is to be put back. ``links``: (path, where the cache lies); ``moved``: old place, new place.

    ``kit``: what runs zitcache where it is not installed. ``settings``: of this machine before the reset.
    """

    links: Sequence[tuple[str, Path]]
    variables: Mapping[str, str]
    moved: Mapping[str, str]
    kit: Path | None = None
    settings: MachineSettings | None = None
    with_links: bool = True
    with_environment: bool = True
    with_schedule: bool = True


@dataclass(slots=True)
class PutBack:
    """What was put back, or would be."""

    links: list[LinkReport] = field(default_factory=list)
    environment: list[str] = field(default_factory=list)
    config: str | None = None
    launcher: str | None = None
    schedule: list[str] = field(default_factory=list)

    @property
    def anything(self) -> bool:
        """Whether something was not as it should be."""
        made = any(link.state == LinkState.MADE.value for link in self.links)
        return bool(made or self.environment or self.config or self.launcher or self.schedule)


def put_back(wishes: Wishes, session: Session, *, dry_run: bool) -> PutBack:
    """Do it, or (``dry_run``) say what would be done."""
    done = PutBack()
    if wishes.with_links:
        for source, place in wishes.links:
            session.cancel.check()
            try:
                done.links.append(relink(source, place, session, dry_run=dry_run))
            except ZitcacheError as error:
                session.warn("no-link", error.message, error.hint)
    if wishes.with_environment:
        done.environment = _environment(wishes.variables, session, dry_run)
        done.config = _config(wishes, session, dry_run)
        done.launcher = _launcher(wishes.kit, session, dry_run)
    if wishes.with_schedule and wishes.settings is not None:
        done.schedule = _schedule(wishes.settings.schedule, wishes, session, dry_run)
    return done


def sound_variables(variables: Mapping[str, str], session: Session) -> dict[str, str]:
    """Those of ``variables`` that may be set; the others are warned about."""
    sound = {}
    for name, value in variables.items():
        if name in KNOWN_VARIABLES and value.startswith("/") and "\0" not in value and "\n" not in value:
            sound[name] = value
        else:
            session.warn(
                "variable-refused",
                f"{name} was not set to {value[:100]!r}: other variables name a cache, with full paths.",
            )
    return sound


def _environment(variables: Mapping[str, str], session: Session, dry_run: bool) -> list[str]:
    from zitcache.tasks.environment.install import carry_out, plan_writing

    if not variables:
        return []
    try:
        plan = plan_writing(variables, session)
    except UsageError as error:
        session.warn("environment-not-set", f"The variables were not set: {error.message}", error.hint)
        return []
    if not dry_run:
        return carry_out(plan, session)
    return [str(change.target.path) for change in plan.files] + (["crontab"] if plan.crontab else [])


def _config(wishes: Wishes, session: Session, dry_run: bool) -> str | None:
    """Put the configuration where it is looked for now, if there is none: never where a kit says."""
    from zitcache.tasks.configuration import parse_config

    path, _ = config_path()
    if wishes.settings is None or wishes.settings.config is None or path is None or os.path.lexists(path):
        return None
    text = adapter(None, wishes.moved)(wishes.settings.config)
    try:
        parse_config(path, text.encode())
        if not dry_run:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not create_durably(path, text.encode(), mode=0o600):
                return None
    except (ZitcacheError, OSError) as error:
        reason = error.message if isinstance(error, ZitcacheError) else error.strerror or str(error)
        session.warn("config-not-restored", f"The configuration was not put back: {reason}")
        return None
    return str(path)


def _launcher(kit: Path | None, session: Session, dry_run: bool) -> str | None:
    """Have the word ``zitcache`` run the kit, where nothing else has that name."""
    if kit is None:
        return None
    folders = [Path("/usr/local/bin")] if os.geteuid() == 0 else []
    folders.append(Path.home() / ".local/bin")
    installed = shutil.which("zitcache")
    places = [folder / "zitcache" for folder in folders]
    if installed is not None and Path(installed) not in places:
        return None
    text = f'#!/bin/sh\n{_LAUNCHER_MARK}\nexec /bin/sh {shlex.quote(str(kit / LAUNCHER))} "$@"\n'
    for place in places:
        try:
            if os.path.lexists(place):
                before = place.read_text(errors="replace") if place.is_file() else ""
                if _LAUNCHER_MARK not in before or _leads_somewhere(before):
                    return None
            if not dry_run:
                place.parent.mkdir(parents=True, exist_ok=True)
                write_durably(place, text.encode(), mode=0o755)
                place.chmod(0o755)
            elif not os.access(place.parent if place.parent.is_dir() else Path.home(), os.W_OK):
                continue
            return str(place)
        except OSError:
            continue
    session.warn(
        "no-launcher",
        "The command zitcache could not be put where the shell finds it.",
        f"Run it from the kit: sh {shlex.quote(str(kit / LAUNCHER))} COMMAND",
    )
    return None


def _leads_somewhere(launcher: str) -> bool:
    words = shlex.split(launcher.splitlines()[-1])
    return len(words) > 2 and Path(words[2]).is_file()


def _schedule(entries: ScheduleEntries, wishes: Wishes, session: Session, dry_run: bool) -> list[str]:
    if not entries:
        return []
    launcher = f"/bin/sh {shlex.quote(str(wishes.kit / LAUNCHER))}" if wishes.kit else None
    try:
        armed = arm(entries, launcher=launcher, moved=wishes.moved, dry_run=dry_run)
    except OSError as error:
        session.warn(
            "schedule-not-armed",
            f"The nightly backup could not be scheduled again: {error.strerror or error} ({error.filename}).",
            "Schedule it anew: zitcache schedule install",
        )
        return []
    here = find_schedulers()
    cron_alone = entries.needs_cron and not here.cron
    systemd_alone = bool(entries.units) and not here.systemd
    if entries.daemon and here.own_daemon is None:
        session.warn(
            "scheduler-not-running",
            "The nights were run by zitcache's own scheduler, which does not run now.",
            "Start it, and have the machine start it: zitcache schedule run",
        )
    elif (cron_alone or systemd_alone) and not (here.own_daemon is not None):
        missing = "cron daemon" if cron_alone else "systemd"
        session.warn(
            "nothing-schedules",
            f"The nightly backup is scheduled again, but no {missing} runs here that would start it.",
            "Let zitcache run its nights itself: zitcache schedule run",
        )
    return armed
