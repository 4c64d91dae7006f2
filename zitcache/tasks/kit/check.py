"""Prove that a kit works: every byte is there, and it does real work on a machine that has nothing else.

The programs of the kit run as after a reset: an empty home, no variables, no site-packages, no network. They
rehearse a loss on a sample, and they read from the very repository or migrated cache that the kit is for.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from glob import escape
from hashlib import sha256
from pathlib import Path
from typing import Any

from zitcache import __version__
from zitcache.cache.marker import MARKER_NAME
from zitcache.errors import ZitcacheError
from zitcache.events import Session
from zitcache.repository.records import TreeEntry
from zitcache.repository.repository import Repository
from zitcache.repository.selection import list_snapshots, newest_good
from zitcache.storage.opening import open_storage
from zitcache.tasks.discovery import looks_like_repository
from zitcache.tasks.kit.layout import (
    LAUNCHER,
    LIBRARY,
    RECOVER,
    SCRIPTS,
    parts_of,
    python_tag,
    read_manifest,
)
from zitcache.tasks.kit.report import KitReport, KitStep

_TIMEOUT_SECONDS = 120
_BARE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CHUNK = 1 << 20
_SHOWN = 3


class _Failed(Exception):
    """A step did not work; the message says why."""


def check_kit(kit: Path, session: Session) -> KitReport:
    """Try everything and tell how it went. Raises ``OSError`` only where nothing temporary can be made."""
    parts = parts_of(kit)
    report = KitReport(
        action="checked",
        path=str(kit),
        tag=python_tag(),
        program=__version__,
        parts=[part.name for part in parts],
    )
    with tempfile.TemporaryDirectory(prefix="zitcache-kit-check-") as folder:
        bare = _BareMachine(kit, Path(folder))
        steps: list[tuple[str, Callable[[], str]]] = [
            ("files", lambda: _check_files(kit, parts, report, session)),
            ("start", lambda: _check_start(bare)),
            ("rehearsal", lambda: _check_rehearsal(bare)),
        ]
        if looks_like_repository(kit.parent):
            steps.append(("snapshots", lambda: _check_repository(bare, kit.parent)))
        elif os.path.lexists(kit.parent / MARKER_NAME):
            steps.append(("migrated cache", lambda: _check_migrated(bare, kit.parent)))
        for name, action in steps:
            session.cancel.check()
            session.progress.stage(f"Trying the kit: {name}")
            report.steps.append(_step(name, action))
    return report


def _step(name: str, action: Callable[[], str]) -> KitStep:
    started = time.monotonic()
    try:
        ok, detail = True, action()
    except _Failed as failed:
        ok, detail = False, str(failed)
    except (ZitcacheError, OSError) as error:
        ok, detail = False, error.message if isinstance(error, ZitcacheError) else str(error)
    return KitStep(name=name, ok=ok, seconds=time.monotonic() - started, detail=detail)


# -- what is there ------------------------------------------------------------------------------------


def _check_files(kit: Path, parts: Sequence[Path], report: KitReport, session: Session) -> str:
    """Every file of every part against its manifest, and the shared scripts against one of them."""
    if not parts:
        raise _Failed("it holds no zitcache for any Python")
    problems: list[str] = []
    shared: list[dict[str, tuple[int, str]]] = []
    for part in parts:
        manifest = read_manifest(part)
        shared.append(manifest.scripts)
        for name, expected in manifest.files.items():
            session.cancel.check()
            problem = _problem(part / name, expected)
            if problem is not None:
                problems.append(f"{part.name}/{name} {problem}")
        present = {str(path.relative_to(part)) for path in (part / LIBRARY).rglob("*") if not path.is_dir()}
        strange = sorted(present - set(manifest.files))
        problems += [f"{part.name}/{name} does not belong there" for name in strange if ".pyc" not in name]
        report.files += len(manifest.files)
        report.bytes += manifest.size_bytes
    for name in SCRIPTS:
        found = [_problem(kit / name, each[name]) if name in each else "is not listed" for each in shared]
        if None not in found:
            problems.append(f"{name} {found[0]}")
    if problems:
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise _Failed("; ".join(problems[:_SHOWN]) + more)
    return f"{report.files} files, {report.bytes / 1e6:.0f} MB, as in the manifest"


def _problem(path: Path, expected: tuple[int, str]) -> str | None:
    digest, size = sha256(), 0
    try:
        with path.open("rb", buffering=0) as file:
            while data := file.read(_CHUNK):
                digest.update(data)
                size += len(data)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if size != expected[0]:
        return f"has {size} bytes instead of {expected[0]}"
    return None if digest.hexdigest() == expected[1] else "is damaged"


# -- whether it runs ----------------------------------------------------------------------------------


class _BareMachine:
    """Runs the kit's scripts with an empty home, next to no environment and no network."""

    def __init__(self, kit: Path, folder: Path) -> None:
        self.kit = kit
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        self._without_network = _network_remover()
        self.isolation = "no network" if self._without_network else "no network (guarded)"

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``sh KIT/SCRIPT ARGUMENTS``; raises when it does not end with 0."""
        environment = {
            "HOME": str(self.home),
            "PATH": _BARE_PATH,
            "ZITCACHE_KIT_OFFLINE": "1",
            # Nothing that it does may reach the settings of this machine.
            "ZITCACHE_SYSTEM_ROOT": str(self.folder / "system"),
        }
        try:
            done = subprocess.run(
                [*self._without_network, "/bin/sh", str(self.kit / script), *arguments],
                env=environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TIMEOUT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise _Failed(f"{script} {arguments[0]} did not end within {_TIMEOUT_SECONDS} s") from None
        if done.returncode:
            said = " ".join((done.stderr.strip() or done.stdout.strip()).split())
            raise _Failed(f"{script} {arguments[0]} ended with {done.returncode}: {said[:500]}")
        return done

    def data(self, script: str, *arguments: str) -> dict[str, Any]:
        """The field ``data`` of what ``--json`` prints."""
        done = self.run(script, *arguments, "--json")
        try:
            found = json.loads(done.stdout)["data"]
        except (ValueError, KeyError, TypeError):
            raise _Failed(f"{script} {arguments[0]} printed no JSON") from None
        if not isinstance(found, dict):
            raise _Failed(f"{script} {arguments[0]} printed no data")
        return found


def _network_remover() -> list[str]:
    """A command in front that takes the network away, if that is allowed here."""
    program = shutil.which("unshare", path=_BARE_PATH)
    for options in (["-n"], ["-r", "-n"]):
        if program is None:
            break
        tried = subprocess.run([program, *options, "true"], capture_output=True, env={"PATH": _BARE_PATH})
        if tried.returncode == 0:
            return [program, *options]
    return []


def _check_start(bare: _BareMachine) -> str:
    bare.run(RECOVER, "--help")
    version = bare.run(LAUNCHER, "--version").stdout.strip()
    return f"{version}, {bare.isolation}"


def _check_rehearsal(bare: _BareMachine) -> str:
    """Backup, loss and restore of a real sample: codec, format and disk, all with what is in the kit."""
    scratch = bare.folder / "rehearsal"
    scratch.mkdir()
    found = bare.data(LAUNCHER, "drill", "--sample", "--no-picture", "--scratch", str(scratch))
    if found.get("ok") is not True:
        raise _Failed("a sample was not restored as it was")
    return f"a sample of {found.get('size_bytes', 0) / 1e6:.0f} MB was saved, lost and restored"


def _check_repository(bare: _BareMachine, place: Path) -> str:
    """Restore the smallest file of the newest good snapshot, and compare it with its digest."""
    repository = Repository.open(open_storage(str(place)))
    snapshots, _ = list_snapshots(repository)
    newest = newest_good(snapshots)
    if newest is None:
        return "there is no good snapshot yet to read from"
    files = [entry for entry in repository.tree(newest.record) if entry.kind == "file" and entry.size]
    if not files:
        return "the newest good snapshot holds no content"
    smallest = min(files, key=lambda entry: entry.size)
    target = bare.folder / "restored"
    bare.data(
        LAUNCHER,
        "restore",
        newest.id,
        *("--repo", str(place)),
        *("--to", str(target)),
        *("--only", escape(smallest.real_path)),
    )
    if not _is_restored(target, smallest):
        raise _Failed(f"{smallest.path} of snapshot {newest.short_id} was not restored as it was")
    return f"{smallest.path} came back from snapshot {newest.short_id}, byte for byte"


def _is_restored(target: Path, entry: TreeEntry) -> bool:
    from blake3 import blake3

    return blake3((target / entry.real_path).read_bytes()).hexdigest() == entry.blake3


def _check_migrated(bare: _BareMachine, place: Path) -> str:
    """What recover.sh would do, without doing it: reads the marker and every header of the cache."""
    found = bare.data(RECOVER, "--dry-run")
    rows = [
        row for row in found.get("candidates", []) if os.path.realpath(row["place"]) == str(place.resolve())
    ]
    if not rows or not rows[0]["good"]:
        problem = rows[0].get("problem") if rows else "it was not found"
        raise _Failed(f"the migrated cache {place} is not seen as good: {problem}")
    return f"the migrated cache {place} is complete and would be linked at {rows[0]['cache']}"
