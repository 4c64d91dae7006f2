"""A crontab file of our own in ``/etc/cron.d``, or a marked block in a user's crontab.

Source: ``crontab(5)``. cron gives a job next to no environment, turns ``%`` into line breaks, and ignores a
last line without an end; and it starts a job again while the last one is still running.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from zitcache.errors import UsageError
from zitcache.schedule.jobs import Installation, Job, command_line, missed_night, whole_night

SYSTEM_FILE = "/etc/cron.d/zitcache"
BLOCK_BEGIN = "# >>> zitcache schedule >>>"
BLOCK_END = "# <<< zitcache schedule <<<"
_LONGEST_LINE = 900
"""Debian's cron reads 998 bytes of a command."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Tools:
    """Absolute paths of programs that a line uses; None where there is none."""

    flock: str | None = "/usr/bin/flock"
    nice: str | None = "/usr/bin/nice"


def system_file(installation: Installation, tools: Tools = Tools()) -> str:
    """The text for :data:`SYSTEM_FILE`."""
    return (
        "# Written by `zitcache schedule install`; remove it with `zitcache schedule remove`.\n"
        "# Exit codes and output go to the history: see `zitcache history`. What cron mails is what failed.\n"
        "# The second line makes up for a night that the machine was off for.\n"
        f"SHELL=/bin/sh\nPATH={_PATH}\nHOME={_value(installation.home)}\n"
        + "".join(f"{name}={_value(value)}\n" for name, value in installation.environment)
        + "".join(
            f"{job.at.text} {installation.user} {_command(installation, job, tools)}\n"
            for job in _jobs(installation)
        )
    )


def user_block(installation: Installation, tools: Tools = Tools()) -> str:
    """The lines for a user's own crontab, between two marks."""
    variables = [f"{name}={value}" for name, value in installation.environment]
    prefix = _escaped(["env", *variables]) + " " if variables else ""
    lines = [f"{job.at.text} {prefix}{_command(installation, job, tools)}\n" for job in _jobs(installation)]
    return f"{BLOCK_BEGIN}\n{''.join(lines)}{BLOCK_END}\n"


def with_block(crontab: str, block: str) -> str:
    """``crontab`` with our block replaced or added at its end; everything else stays as it is."""
    rest = without_block(crontab)
    if rest and not rest.endswith("\n"):
        rest += "\n"
    return rest + block


def without_block(crontab: str) -> str:
    """``crontab`` without our block. A block whose end is missing is left alone: it may hold other lines."""
    lines = crontab.splitlines(keepends=True)
    names = [line.strip() for line in lines]
    if BLOCK_BEGIN not in names:
        return crontab
    start = names.index(BLOCK_BEGIN)
    if BLOCK_END not in names[start:]:
        raise UsageError(
            "The crontab has the first line of zitcache's block but not its last.",
            hint=f"Look at it with `crontab -e` and remove the line {BLOCK_BEGIN!r} and what belongs to it.",
        )
    end = names.index(BLOCK_END, start)
    return "".join(lines[:start] + lines[end + 1 :])


def _jobs(installation: Installation) -> list[Job]:
    return [whole_night(installation), missed_night(installation)]


def _command(installation: Installation, job: Job, tools: Tools) -> str:
    words = [*command_line(installation, job), "--quiet", "--no-progress"]
    if tools.nice:
        words = [tools.nice, "-n", "19", *words]
    if tools.flock:
        # Not the only lock (a night takes one itself), but this one costs no Python.
        # In a directory that no other user can write to, so that nobody can put a link there.
        folder = "/run" if installation.user == "root" else installation.home
        words = [tools.flock, "-n", "-E", "0", f"{folder.rstrip('/')}/.zitcache-night.lock", *words]
    return _escaped(words)


def _escaped(words: Sequence[str]) -> str:
    """The words for cron's shell. Raises ``UsageError`` for what no crontab can hold."""
    for word in words:
        if "\n" in word or "\r" in word or "\0" in word:
            raise UsageError(
                f"{word!r} cannot be written into a crontab: it holds a line break.",
                hint="Use another backend: zitcache schedule install --backend daemon",
            )
    # A backslash before the percent sign is cron's, which takes it away before the shell sees the line, also
    # within quotes.
    line = shlex.join(words).replace("%", "\\%")
    if len(line.encode("utf-8", "surrogateescape")) > _LONGEST_LINE:
        raise UsageError(
            f"The command is longer than the {_LONGEST_LINE} characters that cron reads of a line.",
            hint="Use another backend: zitcache schedule install --backend daemon",
        )
    return line


def _value(text: str) -> str:
    if "\n" in text:
        raise UsageError(f"{text!r} cannot be written into a crontab: it holds a line break.")
    return f'"{text}"' if text != text.strip() or " " in text else text
