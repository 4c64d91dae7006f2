"""Room for so many bytes and names, on disks and quotas that are really too small."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.storage.disks import MIB, btrfs, ext4, mounted, names_under, python_environment, tmpfs, xfs
from zitcache.errors import CredentialsError, NoSpace, UsageError
from zitcache.machine import libc, space
from zitcache.machine.mounts import free_space
from zitcache.machine.space import require_room


@contextmanager
def quota(mount_point: Path, *, limit: int) -> Iterator[Path]:
    """A Btrfs whose subvolume ``limited`` may hold ``limit`` bytes, which ``statvfs`` does not know."""
    with btrfs(mount_point, size=256 * MIB) as disk:
        for words in (
            ["quota", "enable", str(disk)],
            ["subvolume", "create", str(disk / "limited")],
            ["qgroup", "limit", str(limit), str(disk / "limited")],
        ):
            done = subprocess.run(["btrfs", *words], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"no Btrfs quotas here: {done.stderr.strip()}")
        yield disk / "limited"


@pytest.mark.root
@pytest.mark.parametrize("make", [ext4, xfs, btrfs, tmpfs])
def test_room_is_told_and_nothing_stays(tmp_path: Path, make: Callable[..., object]) -> None:
    with make(tmp_path / "disk") as disk:  # type: ignore[attr-defined]
        before = names_under(disk)
        free = require_room(disk / "later" / "cache", 2 * MIB, names=100)
        assert free.bytes_free >= 2 * MIB
        assert names_under(disk) == before and not any(disk.glob(".zitcache*"))
        os.sync()
        deadline = time.monotonic() + 10  # XFS gives back in the background
        while abs(free_space(disk).bytes_free - free.bytes_free) >= MIB:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.root
def test_too_few_bytes(tmp_path: Path) -> None:
    told = r"needs 32\.85 GB; its disk has .* MB free"
    with ext4(tmp_path / "disk") as disk, pytest.raises(NoSpace, match=told):
        require_room(disk, 32_850_000_000, 16)


@pytest.mark.root
def test_too_few_inodes(tmp_path: Path) -> None:
    with ext4(tmp_path / "disk", inodes=64) as disk, pytest.raises(NoSpace, match="needs 500 inodes"):
        require_room(disk, 1, 500)


@pytest.mark.root
def test_a_quota_that_the_disk_does_not_tell(tmp_path: Path) -> None:
    with quota(tmp_path / "disk", limit=20 * MIB) as place:
        require_room(place, 5 * MIB)
        assert free_space(place).bytes_free > 60 * MIB
        with pytest.raises(NoSpace, match="quota does not allow"):
            require_room(place, 50 * MIB)
        assert not any(place.iterdir())


@pytest.mark.root
def test_a_quota_where_nothing_can_be_reserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on NFS before 4.2: so much is written that a quota which is used up shows."""
    monkeypatch.setattr(libc, "reserve", lambda *_: errno.EOPNOTSUPP)
    with quota(tmp_path / "disk", limit=20 * MIB) as place:
        require_room(place, 2 * MIB)
        (place / "file").write_bytes(os.urandom(17 * MIB))
        os.sync()
        with pytest.raises(NoSpace, match="quota does not allow"):
            require_room(place, 50 * MIB)
        assert [path.name for path in place.iterdir()] == ["file"]


def test_little_is_written_where_nothing_can_be_reserved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    monkeypatch.setattr(libc, "reserve", lambda *_: errno.EOPNOTSUPP)
    monkeypatch.setattr(space, "write_all", lambda _, data: written.append(len(data)))
    require_room(tmp_path, 1 << 30)
    require_room(tmp_path, 1000)
    assert written == [space.WRITTEN_PROBE_BYTES, 1000]


def test_a_file_system_without_nameless_files_is_asked_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open, opened = os.open, []

    def refusing(path: str, flags: int, *arguments: int, **more: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "not here")
        opened.append(str(path))
        return real_open(path, flags, *arguments, **more)

    monkeypatch.setattr(os, "open", refusing)
    require_room(tmp_path, 1000)
    assert any(".zitcache-tmp-" in path for path in opened)
    assert names_under(tmp_path) == []


def test_a_slow_disk_is_not_asked_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1000))
    asked: list[int] = []

    def reserve(fd: int, offset: int, length: int) -> int:
        asked.append(length)
        return 0

    monkeypatch.setattr(libc, "reserve", reserve)
    monkeypatch.setattr(space.time, "monotonic", lambda: float(next(clock)))
    require_room(tmp_path, 20 << 30)
    assert 1 <= len(asked) <= 2


def test_nothing_is_left_when_the_process_is_killed_while_asking(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from zitcache.machine import libc, space\n"
        "def reserve(*_):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "libc.reserve = reserve\n"
        "space.require_room(sys.argv[1], 1 << 20)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], env=python_environment())
    assert done.returncode == -signal.SIGKILL
    assert names_under(tmp_path) == []


@pytest.mark.root
def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    with (
        mounted(["-t", "tmpfs", "-o", "size=1m,ro", "tmpfs"], tmp_path / "disk") as disk,
        pytest.raises(CredentialsError, match="Read-only"),
    ):
        require_room(disk, 1000)
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(UsageError):
        require_room(tmp_path / "file", 1000)
