"""Where a line of a crontab or a unit calls zitcache, and the same line for a changed machine."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

PROGRAM = "zitcache"
_SUBCOMMAND = re.compile(r"[a-z][a-z-]*")
_SHELL = re.compile(r"(?:.*/)?(?:ba|da)?sh")
_WORD = re.compile(r"""(?:[^\s"'#]|"[^"\n]*"|'[^'\n]*'|(?<!\s)\#)+""")
_EXEC = re.compile(r"^Exec[A-Za-z]*=[-@:+!]*")
_TIMEOUT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class _Word:
    start: int
    end: int
    text: str


def calls(line: str) -> list[tuple[int, int]]:
    """Where ``line`` calls zitcache: start and end of the words that name the program.

    ``/opt/bin/zitcache``, ``zitcache``, ``python3 -m zitcache`` and ``/bin/sh …/kit/zitcache``, each followed
    by a command. A path that only ends like that (``rsync /data/zitcache /nas``) is none.
    """
    if line.lstrip().startswith("#"):
        return []
    words = _words(line)
    found = []
    for number, word in enumerate(words[:-1]):
        if word.text.rpartition("/")[2] != PROGRAM or not _SUBCOMMAND.fullmatch(words[number + 1].text):
            continue
        first = word
        if word.text == PROGRAM and number >= 2 and words[number - 1].text == "-m":
            first = words[number - 2]
        elif number and _SHELL.fullmatch(words[number - 1].text):
            first = words[number - 1]
        found.append((first.start, word.end))
    return found


def missing_programs(lines: Iterable[str]) -> list[str]:
    """Programs that lines of crontabs or units call by a full path that leads nowhere, each once."""
    found: dict[str, None] = {}
    for line in lines:
        for start, end in calls(line):
            program = shlex.split(line[start:end])[-1]
            if program.startswith("/") and not Path(program).exists():
                found[program] = None
    return list(found)


def essence(line: str) -> str:
    """A job without the place of its program and the number of blanks: what makes it the same job."""
    return " ".join(_replaced(line, lambda call: PROGRAM).split())


def adapter(launcher: str | None, moved: Mapping[str, str]) -> Callable[[str], str]:
    """A function that rewrites an entry for this machine.

    ``moved``: directories that lie elsewhere now. ``launcher``: what takes the place of a program that does
    not exist any more.
    """
    longest_first = sorted(moved.items(), key=lambda pair: len(pair[0]), reverse=True)

    def adapt(text: str) -> str:
        for old, new in longest_first:
            pattern = rf"(?<![\w./-]){re.escape(old)}(?![\w.-])"
            text = new.join(re.split(pattern, text))
        if launcher is None:
            return text
        lines = text.split("\n")
        return "\n".join(_replaced(line, lambda call: call if _exists(call) else launcher) for line in lines)

    return adapt


def _replaced(line: str, change: Callable[[str], str]) -> str:
    for start, end in reversed(calls(line)):
        line = line[:start] + change(line[start:end]) + line[end:]
    return line


def _words(line: str) -> list[_Word]:
    """The words of a line, without quotes and without what systemd puts in front of a command."""
    found = []
    for match in _WORD.finditer(line):
        start, raw = match.start(), match[0]
        head = _EXEC.match(raw)
        if head:
            start, raw = start + head.end(), raw[head.end() :]
        try:
            found.append(_Word(start, match.end(), " ".join(shlex.split(raw))))
        except ValueError:
            continue
    return found


def _exists(call: str) -> bool:
    words = shlex.split(call)
    if len(words) == 3:
        return shutil.which(words[0]) is not None and _has_module(words[0])
    program = words[-1]
    if len(words) == 2:
        return Path(program).is_file()
    # cron has hardly a PATH: a bare name must be where it looks.
    return shutil.which(program, path=None if "/" in program else "/usr/bin:/bin") is not None


@lru_cache(maxsize=16)
def _has_module(python: str) -> bool:
    try:
        done = subprocess.run(
            [python, "-c", f"import {PROGRAM}"], capture_output=True, timeout=_TIMEOUT_SECONDS, cwd="/"
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
