"""What the tests of ``migrate`` share: a cache with everything in it, two disks, runs that are killed."""

from __future__ import annotations

import os
import signal
import stat
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.backup.world import describe, noise, weights
from tests.storage.disks import ext4, xfs
from zitcache.events import Cancel, Outcome, Progress, Session
from zitcache.machine import libc
from zitcache.tasks.migrate import MigrateReport, MigrateRequest, migrate
from zitcache.tasks.migrate.names import JOURNAL_NAME, LEFTOVERS_NAME, PART_PREFIX, old_place

KIB, MIB = 1 << 10, 1 << 20
OWN = (".zitcache-migrated.json", ".zitcache-kit", LEFTOVERS_NAME)


@dataclass(frozen=True)
class Disks:
    """``system``: where the cache is; ``data``: where it goes. Two real file systems."""

    system: Path
    data: Path

    @property
    def cache(self) -> Path:
        return self.system / "work" / "model_cache"

    @property
    def target(self) -> Path:
        return self.data / "modelscope_cache"


@contextmanager
def two_disks(place: Path, *, system_size: int = 96 * MIB, data_size: int = 320 * MIB) -> Iterator[Disks]:
    """An ext4 and an XFS, through loop devices."""
    with ExitStack() as stack:
        system = stack.enter_context(ext4(place / "system", size=system_size))
        data = stack.enter_context(xfs(place / "data", size=data_size))
        yield Disks(system, data)


def make_cache(root: Path, big: int = 9 * MIB + 123) -> Path:
    """A model, and everything else that lies in real caches: links, tokens, locks, odd names and modes."""
    model = root / "models" / "owner--name" / "snapshots" / "master"
    files: dict[str | bytes, bytes] = {
        "config.json": b'{"dim": 64}',
        "model.safetensors": weights({"a": 96 * KIB, "b": 200 * KIB}),
        "big.bin": noise(big, "big"),
        "empty.txt": b"",
        "big.bin.incomplete": noise(70 * KIB, "incomplete"),
        "na\nme.txt": b"newline",
        os.fsdecode(b"\xff\xfe.txt"): b"not UTF-8",
    }
    for name, data in files.items():
        path = model / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (root / "token").write_bytes(b"hf_secret")
    (root / "token").chmod(0o600)
    (root / ".lock").mkdir()
    (root / ".lock" / "owner--name").touch()
    (root / "empty" / "inner").mkdir(parents=True)
    hub = root / "hub" / "models--owner--name"
    (hub / "blobs").mkdir(parents=True)
    (hub / "snapshots" / "abc").mkdir(parents=True)
    (hub / "blobs" / "0123").write_bytes(noise(2 * MIB, "blob"))
    (hub / "snapshots" / "abc" / "config.json").symlink_to("../../blobs/0123")
    (hub / "snapshots" / "abc" / "absolute").symlink_to(root / "token")
    (hub / "snapshots" / "abc" / "nowhere").symlink_to("gone")
    os.link(hub / "blobs" / "0123", hub / "second name")
    (model / "config.json").chmod(0o640)
    for number, path in enumerate(sorted(root.rglob("*"), key=os.fspath, reverse=True)):
        moment = 1_600_000_000_123_456_789 + number * 1_000_000_007
        os.utime(path, ns=(moment, moment), follow_symlinks=False)
    (root / "empty").chmod(0o555)
    os.utime(root, ns=(1_500_000_000_000_000_001, 1_500_000_000_000_000_001))
    return root


def make_small_cache(root: Path) -> Path:
    """One of everything, for tests that move it hundreds of times."""
    model = root / "models" / "owner--name"
    (model / "blobs").mkdir(parents=True)
    (model / "blobs" / "0123").write_bytes(noise(40 * KIB, "blob"))
    (model / "config.json").write_bytes(b'{"dim": 64}')
    (model / "link").symlink_to("blobs/0123")
    os.link(model / "config.json", model / "second name")
    (root / "empty").mkdir(mode=0o555)
    return root


def move(
    target: Path | str | None,
    cache: Path | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    confirm: Any = None,
    **options: Any,
) -> Outcome[MigrateReport]:
    """Migrate in this process, without environment and kit unless asked for."""
    settings = {"environment": False, "kit": False, **options}
    request = MigrateRequest(
        target=None if target is None else str(target),
        cache=None if cache is None else str(cache),
        **settings,
    )
    return migrate(request, Session(progress, cancel), confirm)


def look(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything about every name of a cache, seen through the path ``root``, which may be a link.

    Without zitcache's own notes there, and temporary ones that a killed run left.
    """
    found = describe(Path(os.path.realpath(root)), skip=(*OWN, JOURNAL_NAME, "lost+found"))
    return {
        name: value
        for name, value in found.items()
        if name not in OWN and not name.startswith(".zitcache-tmp-")
    }


def root_facts(path: Path) -> tuple[int, int, int, int]:
    status = path.stat()
    return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns


def require_moved(disks: Disks, before: Mapping[str, object], *, old_copy: bool) -> None:
    """The cache lies at the target, the old path is a link to it, and nothing half done lies around."""
    assert disks.cache.is_symlink() and os.path.realpath(disks.cache) == str(disks.target)
    assert look(disks.cache) == before
    assert (disks.target / ".zitcache-migrated.json").is_file()
    assert old_place(disks.cache).is_dir() == old_copy
    require_tidy(disks)


def require_tidy(disks: Disks) -> None:
    for place in (disks.system, disks.data):
        for _, folders, names in os.walk(place):
            for name in (*folders, *names):
                assert not name.startswith((PART_PREFIX, JOURNAL_NAME, ".zitcache-link-", ".zitcache-tmp-"))


# -- runs that are killed ---------------------------------------------------------------------------

OPERATIONS = (
    "rename", "replace", "symlink", "link", "unlink", "mkdir", "rmdir", "fsync", "fdatasync", "chmod",
    "utime", "pwrite", "ftruncate",
)  # fmt: skip


def run_killed_at(operation: int, action: Callable[[], object]) -> bool:
    """Run ``action`` in a forked process that kills itself at its n-th change of the disk.

    Returns False when it ended on its own before that; a failure of the action is an error.
    """

    def arm() -> None:
        count = 0

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                nonlocal count
                count += 1
                if count == operation:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **options)

            return call

        _replace_operations(counted)

    return run_forked(action, arm) == -signal.SIGKILL


def count_changes(action: Callable[[], object]) -> int:
    """How many changes of the disk ``action`` makes, in a forked process."""
    reader, writer = os.pipe()

    def counted() -> None:
        count = 0

        def counting(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                nonlocal count
                count += 1
                return function(*arguments, **options)

            return call

        _replace_operations(counting)
        action()
        os.write(writer, str(count).encode())

    assert run_forked(counted) == 0
    found = int(os.read(reader, 20))
    os.close(reader)
    os.close(writer)
    return found


def _replace_operations(wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    for name in OPERATIONS:
        setattr(os, name, wrap(getattr(os, name)))
    libc.renameat2 = wrap(libc.renameat2)
    libc.sync_file_system = wrap(libc.sync_file_system)


def run_forked(action: Callable[[], object], prepare: Callable[[], None] = lambda: None) -> int:
    """Run ``action`` in a forked process; 0, or minus the signal that ended it."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        try:
            prepare()
            action()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(99)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code <= 0, "the forked run failed"
    return code
