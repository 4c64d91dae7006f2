"""How the SDKs turn the value of a variable into a path: ``~``, ``$NAME``, relative to the working directory.

Sources: ``modelscope_hub/config.py`` (``_expand``: ``~`` only) and ``huggingface_hub/constants.py``
(``os.path.expandvars(os.path.expanduser(…))``).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

_DOLLAR = re.compile(r"\$(\w+|\{[^}]*\})", re.ASCII)


def absolute(value: str, cwd: Path) -> Path:
    """``value`` as an absolute path without ``.`` and ``..``; links are not followed."""
    return Path(os.path.normpath(cwd / value))


def expand_user(value: str, home: Path) -> str:
    """``~`` and ``~/x`` by ``home``; other users' homes by the system."""
    if value == "~" or value.startswith("~/"):
        return os.fspath(home) + value[1:]
    if value.startswith("~"):
        with contextlib.suppress(RuntimeError):
            return os.fspath(Path(value).expanduser())
    return value


def expand(value: str, environ: Mapping[str, str], home: Path) -> str:
    """What ``os.path.expandvars(os.path.expanduser(value))`` gives in that environment."""

    def replace(match: re.Match[str]) -> str:
        return environ.get(match[1].strip("{}"), match[0])

    return _DOLLAR.sub(replace, expand_user(value, home))


def has_dollar(value: str) -> bool:
    """Whether ``value`` has something in it that :func:`expand` may replace."""
    return _DOLLAR.search(value) is not None


def is_quoted(value: str) -> bool:
    """Whether quotes stand round the value: then they are part of the path, most likely by mistake."""
    return len(value) >= 2 and value[0] == value[-1] and value[0] in "'\""
