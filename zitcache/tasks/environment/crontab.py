"""The user's crontab, through ``crontab`` alone: no line of it may be lost.

A ``crontab -l`` that fails is not an empty crontab. What was written is read back; if it is not there, the
old one is put back.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zitcache.events import Session
from zitcache.tasks.environment.blocks import BrokenBlock, find_blocks, with_block, without_blocks
from zitcache.tasks.environment.other_files import crontab_settings, has_cron_entries
from zitcache.tasks.environment.shell_lines import Assignment
from zitcache.tasks.environment.syntax import Syntax, write_lines
from zitcache.tasks.environment.targets import Surroundings

LABEL = "crontab"
_SECONDS = 20
_NONE = ("no crontab for", "no such file", "not allowed to use")
_LINE_BYTES = 998
"""What cron reads of one line."""


class CrontabError(Exception):
    """``crontab`` did not work; the text says why."""


@dataclass(frozen=True, slots=True)
class CrontabChange:
    """The crontab as it is and as it shall be, and the lines in it that say something else further down."""

    before: str
    after: str
    rivals: tuple[Assignment, ...] = ()


def read_crontab(where: Surroundings) -> str | None:
    """The user's crontab; None when there is none. Raises :class:`CrontabError`."""
    if where.crontab is None:
        return None
    done = _run(where, "-l")
    if done.returncode == 0:
        return done.stdout.decode(errors="surrogateescape")
    said = done.stderr.decode(errors="replace").strip()
    if any(words in said.lower() for words in _NONE):
        return None
    raise CrontabError(f"`crontab -l` failed with exit code {done.returncode}: {said or 'it said nothing'}")


def write_crontab(where: Surroundings, change: CrontabChange) -> None:
    """Put ``change.after`` in the place of ``change.before``. Raises :class:`CrontabError`."""
    if read_crontab(where) != change.before:
        raise CrontabError("it was changed by somebody else in this moment")
    done = _run(where, "-", text=change.after)
    if done.returncode == 0 and read_crontab(where) == change.after:
        return
    said = done.stderr.decode(errors="replace").strip()
    if read_crontab(where) != change.before:
        _run(where, "-", text=change.before)
        if read_crontab(where) != change.before:
            raise CrontabError(f"it is not as before any more ({said}); this was in it:\n{change.before}")
    raise CrontabError(f"`crontab -` did not take it: {said or f'exit code {done.returncode}'}")


def plan_crontab(variables: Mapping[str, str], where: Surroundings, session: Session) -> CrontabChange | None:
    """The variables above the entries of the user's crontab.

    None when it starts nothing, or when pam_env gives cron ``/etc/environment`` anyway (as root) and the
    crontab does not set one of them itself.
    """
    text = _read_or_warn(where, session)
    if text is None or not has_cron_entries(text):
        return None
    try:
        bare = without_blocks(_bytes(text)).decode(errors="surrogateescape")
        has_block = bool(find_blocks(_bytes(text)))
    except BrokenBlock as error:
        _warn(session, f"line {error.line} has a zitcache mark without its partner; it is left as it is")
        return None
    contradicting = _contradicting(bare, variables)
    if not (has_block or contradicting) and where.is_root and pam_reaches_cron(where):
        return None
    content = write_lines(variables, Syntax.CRONTAB)
    if any(len(line.encode()) > _LINE_BYTES for line in content):
        _warn(session, "a value is too long for it; it is left as it is")
        return None
    above = _lines_above_entries(bare)
    first = max((one.line for one in contradicting if one.line <= above), default=0)
    offset = sum(len(line) for line in _bytes(bare).splitlines(keepends=True)[:first])
    after = with_block(_bytes(bare), content, offset)
    new = after.decode(errors="surrogateescape")
    block_line = after.count(b"\n", 0, find_blocks(after)[0].start) + 1
    rivals = tuple(one for one in _contradicting(new, variables) if one.line > block_line)
    return CrontabChange(text, new, rivals)


def warn_of_crontab_rivals(change: CrontabChange, session: Session) -> None:
    """Say which lines further down set one of the variables to something else."""
    for one in change.rivals:
        session.warn(
            "old-setting",
            f"The crontab sets {one.name} to {one.value} in line {one.line}; that counts for what is below.",
            f"Delete line {one.line}: crontab -e",
        )


def plan_crontab_removal(where: Surroundings, session: Session) -> CrontabChange | None:
    """The crontab without our block; None when there is none in it."""
    text = _read_or_warn(where, session)
    if text is None:
        return None
    try:
        after = without_blocks(_bytes(text)).decode(errors="surrogateescape")
    except BrokenBlock as error:
        _warn(session, f"line {error.line} has a zitcache mark without its partner; it is left as it is")
        return None
    return None if after == text else CrontabChange(text, after)


def apply_crontab(change: CrontabChange, where: Surroundings, session: Session) -> bool:
    """Do it; False and a warning when that did not work."""
    try:
        write_crontab(where, change)
    except CrontabError as error:
        _warn(session, str(error))
        return False
    return True


def pam_reaches_cron(where: Surroundings) -> bool:
    """Whether cron sets ``/etc/environment`` for what it starts, judged by its PAM configuration."""
    folder = where.system / "etc/pam.d"
    pending, seen = ["cron", "crond"], set[str]()
    while pending:
        name = pending.pop()
        if name in seen or "/" in name:
            continue
        seen.add(name)
        try:
            lines = Path(folder, name).read_text(errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            words = line.split("#", 1)[0].split()
            if any(word.rpartition("/")[2] == "pam_env.so" for word in words):
                return True
            if len(words) >= 2 and (words[0] == "@include" or words[1] in {"include", "substack"}):
                pending.append(words[-1])
    return False


def _contradicting(text: str, variables: Mapping[str, str]) -> list[Assignment]:
    return [
        one for one in crontab_settings(text) if one.name in variables and one.value != variables[one.name]
    ]


def _read_or_warn(where: Surroundings, session: Session) -> str | None:
    try:
        return read_crontab(where)
    except CrontabError as error:
        _warn(session, str(error))
        return None


def _warn(session: Session, reason: str) -> None:
    session.warn(
        "crontab-not-written", f"The crontab was left alone: {reason}.", "Look at it with: crontab -l"
    )


def _lines_above_entries(text: str) -> int:
    """How many lines stand above the first entry."""
    lines = text.split("\n")
    return next((place for place, line in enumerate(lines) if has_cron_entries(line)), len(lines))


def _run(where: Surroundings, argument: str, text: str | None = None) -> subprocess.CompletedProcess[bytes]:
    assert where.crontab is not None
    try:
        return subprocess.run(
            [where.crontab, argument],
            input=None if text is None else _bytes(text),
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            timeout=_SECONDS,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CrontabError(f"`crontab {argument}` could not be run: {error}") from error


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
