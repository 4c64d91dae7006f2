"""Check: is a schedule really armed: written down, and something alive that runs it."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator

from zitcache.machine.schedule_calls import missing_programs
from zitcache.machine.schedule_entries import ScheduleEntries
from zitcache.machine.schedulers import Schedulers
from zitcache.tasks.doctor.facts import Facts
from zitcache.tasks.doctor.report import Check, fail, ok, warn
from zitcache.tasks.doctor.wording import named

_CHECK = "schedule"
_INSTALL = ("schedule", "install")


def check_schedule(facts: Facts) -> Iterator[Check]:
    """An entry without a daemon is worse than none: it looks safe."""
    nights = facts.nights()
    entries, runners = nights.entries, nights.schedulers
    missing = _missing_programs(entries)
    if missing:
        yield fail(
            _CHECK, f"The schedule calls {named(missing)}, which is not there.", fix=facts.command(*_INSTALL)
        )
        return
    armed = list(_armed(entries, runners))
    asleep = list(_asleep(entries, runners))
    if armed:
        yield ok(_CHECK, " ".join(armed))
    elif asleep:
        yield fail(_CHECK, " ".join(asleep), fix=_waking(entries, runners) or facts.command(*_INSTALL))
    else:
        yield warn(_CHECK, f"Nothing backs up by itself. {_who_could(runners)}", fix=facts.command(*_INSTALL))


def _armed(entries: ScheduleEntries, runners: Schedulers) -> Iterator[str]:
    if runners.own_daemon is not None:
        yield f"zitcache's own scheduler is running (process {runners.own_daemon})."
    if entries.needs_cron and runners.cron:
        yield f"cron runs it ({runners.cron_daemon} is alive): {named(_cron_places(entries))}."
    timers = _timers(entries, enabled=True)
    if timers and runners.systemd:
        yield f"systemd runs it: {named(timers)}."


def _asleep(entries: ScheduleEntries, runners: Schedulers) -> Iterator[str]:
    if entries.needs_cron and not runners.cron:
        yield f"{named(_cron_places(entries))} would run it, but no cron daemon is alive."
    if not runners.systemd and _timers(entries):
        yield f"{named(_timers(entries))} would run it, but systemd is not running here."
    elif _timers(entries, enabled=False) and not _timers(entries, enabled=True):
        yield f"{named(_timers(entries, enabled=False))} is installed, but not enabled."


def _cron_places(entries: ScheduleEntries) -> list[str]:
    places = ["the crontab"] if entries.crontab else []
    return places + [f"/etc/cron.d/{name}" for name in entries.cron_files]


def _timers(entries: ScheduleEntries, enabled: bool | None = None) -> list[str]:
    return [
        unit.name
        for unit in entries.units
        if unit.name.endswith(".timer") and (enabled is None or bool(unit.enabled) is enabled)
    ]


def _waking(entries: ScheduleEntries, runners: Schedulers) -> str | None:
    """The command that starts what is asleep."""
    timers = _timers(entries, enabled=False)
    if runners.systemd and timers:
        user = all(unit.scope == "user" for unit in entries.units if unit.name in timers)
        return shlex.join(["systemctl", *(["--user"] if user else []), "enable", "--now", *timers])
    if entries.needs_cron and not runners.cron:
        for daemon in ("cron", "crond"):
            if shutil.which(daemon) is None:
                continue
            if shutil.which("service") is not None and os.path.exists(f"/etc/init.d/{daemon}"):
                return f"service {daemon} start"
            return daemon
    return None


def _missing_programs(entries: ScheduleEntries) -> list[str]:
    """Programs that an entry names by a full path that leads nowhere."""
    texts = [*entries.cron_files.values(), *(unit.text for unit in entries.units)]
    return missing_programs([*entries.crontab, *(line for text in texts for line in text.splitlines())])


def _who_could(runners: Schedulers) -> str:
    if runners.systemd:
        return "systemd could run it."
    if runners.cron:
        return f"{runners.cron_daemon} could run it."
    return "Neither systemd nor cron is running here; zitcache has a scheduler of its own."
