"""What a change of settings does not reach, said plainly."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from pathlib import Path

from zitcache.cache.variables import HOME_VARIABLE, HUB_VARIABLES
from zitcache.events import Session
from zitcache.tasks.environment.placing import expanded
from zitcache.tasks.environment.sources import CRONTAB, Reach, Source, sources
from zitcache.tasks.environment.targets import Surroundings


def warn_of_restart(where: Surroundings, session: Session, *, removed: bool = False) -> None:
    """Programs that run already keep what they were started with."""
    fish = Path(where.environ.get("SHELL", "")).name == "fish"
    here = "zitcache env --format fish | source" if fish else 'eval "$(zitcache env --format sh)"'
    session.warn(
        "restart-needed",
        "Shells, notebooks and services that run already keep their old settings.",
        "Start them again." if removed else f"Start them again; in this shell: {here}",
    )
    if where.is_root and where.has_systemd:
        session.warn(
            "systemd-reload-needed",
            "systemd reads the new settings for its services when it is told to.",
            "systemctl daemon-reexec, then restart the services",
        )


def warn_of_others(
    variables: Mapping[str, str], where: Surroundings, session: Session, handled: Collection[str]
) -> None:
    """Lines elsewhere that set one of ``variables`` to something else.

    ``handled``: the places that have our block, and where the lines round it were looked at.
    """
    home = where.home or Path("/")
    outranking = [name for name in HUB_VARIABLES if HOME_VARIABLE in variables and name not in variables]
    if set(HUB_VARIABLES) & set(variables):
        outranking = []
    for source in sources(where, (*variables, *outranking)):
        name = source.assignment.name
        if name in outranking:
            _warn_of_outranking(source, variables[HOME_VARIABLE], home, session)
            continue
        if source.place in handled or expanded(source.assignment, home) == variables[name]:
            continue
        session.warn("other-setting", _sentence(source), _hint(source, variables[name], name))


def _warn_of_outranking(source: Source, hf_home: str, home: Path, session: Session) -> None:
    """Hugging Face looks at that variable first, and so would not look at ``HF_HOME``."""
    name, value = source.assignment.name, expanded(source.assignment, home)
    hub = f"{hf_home.rstrip('/')}/hub"
    if value is not None and value != hub:
        session.warn(
            "outranking-setting",
            f"{source.label} sets {name} to {value}: for Hugging Face that counts before HF_HOME={hf_home}.",
            _hint(source, hub, name),
        )


def _sentence(source: Source) -> str:
    name, value = source.assignment.name, source.assignment.value
    said = f"unsets {name}" if value is None else f"sets {name} to {value}"
    if source.reach is Reach.CONTAINER:
        return f"This container {said} for everything that is started in it."
    who = {
        Reach.SHELLS: "shells that read it",
        Reach.LOGINS: "logins and cron jobs",
        Reach.SERVICES: "services",
        Reach.CRON: "the entries below it",
    }[source.reach]
    return f"{source.label} {said}; that counts for {who}."


def _hint(source: Source, wanted: str, name: str) -> str:
    if source.reach is Reach.CONTAINER:
        return f"Start the container with: -e {shlex.quote(f'{name}={wanted}')}"
    if source.place == CRONTAB:
        return f"Delete the line: crontab -e (line {source.assignment.line})"
    line, place = source.assignment.line, shlex.quote(source.place)
    return f"Look at it, then delete it: sed -i --follow-symlinks '{line}d' {place}"
