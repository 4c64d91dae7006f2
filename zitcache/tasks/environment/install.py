"""Write the variables for shells, cron and services, take them away again, say what is written."""

from __future__ import annotations

from collections.abc import Mapping

from zitcache.events import Session
from zitcache.tasks.environment.changes import (
    apply,
    content_of_blocks,
    plan_install,
    plan_uninstall,
    warn_of_rivals,
)
from zitcache.tasks.environment.other_files import environment_d_settings, pam_settings, system_conf_settings
from zitcache.tasks.environment.shell_lines import fish_settings, shell_settings
from zitcache.tasks.environment.syntax import Syntax, check_variables
from zitcache.tasks.environment.targets import every_place, surroundings

_READERS = {
    Syntax.SH: shell_settings,
    Syntax.FISH: fish_settings,
    Syntax.PAM: pam_settings,
    Syntax.ENVIRONMENT_D: environment_d_settings,
    Syntax.SYSTEM_CONF: system_conf_settings,
}


def install(variables: Mapping[str, str], session: Session) -> list[str]:
    """Write ``variables`` where shells, cron and services of this user (as root: of all) read them.

    Blocks of an earlier call are replaced. Returns the files that changed. A file that cannot be written is
    warned about and the others are written. Raises :class:`~zitcache.errors.UsageError` for a name or value
    that none of them can hold.
    """
    check_variables(variables)
    if not variables:
        return uninstall(session)
    where = surroundings()
    written = []
    for change in plan_install(variables, where, session):
        session.cancel.check()
        if not change.needed or apply(change, session):
            warn_of_rivals(change, session)
            if change.needed:
                written.append(str(change.target.path))
    return written


def uninstall(session: Session) -> list[str]:
    """Take every block of ours away; files made for it go. Returns the files that changed."""
    return [
        str(change.target.path)
        for change in plan_uninstall(surroundings(), session)
        if apply(change, session)
    ]


def installed() -> dict[str, str]:
    """What our blocks say now; the first file that sets a variable counts."""
    found: dict[str, str] = {}
    for target in every_place(surroundings()):
        text = "\n".join(content_of_blocks(target))
        for setting in _READERS[target.syntax](text):
            if setting.value is not None:
                found.setdefault(setting.name, setting.value)
    return found
