"""What a file system can do, on real ones; and copies that share their blocks."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.storage.disks import (
    MIB,
    btrfs,
    ext4,
    mounted,
    names_under,
    overlay,
    python_environment,
    tmpfs,
    xfs,
)
from zitcache.machine import capabilities
from zitcache.machine.capabilities import probe
from zitcache.machine.clone import clone_file
from zitcache.machine.mounts import mounts

REFLINK = {"ext4": False, "xfs": True, "btrfs": True, "tmpfs": False}


def disk(kind: str, place: Path) -> AbstractContextManager[Path]:
    return {"ext4": ext4, "xfs": xfs, "btrfs": btrfs, "tmpfs": tmpfs}[kind](place)


@pytest.mark.root
@pytest.mark.parametrize("kind", sorted(REFLINK))
def test_a_linux_file_system_can_all_but_sometimes_reflink(tmp_path: Path, kind: str) -> None:
    with disk(kind, tmp_path / "disk") as place:
        before = names_under(place)
        found = probe(place / "not" / "there yet")
        assert found.reflink is REFLINK[kind]
        assert found.symlink and found.hard_link and found.exchange and found.directory_fsync
        assert found.modes and found.locks and found.case_sensitive
        assert not found.noexec
        assert found.max_file_bytes is None
        assert names_under(place) == before and not any(place.glob(".zitcache*"))


@pytest.mark.root
def test_fat_can_do_little(tmp_path: Path) -> None:
    """A USB stick or an exchange partition: it takes no shard of 9.97 GB."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(16 * MIB)
    made = subprocess.run(["mkfs.vfat", str(image)], capture_output=True)
    if made.returncode:
        pytest.skip("needs mkfs.vfat (package dosfstools)")
    with mounted(["-t", "vfat", "-o", "loop", str(image)], tmp_path / "disk") as place:
        found = probe(place)
    assert not (found.symlink or found.hard_link or found.reflink or found.modes)
    assert not found.case_sensitive
    assert found.max_file_bytes == (4 << 30) - 1


def test_a_file_on_fat_has_at_most_4_gib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fat = mounts("1 0 8:1 / / rw - vfat /dev/sdz1 rw")[0]
    monkeypatch.setattr(capabilities, "mount_of", lambda _: fat)
    assert probe(tmp_path).max_file_bytes == (4 << 30) - 1


@pytest.mark.root
def test_overlay_swaps_directories_of_its_own(tmp_path: Path) -> None:
    with (
        xfs(tmp_path / "disk") as place,
        overlay(tmp_path / "top", lower=place / "l", upper=place / "u", work=place / "w") as top,
    ):
        found = probe(top)
        assert found.exchange and found.symlink
        assert names_under(top) == [] and names_under(place / "u") == []


@pytest.mark.root
def test_a_place_without_programs_is_told(tmp_path: Path) -> None:
    with mounted(["-t", "tmpfs", "-o", "size=1m,noexec", "tmpfs"], tmp_path / "disk") as place:
        assert probe(place).noexec


@pytest.mark.root
def test_where_nothing_can_be_written_there_is_an_error(tmp_path: Path) -> None:
    with mounted(["-t", "tmpfs", "-o", "size=1m,ro", "tmpfs"], tmp_path / "disk") as place:
        with pytest.raises(OSError) as caught:
            probe(place)
        assert caught.value.errno == errno.EROFS
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(NotADirectoryError):
        probe(tmp_path / "file")


def test_the_limit_of_the_process_counts(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from zitcache.machine.capabilities import probe\n"
        "print(probe(sys.argv[1]).max_file_bytes)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=python_environment(),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30)),
    )
    assert int(done.stdout) == 1 << 30


@pytest.mark.root
@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_a_clone_shares_its_blocks_and_is_a_file_of_its_own(tmp_path: Path, kind: str) -> None:
    data = os.urandom(8 * MIB)
    with disk(kind, tmp_path / "disk") as place:
        (place / "a").write_bytes(data)
        os.sync()
        free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
        with (place / "a").open("rb") as source, (place / "b").open("wb") as target:
            assert clone_file(source.fileno(), target.fileno()) is True
        os.sync()
        assert free - os.statvfs(place).f_bavail * os.statvfs(place).f_frsize < 4 * MIB
        assert (place / "b").read_bytes() == data
        with (place / "b").open("r+b") as file:
            file.write(b"changed")
        assert (place / "a").read_bytes() == data


@pytest.mark.root
def test_no_clone_across_disks_or_where_there_is_none(tmp_path: Path) -> None:
    with xfs(tmp_path / "one") as one, ext4(tmp_path / "two") as two:
        (one / "a").write_bytes(b"content")
        (two / "a").write_bytes(b"content")
        for source, target in ((one / "a", two / "b"), (two / "a", two / "c")):
            with source.open("rb") as reader, target.open("wb") as writer:
                assert clone_file(reader.fileno(), writer.fileno()) is False
            assert target.read_bytes() == b""


@pytest.mark.root
def test_a_failure_that_is_not_about_cloning_is_raised(tmp_path: Path) -> None:
    with xfs(tmp_path / "disk") as place:
        (place / "a").write_bytes(b"content")
        with (place / "a").open("rb") as source, (place / "a").open("rb") as read_only:
            with pytest.raises(OSError) as caught:
                clone_file(source.fileno(), read_only.fileno())
            assert caught.value.errno == errno.EBADF
