"""What the tests of the environment share."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from zitcache.events import Notice, Session
from zitcache.tasks.environment import install, uninstall

DEBIAN_BASHRC = b"""# ~/.bashrc: executed by bash(1) for non-login shells.

# If not running interactively, don't do anything
case $- in
    *i*) ;;
      *) return;;
esac

HISTCONTROL=ignoreboth
alias ll='ls -alF'
"""
SELECTED = {"MODELSCOPE_CACHE": "/data/model_cache", "HF_HOME": "/data/model_cache"}


@dataclass
class Machine:
    """A home directory, and a directory that stands for ``/``."""

    home: Path
    system: Path

    def write(self, name: str, data: bytes | str) -> Path:
        """A file in the home directory, or below ``/`` if ``name`` begins with a slash."""
        path = self.system / name[1:] if name.startswith("/") else self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    def files(self) -> dict[str, bytes]:
        """Every file and its bytes."""
        return {
            str(path): path.read_bytes()
            for top in (self.home, self.system)
            for path in sorted(top.rglob("*"))
            if path.is_file()
        }


def write_all(variables: Mapping[str, str] = SELECTED) -> tuple[list[str], list[Notice]]:
    session = Session()
    return install(variables, session), session.warnings


def remove_all() -> tuple[list[str], list[Notice]]:
    session = Session()
    return uninstall(session), session.warnings


def codes(notices: Sequence[Notice]) -> list[str]:
    return [notice.code for notice in notices]


def needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: only root writes below /etc")


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}")
    return found


def shell(
    *command: str, home: Path, stdin: str | None = None, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run a real shell with nothing in its environment but ``HOME`` and what is given."""
    return subprocess.run(
        [program(command[0]), *command[1:]],
        env={"HOME": str(home), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **environ},
        input=stdin or "",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


NOBODY = 65534


def as_nobody(work: Callable[[], object], **environ: str) -> Any:
    """What ``work`` gives in a process of another user, as JSON types. Needs root.

    A fork, because the files of this Python need not be readable for others.
    """
    needs_root()
    import zitcache.tasks.environment.own_plan  # noqa: F401 - nothing can be imported later on

    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.environ.clear()
            os.environ.update({"PATH": os.defpath, **environ})
            os.chdir("/")
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            try:
                answer: object = {"value": work()}
            except BaseException as error:
                answer = {"error": f"{type(error).__name__}: {error}", "hint": getattr(error, "hint", None)}
            os.write(write, json.dumps(answer).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = json.loads(pipe.read())
    os.waitpid(child, 0)
    if "error" in answer:
        raise AssertionError(f"{answer['error']} | {answer['hint']}")
    return answer["value"]
