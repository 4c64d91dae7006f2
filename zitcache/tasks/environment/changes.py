"""What writing or removing the variables would change, file by file, and doing it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from zitcache.events import Session
from zitcache.tasks.environment.blocks import BrokenBlock, find_blocks, made_by_us, without_blocks
from zitcache.tasks.environment.files import is_read_only, read_file, remove_file, replace_file
from zitcache.tasks.environment.placing import Rival, place_block, settings_in
from zitcache.tasks.environment.syntax import unsuitable
from zitcache.tasks.environment.targets import Surroundings, Target, every_place, targets


@dataclass(frozen=True, slots=True)
class Change:
    """One file to be written (``after``) or removed (``after`` None). ``before`` None: it is a new one."""

    target: Target
    before: bytes | None
    after: bytes | None
    rivals: tuple[Rival, ...] = ()

    @property
    def needed(self) -> bool:
        """Whether the file is not like that already."""
        return self.before != self.after


def plan_install(variables: Mapping[str, str], where: Surroundings, session: Session) -> list[Change]:
    """What must change so that every reader sees ``variables``; warns of files that cannot be used."""
    changes = []
    for target in targets(where):
        change = _read_and(
            target,
            session,
            lambda target, data: _install_in(target, data, variables, where.home or Path("/"), session),
        )
        if change is not None:
            changes.append(change)
    return changes


def plan_uninstall(where: Surroundings, session: Session) -> list[Change]:
    """What must change so that nothing of ours is left; warns of files that cannot be read."""
    changes = []
    for target in every_place(where):
        change = _read_and(target, session, _uninstall_in)
        if change is not None:
            changes.append(change)
    return changes


def apply(change: Change, session: Session) -> bool:
    """Do it; False and a warning when the file cannot be written."""
    path = change.target.path
    try:
        if change.after is None:
            remove_file(path)
        else:
            replace_file(path, change.after)
    except OSError as error:
        session.warn(
            "file-not-written",
            f"{path} could not be written: {error.strerror or error}.",
            f"See: ls -ld {shlex.quote(str(path.parent))} {shlex.quote(str(path))}",
        )
        return False
    return True


def warn_of_rivals(change: Change, session: Session) -> None:
    """Say which lines of the file set one of the variables to something else."""
    if not change.rivals:
        return
    path = change.target.path
    said = [
        f"line {rival.line} "
        + (f"unsets {rival.name}" if rival.value is None else f"sets {rival.name} to {rival.value}")
        + (", and wins where it is reached last" if rival.wins else "")
        for rival in change.rivals
    ]
    lines = sorted({rival.line for rival in change.rivals})
    first, script = change.rivals[0].line, ";".join(f"{line}d" for line in lines)
    session.warn(
        "old-setting",
        f"{path}:{first} has an older setting: {'; '.join(said)}."
        + ("" if any(rival.wins for rival in change.rivals) else " The zitcache block after it wins."),
        f"Look at it, then delete it: sed -i --follow-symlinks '{script}' {shlex.quote(str(path))}",
    )


def _read_and(
    target: Target, session: Session, decide: Callable[[Target, bytes | None], Change | None]
) -> Change | None:
    """The decision on the content of a file; None and a warning when the file cannot be used."""
    path = target.path
    try:
        change = decide(target, read_file(path))
    except BrokenBlock as error:
        session.warn(
            "broken-block",
            f"{path}:{error.line} has a zitcache mark without its partner; the file is left as it is.",
            f"Delete what is left of the block by hand: {shlex.quote(str(path))}",
        )
        return None
    except OSError as error:
        session.warn("file-not-read", f"{path} could not be read: {error.strerror or error}.")
        return None
    if change is not None and change.needed and change.before is not None and is_read_only(path):
        session.warn(
            "read-only-file",
            f"{path} is read-only and stays as it is.",
            f"Make it writable and repeat the command: chmod u+w {shlex.quote(str(path))}",
        )
        return None
    return change


def _install_in(
    target: Target, data: bytes | None, variables: Mapping[str, str], home: Path, session: Session
) -> Change | None:
    why = unsuitable(variables, target.syntax)
    if why is not None:
        session.warn("value-not-writable", f"{target.path} is left out: {why}.")
        return None
    present = data or b""
    if target.only_if_set and not find_blocks(present):
        names = {setting.name for setting in settings_in(present, target.syntax)}
        if not names & set(variables):
            return None
    placed = place_block(present, variables, target.syntax, home=home, made=data is None)
    return Change(target, data, placed.data, placed.rivals)


def _uninstall_in(target: Target, data: bytes | None) -> Change | None:
    if data is None or not find_blocks(data):
        return None
    return Change(target, data, None if made_by_us(data) else without_blocks(data))


def content_of_blocks(target: Target) -> tuple[str, ...]:
    """The lines of the first block in a file; nothing when there is none or it cannot be read."""
    try:
        blocks = find_blocks(read_file(target.path) or b"")
    except (OSError, BrokenBlock):
        return ()
    return blocks[0].content if blocks else ()
