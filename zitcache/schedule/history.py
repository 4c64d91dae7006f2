"""What each run did: kept in the repository, because the system disk and its logs die in a reset.

A run is one record (folder ``runs/``, see docs/FORMAT.md), written once when it ends. When the repository
cannot be written, which is what a night most needs to tell, the record waits in the state directory and moves
over with the next run. The newest :data:`KEEP` are kept.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from zitcache.codec.frame import FrameKind
from zitcache.errors import NotFound, ZitcacheError, from_os_error
from zitcache.events import Notice
from zitcache.machine.files import write_durably
from zitcache.machine.texts import exact_text, json_text
from zitcache.repository.objects import load_objects
from zitcache.repository.records import decode_record
from zitcache.repository.repository import Repository

FOLDER = "runs"
KEEP = 400
MAX_LOG_CHARACTERS = 128 << 10
_MAX_SPOOLED_BYTES = 4 << 20
_SPOOL_LIMIT = 100
_SYSTEM_STATE = "var/lib/zitcache"

Code = Annotated[int, msgspec.Meta(ge=0, le=255)]


class StepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a run. ``data``: its command's report, as in the JSON envelope; ``message``: a line."""

    name: str
    exit_code: Code
    seconds: float
    message: str = ""
    skipped: bool = False
    data: msgspec.Raw = msgspec.Raw(b"null")


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A run from start to end. Times are seconds since the epoch; ``log`` is what it would have printed."""

    version: Literal[1] = 1
    command: str
    host: str
    program: str
    started: float
    ended: float
    exit_code: Code
    steps: list[StepRecord] = []
    warnings: list[Notice] = []
    log: str = ""

    def step(self, name: str) -> StepRecord | None:
        """The step of that name that really ran, if one did."""
        return next((step for step in self.steps if step.name == name and not step.skipped), None)


@dataclass(frozen=True, slots=True)
class Run:
    """A record and its id, 64 hex digits. ``pending``: it waits in the state directory."""

    id: str
    record: RunRecord
    pending: bool = False


def state_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Where small things of this machine are kept: systemd's ``StateDirectory``, else the user's.

    Root uses the one that systemd has made, if it has: a night of a unit and a command that is typed must
    see the same lock and the same waiting records. ``ZITCACHE_SYSTEM_ROOT`` stands for ``/`` in tests.
    Source: XDG Base Directory Specification, ``systemd.exec(5)``.
    """
    given = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if given.startswith("/"):
        return Path(given)
    base = environ.get("XDG_STATE_HOME", "")
    if not base.startswith("/"):
        system = Path(environ.get("ZITCACHE_SYSTEM_ROOT") or "/", _SYSTEM_STATE)
        if os.geteuid() == 0 and system.is_dir():
            return system
        base = os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".local", "state")
    return Path(base) / "zitcache"


def remember(run: RunRecord, repository: Repository | None, state: Path) -> list[Notice]:
    """Keep a run, in the repository if it can be written. Never raises: remembering must not fail a night."""
    run = _translated(msgspec.structs.replace(run, log=run.log[-MAX_LOG_CHARACTERS:]), json_text)
    notices: list[Notice] = []
    if repository is not None:
        _move_spooled(repository, state)  # first, so that the newest run is the last one written
        try:
            repository.store_record(FOLDER, run)
        except ZitcacheError as error:
            notices.append(
                Notice(code="history-not-written", message=f"The run is not in the history: {error.message}")
            )
        else:
            _drop_old(repository)
            return notices
    try:
        _spool(run, state)
    except OSError as error:
        reason = from_os_error(error, f"writing to {state}").message
        notices.append(Notice(code="history-not-written", message=f"The run is not recorded: {reason}"))
    return notices


def recent_runs(repository: Repository | None, state: Path, limit: int = KEEP) -> list[Run]:
    """The newest runs, newest first, those waiting in ``state`` included, without damaged ones.

    Raises what listing the repository raises: "nothing is recorded" must not be said of what was not seen.
    """
    runs = [
        Run(_name(path), _translated(record, exact_text), pending=True) for path, record in _spooled(state)
    ]
    if repository is not None:
        infos = sorted(repository.storage.list(FOLDER), key=lambda info: info.modified, reverse=True)
        # By time of writing, of which a copied repository may have lost the order: some more are read.
        wanted = infos[: limit + 16]
        for name, found in load_objects(repository.storage, wanted, FrameKind.RECORD, RunRecord):
            if isinstance(found, RunRecord):
                runs.append(Run(name.rpartition("/")[2], _translated(found, exact_text)))
    runs.sort(key=lambda run: run.record.started, reverse=True)
    return runs[:limit]


def find_run(runs: Sequence[Run], selector: str) -> Run:
    """The run that ``selector`` names: "latest" or the beginning of an id. Raises ``NotFound``."""
    if not runs:
        raise NotFound("No run is recorded yet.", hint="Make one: zitcache night")
    if selector == "latest":
        return runs[0]
    matches = [run for run in runs if selector and run.id.startswith(selector.lower())]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise NotFound(f"{selector!r} fits {len(matches)} runs; give more digits of the id.")
    raise NotFound(f"No run has an id that starts with {selector!r}.", hint="List them: zitcache history")


def own_runs(runs: Sequence[Run]) -> list[Run]:
    """Those of this machine. A machine that has none yet counts all: a container has a new name each time."""
    host = socket.gethostname()
    return [run for run in runs if run.record.host == host] or list(runs)


def last_with_step(
    runs: Sequence[Run], name: str, *, succeeded: bool = False
) -> tuple[Run, StepRecord] | None:
    """The newest run in which the step ``name`` ran (``succeeded``: with exit code 0), and that step."""
    for run in runs:
        step = run.record.step(name)
        if step is not None and (step.exit_code == 0 or not succeeded):
            return run, step
    return None


def _drop_old(repository: Repository) -> None:
    with contextlib.suppress(ZitcacheError):
        infos = sorted(repository.storage.list(FOLDER), key=lambda info: info.modified)
        for info in infos[:-KEEP]:
            # Where nothing may be deleted (an append-only role), the history only grows.
            repository.storage.delete(info.name)


def _spool(run: RunRecord, state: Path) -> None:
    folder = state / FOLDER
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    waiting = sorted(folder.glob("*.json"))
    for path in waiting[: max(0, len(waiting) - _SPOOL_LIMIT + 1)]:
        path.unlink(missing_ok=True)
    name = f"{int(run.started * 1000):015d}-{os.urandom(4).hex()}.json"
    write_durably(folder / name, msgspec.json.encode(run), mode=0o600)


def _spooled(state: Path) -> list[tuple[Path, RunRecord]]:
    found = []
    with contextlib.suppress(OSError):
        for path in sorted((state / FOLDER).glob("*.json")):
            with contextlib.suppress(OSError, ZitcacheError):
                with path.open("rb") as file:
                    data = file.read(_MAX_SPOOLED_BYTES)
                found.append((path, decode_record(data, RunRecord, "record of a run")))
    return found


def _move_spooled(repository: Repository, state: Path) -> None:
    for path, record in _spooled(state):
        with contextlib.suppress(ZitcacheError, OSError):
            repository.store_record(FOLDER, record)
            path.unlink()


def _translated(run: RunRecord, translate: Callable[[str], str]) -> RunRecord:
    """A record with all of its texts translated: names in it may be no valid Unicode, which JSON must be.

    The ``data`` of its steps are JSON already.
    """
    replace = msgspec.structs.replace
    return replace(
        run,
        log=translate(run.log),
        steps=[replace(step, message=translate(step.message)) for step in run.steps],
        warnings=[
            replace(
                notice,
                message=translate(notice.message),
                hint=None if notice.hint is None else translate(notice.hint),
            )
            for notice in run.warnings
        ],
    )


def _name(path: Path) -> str:
    """An id for a run that has none yet. It gets another one when it moves into the repository."""
    from blake3 import blake3

    return blake3(path.name.encode()).hexdigest()
