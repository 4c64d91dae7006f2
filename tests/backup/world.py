"""What the tests of backup and restore share: caches, repositories, the program, and a real comparison."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.cache.builders import safetensors
from tests.storage.disks import python_environment
from zitcache.events import Cancel, Outcome, Progress, Session
from zitcache.repository.records import CuttingRules, RepositoryConfig, TreeEntry
from zitcache.repository.repository import Repository
from zitcache.repository.selection import Snapshot, list_snapshots
from zitcache.storage.local import LocalStorage
from zitcache.tasks.backup import BackupReport, BackupRequest, backup
from zitcache.tasks.restore import RestoreReport, RestoreRequest, restore
from zitcache.tasks.sample import SampleLayout, sample

KIB, MIB = 1 << 10, 1 << 20
NOBODY = 65534
LAYOUTS = list(SampleLayout)


# -- caches -----------------------------------------------------------------------------------------


def make_sample(directory: Path, layout: SampleLayout = SampleLayout.MODELSCOPE) -> Path:
    """A small real cache; returns ``directory``."""
    sample(directory, layout, Session())
    return directory


def noise(size: int, seed: str = "") -> bytes:
    """Bytes that no codec makes smaller, the same for the same seed."""
    return hashlib.shake_128(seed.encode()).digest(size)


def make_model(directory: Path, files: Mapping[str, bytes] | None = None) -> Path:
    """A plain model: a config, and weights of three tensors unless ``files`` says otherwise."""
    content = {
        "config.json": b'{"dim": 64}',
        "model.safetensors": weights({"a": 96 * KIB, "b": 200 * KIB, "c": 64 * KIB}),
    }
    if files is not None:
        content = {"config.json": b'{"dim": 64}', **files}
    for name, data in content.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return directory


def weights(sizes: Mapping[str, int], dtype: str = "U8") -> bytes:
    """A safetensors file of incompressible tensors; equal names and sizes have equal content."""
    return safetensors({name: (dtype, [size], noise(size, name)) for name, size in sizes.items()})


def settle(directory: Path) -> Path:
    """Wait until a file written just now can be told from one that is written again (the clock's tick)."""
    import time

    time.sleep(0.15)
    return directory


def flip(path: Path, offset: int | None = None) -> None:
    """Turn one bit over, and leave size, mode and time as they were."""
    status = path.stat()
    path.chmod(0o600)
    with path.open("r+b") as file:
        position = status.st_size // 2 if offset is None else offset % status.st_size
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 4]))
    path.chmod(stat.S_IMODE(status.st_mode))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


# -- repositories -----------------------------------------------------------------------------------


def make_repository(
    directory: Path, *, piece_size: int = 4 * MIB, merge_below: int = MIB, pack_size: int = 64 * MIB
) -> Path:
    """An empty repository with rules of its own, so that small caches have many pieces and packs."""
    config = RepositoryConfig(
        id=os.urandom(16).hex(),
        created="2026-01-01T00:00:00Z",
        cutting=CuttingRules(piece_size=piece_size, merge_below=merge_below),
        pack_size=pack_size,
    )
    directory.mkdir(parents=True)
    (directory / "config").write_bytes(msgspec.json.encode(config))
    return directory


def opened(repository: Path) -> Repository:
    return Repository.open(LocalStorage(repository))


def snapshots_in(repository: Path) -> list[Snapshot]:
    found, unreadable = list_snapshots(opened(repository))
    assert not unreadable
    return found


def entries_in(repository: Path, number: int = -1) -> dict[str, TreeEntry]:
    """The tree of a snapshot (the newest), by path."""
    record = snapshots_in(repository)[number].record
    return {entry.real_path: entry for entry in opened(repository).tree(record)}


def require_sound(repository: Path) -> None:
    """Every snapshot's every blob can be read, and nothing is unreadable."""
    found = opened(repository)
    everything = found.index
    assert not (found.unreadable_packs or found.unreadable_index or everything.lost_packs)
    for snapshot in snapshots_in(repository):
        for entry in found.tree(snapshot.record):
            for length, blob in found.piece_list(entry) if entry.kind == "file" else ():
                assert len(found.load_blob(blob)) == length


# -- running ----------------------------------------------------------------------------------------


class Watching(Progress):
    """Calls what a test wants at the moments that the pipelines tell about."""

    def __init__(
        self,
        on_file: Callable[[str], None] = lambda path: None,
        on_advance: Callable[[int], None] = lambda count: None,
        on_stage: Callable[[str], None] = lambda name: None,
    ) -> None:
        self._on_file, self._on_advance, self._on_stage = on_file, on_advance, on_stage

    def file(self, path: str) -> None:
        self._on_file(path)

    def advance(self, byte_count: int) -> None:
        self._on_advance(byte_count)

    def stage(self, name: str, total_bytes: int | None = None) -> None:
        self._on_stage(name)


def back_up(
    repository: Path,
    cache: Path,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    *,
    init: bool = True,
    **options: Any,
) -> Outcome[BackupReport]:
    request = BackupRequest(repository=str(repository), cache=str(cache), init=init, **options)
    return backup(request, Session(progress, cancel))


def bring_back(
    repository: Path,
    to: Path | str | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    **options: Any,
) -> Outcome[RestoreReport]:
    request = RestoreRequest(repository=str(repository), to=None if to is None else str(to), **options)
    return restore(request, Session(progress, cancel))


def codes(outcome: Outcome[Any]) -> list[str]:
    """The codes of its warnings."""
    return [warning.code for warning in outcome.warnings]


def command(*arguments: str | Path) -> list[str]:
    """The program, as a command line of this Python."""
    return [os.path.realpath(sys.executable), "-m", "zitcache", *map(str, arguments)]


def zitcache(
    *arguments: str | Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the program in a process of its own."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, env={**python_environment(), **(env or {})}
    )


def data_of(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Field ``data`` of what ``--json`` printed."""
    envelope = json.loads(done.stdout)
    assert envelope["exit_code"] == done.returncode, done.stderr
    data: dict[str, Any] = envelope["data"]
    return data


@contextmanager
def unprivileged() -> Iterator[None]:
    """Be nobody for the time of the block: permissions then mean something. Needs root."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


# -- comparing --------------------------------------------------------------------------------------


def describe(root: Path, *, skip: Sequence[str] = ()) -> dict[str, tuple[object, ...]]:
    """Everything about every name below ``root`` that a restore has to bring back."""
    names: dict[str, tuple[object, ...]] = {}
    inodes: defaultdict[int, list[str]] = defaultdict(list)
    for folder, directories, files in os.walk(root):
        directories[:] = [name for name in directories if name not in skip]
        for name in [*directories, *files]:
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, root)
            status = os.lstat(path)
            kind = stat.S_IFMT(status.st_mode)
            if kind == stat.S_IFLNK:
                names[relative] = ("symlink", os.readlink(path), status.st_mtime_ns)
                continue
            what: object = "directory"
            if kind == stat.S_IFREG:
                what = hashlib.sha256(Path(path).read_bytes()).hexdigest()
                inodes[status.st_ino].append(relative)
            names[relative] = (what, stat.S_IMODE(status.st_mode), status.st_mtime_ns)
    for group in inodes.values():
        for relative in group:
            names[relative] += (tuple(sorted(group)),)
    return names


def require_same(original: Path, restored: Path) -> None:
    """Two trees are the same by ``diff -r``, by ``sha256sum -c``, and in modes, times and links."""
    done = subprocess.run(
        ["diff", "-r", "--no-dereference", str(original), str(restored)], capture_output=True
    )
    assert done.returncode == 0, os.fsdecode(done.stdout + done.stderr)
    sums = subprocess.run(
        "find . -type f -print0 | xargs -0 -r sha256sum", shell=True, cwd=original, capture_output=True
    )
    if sums.stdout:
        checked = subprocess.run(
            ["sha256sum", "--check", "--strict", "--quiet", "-"],
            input=sums.stdout,
            cwd=restored,
            capture_output=True,
        )
        assert checked.returncode == 0, os.fsdecode(checked.stdout + checked.stderr)
    assert describe(restored) == describe(original)


def require_no_leftovers(*places: Path) -> None:
    """Nothing of ours lies in these directories or anywhere below."""
    for place in places:
        found = [name for _, directories, files in os.walk(place) for name in [*directories, *files]]
        assert not [name for name in found if name.startswith(".zitcache-")]
