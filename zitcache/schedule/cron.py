"""A crontab file of our own in ``/etc/cron.d``, or a marked block in a user's crontab.

Source: ``crontab(5)``. cron gives a job next to no environment, turns ``%`` into line breaks, and ignores a
last line without an end; and it starts a job again while the last one is still running.
"""

from __future__ import annotations

import shlex

from zitcache.errors import UsageError
from zitcache.schedule.jobs import Installation, command_line, whole_night

SYSTEM_FILE = "/etc/cron.d/zitcache"
BLOCK_BEGIN = "# >>> zitcache schedule >>>"
BLOCK_END = "# <<< zitcache schedule <<<"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def system_file(installation: Installation, *, lock: str | None = "/usr/bin/flock") -> str:
    """The text for :data:`SYSTEM_FILE`. ``lock``: the program ``flock``; None where there is none."""
    return (
        "# Written by `zitcache schedule install`; remove it with `zitcache schedule remove`.\n"
        "# Exit codes and output go to the history: see `zitcache history`. What cron mails is what failed.\n"
        f"SHELL=/bin/sh\nPATH={_PATH}\nHOME={_value(installation.home)}\n"
        + "".join(f"{name}={_value(value)}\n" for name, value in installation.environment)
        + f"{whole_night(installation).at.text} {installation.user} {_command(installation, lock)}\n"
    )


def user_block(installation: Installation, *, lock: str | None = "/usr/bin/flock") -> str:
    """The lines for a user's own crontab, between two marks."""
    variables = [f"{name}={value}" for name, value in installation.environment]
    command = shlex.join(["env", *variables]) + " " if variables else ""
    line = f"{whole_night(installation).at.text} {command}{_command(installation, lock)}"
    return f"{BLOCK_BEGIN}\n{line}\n{BLOCK_END}\n"


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


def _command(installation: Installation, lock: str | None) -> str:
    words = [*command_line(installation, whole_night(installation)), "--quiet", "--no-progress"]
    if lock:
        # Not the only lock (a night takes one itself), but this one costs no Python.
        # In a directory that no other user can write to, so that nobody can put a link there.
        folder = "/run" if installation.user == "root" else installation.home
        words = [lock, "-n", "-E", "0", f"{folder.rstrip('/')}/.zitcache-night.lock", *words]
    for word in words:
        if "\n" in word or "\r" in word or "\0" in word:
            raise UsageError(
                f"{word!r} cannot be written into a crontab: it holds a line break.",
                hint="Use another backend: zitcache schedule install --backend daemon",
            )
    return shlex.join(words).replace("%", "\\%")


def _value(text: str) -> str:
    if "\n" in text:
        raise UsageError(f"{text!r} cannot be written into a crontab: it holds a line break.")
    return f'"{text}"' if text != text.strip() or " " in text else text
