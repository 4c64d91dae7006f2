"""The steps of a migration, in order, with the names that plans and reports use."""

from __future__ import annotations

from collections.abc import Callable

from zitcache.events import Session
from zitcache.tasks.migrate.report import Step

observe: Callable[[str], None] = lambda name: None  # noqa: E731
"""Called with the name of each step that begins, and with "end" after the last."""

_DOES = {
    "prepare": "make {target} and a journal in it",
    "copy": "copy every file, hashed on the way, and read each one back from the disk",
    "reflink": "share every file's blocks with {target}: nothing is copied, and nothing is read",
    "settle": "links, modes and times; everything is on the disk",
    "compare": "look whether the cache changed meanwhile, and catch up",
    "mark": "leave a note in {target} that says where the cache was",
    "rename": "rename the cache to {target}; at every moment the old path works",
    "link": "swap the old path {source} for a symlink to {target}",
    "latecomers": "bring over what was written in the last moment",
    "environment": "set the variables for shells, cron and services",
    "kit": "keep a kit for a bare machine in {target}",
    "record": "write down in {target} what was set",
    "delete-source": "delete the old copy",
    "finish": "remove the journal",
    "swap-back": "swap the symlink {source} for the directory",
    "unset-environment": "take away the variables that were set",
    "unmark": "remove the note in {target}",
    "delete-target": "delete the copy in {target}",
}


def make_steps(names: list[str], source: str, target: str, size_bytes: int) -> list[Step]:
    """The plan's steps; ``size_bytes``: what "copy" writes at most."""
    return [
        Step(
            name=name,
            does=_DOES[name].replace("{source}", source).replace("{target}", target),
            bytes=size_bytes if name == "copy" else 0,
        )
        for name in names
    ]


def enter(name: str, session: Session) -> None:
    """A step begins. Raises ``Interrupted`` when stopping was asked for."""
    session.cancel.check()
    observe(name)
