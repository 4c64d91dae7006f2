"""What ``env`` reports."""

from __future__ import annotations

import msgspec


class VariableState(msgspec.Struct, kw_only=True):
    """One value of a variable.

    ``origin``: the line that sets it ("/root/.bashrc:12", "crontab:3", "PID 1"), or "process" when no file
    was found that does. ``effective``: what reads the variable uses this value in a program that is started
    now from here. ``warning``: sentences. ``path``: the directory that it comes to; None where it names none.
    ``origins``: all lines that set it to this value.
    """

    name: str
    value: str
    origin: str
    effective: bool
    warning: str | None
    path: str | None = None
    origins: list[str] = []


class FileChange(msgspec.Struct, kw_only=True):
    """``action``: "create", "change" or "remove". ``added``, ``removed``: the lines that come and go."""

    path: str
    action: str
    added: list[str]
    removed: list[str]


class OwnCache(msgspec.Struct, kw_only=True):
    """A cache of the user's own whose models are links into ``shared``.

    ``models``: their ids. ``links``, ``copies``: made or brought up to date now; ``kept``: right already.
    ``removed``: links to files that the shared cache has no more. ``skipped``: names with files of the user.
    """

    path: str
    shared: str
    models: list[str]
    links: int
    copies: int
    kept: int
    removed: int
    skipped: list[str]


class EnvReport(msgspec.Struct, kw_only=True):
    """``variables``: what is set, where, and what it does.

    ``cache``: the cache the selection is for, None when there is none. ``selected``: the variables that make
    both SDKs use it. ``installed``: what the files written by zitcache say. ``model``, ``model_path``: with
    ``--model``. ``written``: the files that changed; ``changes``: in a dry run, what would change. ``text``:
    with ``--format``, the selection as text. ``own``: with ``--own``, what was made. ``action``: "show",
    "print", "write" or "remove".
    """

    variables: list[VariableState]
    cache: str | None
    selected: dict[str, str]
    installed: dict[str, str]
    action: str = "show"
    model: str | None = None
    model_path: str | None = None
    written: list[str] = []
    changes: list[FileChange] = []
    text: str | None = None
    own: OwnCache | None = None
    dry_run: bool = False
