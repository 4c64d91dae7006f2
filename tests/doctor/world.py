"""What the tests of doctor share."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from tests.backup.world import make_sample
from tests.storage.disks import MIB, ext4
from zitcache.events import Outcome, Session
from zitcache.machine.schedulers import Schedulers
from zitcache.repository.records import SnapshotRecord
from zitcache.repository.repository import Repository
from zitcache.storage.local import LocalStorage
from zitcache.tasks.backup import BackupRequest, backup
from zitcache.tasks.doctor import Check, DoctorReport, DoctorRequest, doctor, facts
from zitcache.tasks.sample import SampleLayout

SIZE = "22.3 MB"
"""Of the sample cache."""


@dataclass
class Box:
    """A machine of one test. ``system`` stands for ``/`` where settings are looked for."""

    place: Path
    home: Path
    system: Path
    patch: pytest.MonkeyPatch
    stack: ExitStack

    def cache(self, name: str = "cache", layout: SampleLayout = SampleLayout.MODELSCOPE) -> Path:
        """A sound cache on the system disk, named by MODELSCOPE_CACHE."""
        path = make_sample(self.place / name, layout)
        self.patch.setenv("MODELSCOPE_CACHE", str(path))
        return path

    def disk(self, name: str = "data", *, size: int = 96 * MIB) -> Path:
        """A data disk; skips where none can be mounted."""
        return self.stack.enter_context(ext4(self.place / name, size=size))

    def backup(self, cache: Path, repository: Path, *, days_ago: float = 0) -> Path:
        """A snapshot, made as if so many days ago; the repository is named by ZITCACHE_REPO."""
        self.patch.setenv("ZITCACHE_REPO", str(repository))
        outcome = backup(BackupRequest(repository=str(repository), cache=str(cache), init=True), Session())
        assert outcome.exit_code == 0
        if days_ago:
            self.make_older(repository, outcome.data.snapshot_id, days_ago)
        return repository

    def make_older(self, repository: Path, snapshot_id: str, days: float) -> None:
        """Write the snapshot anew with an earlier time, as a machine with that clock would have."""
        opened = Repository.open(LocalStorage(repository))
        record = opened.load_snapshot(snapshot_id)
        then = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - days * 86400))
        opened.write_snapshot(msgspec.structs.replace(record, time=then))
        (repository / "snapshots" / snapshot_id).unlink()

    def change_snapshot(self, repository: Path, **changes: object) -> None:
        """Replace the only snapshot by one with ``changes``."""
        opened = Repository.open(LocalStorage(repository))
        (snapshot_id,) = opened.snapshot_ids()
        record: SnapshotRecord = opened.load_snapshot(snapshot_id)
        opened.write_snapshot(msgspec.structs.replace(record, **changes))
        (repository / "snapshots" / snapshot_id).unlink()

    def runs_jobs(
        self, *, systemd: bool = False, cron: str | None = None, own_daemon: int | None = None
    ) -> None:
        """What is alive on this machine to run jobs."""
        found = Schedulers(systemd, cron is not None, cron, None, own_daemon)
        self.patch.setattr(facts, "find_schedulers", lambda: found)

    def write(self, name: str, text: str) -> Path:
        """A file below ``/`` if ``name`` begins with a slash, else in the home directory."""
        path = self.system / name[1:] if name.startswith("/") else self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


def examine(**request: object) -> Outcome[DoctorReport]:
    """Run doctor in this process."""
    return doctor(msgspec.convert(request, DoctorRequest), Session())


def check(outcome: Outcome[DoctorReport], check_id: str) -> Check:
    """The one check of that id."""
    (found,) = [found for found in outcome.data.checks if found.id == check_id]
    return found


def state(outcome: Outcome[DoctorReport], check_id: str) -> str:
    """Its status."""
    return check(outcome, check_id).status


def as_lines(path: Path) -> list[str]:
    """Every name below ``path`` with size and time of change: equal when nothing was touched."""
    found = []
    for folder, folders, names in os.walk(path):
        for name in [*folders, *names]:
            status = os.lstat(os.path.join(folder, name))
            found.append(f"{os.path.join(folder, name)} {status.st_size} {status.st_mtime_ns}")
    return sorted(found)
