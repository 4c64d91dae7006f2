"""Write the variables for shells, cron and services, take them away again, say what is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zitcache.events import Session
from zitcache.tasks.environment.changes import (
    Change,
    apply,
    content_of_blocks,
    plan_install,
    plan_uninstall,
    warn_of_rivals,
)
from zitcache.tasks.environment.crontab import (
    LABEL,
    CrontabChange,
    apply_crontab,
    plan_crontab,
    plan_crontab_removal,
    warn_of_crontab_rivals,
)
from zitcache.tasks.environment.placing import settings_of
from zitcache.tasks.environment.reached import warn_of_others, warn_of_restart
from zitcache.tasks.environment.report import FileChange
from zitcache.tasks.environment.syntax import check_variables
from zitcache.tasks.environment.targets import Surroundings, every_place, surroundings


@dataclass(frozen=True, slots=True)
class Plan:
    """What writing (``variables``) or removing them (empty) changes. Only what must change is in it."""

    variables: Mapping[str, str]
    where: Surroundings
    files: tuple[Change, ...]
    crontab: CrontabChange | None


def plan_writing(variables: Mapping[str, str], session: Session) -> Plan:
    """Decide what to write, and warn of what stands against it. Changes nothing.

    Raises :class:`~zitcache.errors.UsageError` for a name or value that no file can hold.
    """
    check_variables(variables)
    where = surroundings()
    changes = plan_install(variables, where, session)
    for change in changes:
        warn_of_rivals(change, session)
    crontab = plan_crontab(variables, where, session)
    if crontab is not None:
        warn_of_crontab_rivals(crontab, session)
    handled = {str(change.target.path) for change in changes}
    warn_of_others(variables, where, session, handled if crontab is None else {*handled, LABEL})
    needed = tuple(change for change in changes if change.needed)
    if crontab is not None and crontab.before == crontab.after:
        crontab = None
    return Plan(variables, where, needed, crontab)


def plan_removing(session: Session) -> Plan:
    """Decide what to take away. Changes nothing."""
    where = surroundings()
    return Plan({}, where, tuple(plan_uninstall(where, session)), plan_crontab_removal(where, session))


def carry_out(plan: Plan, session: Session) -> list[str]:
    """Do what was planned; returns the files that changed. What cannot be written is warned about."""
    written = []
    for change in plan.files:
        session.cancel.check()
        if apply(change, session):
            written.append(str(change.target.path))
    if plan.crontab is not None and apply_crontab(plan.crontab, plan.where, session):
        written.append(LABEL)
    if written:
        warn_of_restart(plan.where, session, removed=not plan.variables)
    return written


def install(variables: Mapping[str, str], session: Session) -> list[str]:
    """Write ``variables`` where shells, cron and services of this user (as root: of all) read them.

    Blocks of an earlier call are replaced; without any variable they are removed. Returns the files that
    changed ("crontab" among them). A file that cannot be written is warned about and the others are written.
    Raises :class:`~zitcache.errors.UsageError` for a name or value that none of them can hold.
    """
    if not variables:
        return uninstall(session)
    return carry_out(plan_writing(variables, session), session)


def uninstall(session: Session) -> list[str]:
    """Take every block of ours away; files made for it go. Returns the files that changed."""
    return carry_out(plan_removing(session), session)


def installed() -> dict[str, str]:
    """What our blocks say now; the first file that sets a variable counts."""
    found: dict[str, str] = {}
    for target in every_place(surroundings()):
        text = "\n".join(content_of_blocks(target))
        for setting in settings_of(text, target.syntax):
            if setting.value is not None:
                found.setdefault(setting.name, setting.value)
    return found


def changes_of(plan: Plan) -> list[FileChange]:
    """The plan for a person: which lines come and go in which file."""
    changes = [_file_change(str(change.target.path), change.before, change.after) for change in plan.files]
    if plan.crontab is not None:
        before, after = (
            text.encode(errors="surrogateescape") for text in (plan.crontab.before, plan.crontab.after)
        )
        changes.append(_file_change(LABEL, before, after))
    return changes


def _file_change(path: str, before: bytes | None, after: bytes | None) -> FileChange:
    from difflib import unified_diff

    old, new = ((data or b"").decode(errors="surrogateescape").splitlines() for data in (before, after))
    lines = list(unified_diff(old, new, lineterm="", n=0))[2:]
    return FileChange(
        path=path,
        action="create" if before is None else "remove" if after is None else "change",
        added=[line[1:] for line in lines if line.startswith("+")],
        removed=[line[1:] for line in lines if line.startswith("-")],
    )
