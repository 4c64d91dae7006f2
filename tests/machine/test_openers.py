"""Who is writing there: real processes with real files open."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.storage.disks import btrfs, mounted, tmpfs
from zitcache.machine.openers import sees_everyone, writers_below

OPEN = "file = open(sys.argv[1], sys.argv[2])"
MAP_TO_READ = "file = open(sys.argv[1], 'rb'); area = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)"
MAP_TO_WRITE = (
    "import ctypes\n"
    "file = open(sys.argv[1], 'r+b')\n"
    "call = ctypes.CDLL(None).mmap\n"
    "call.restype = ctypes.c_void_p\n"
    "assert call(None, ctypes.c_size_t(4096), 3, 1, file.fileno(), ctypes.c_long(0)) != 2**64 - 1\n"
    "file.close()"
)
"""A mapping of which no descriptor is left: Python's own keeps one."""


@contextmanager
def process(statement: str, *arguments: str) -> Iterator[int]:
    """Another process that has run ``statement`` and then waits. Gives its id."""
    program = f"import mmap, sys\n{statement}\nprint('ready', flush=True)\nsys.stdin.read()\n"
    child = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        yield child.pid
    finally:
        child.communicate()


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "cache" / "models" / "shard"
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(8192))
    return path


def found(directory: Path) -> list[tuple[int, str]]:
    return [(opener.pid, opener.path) for opener in writers_below(directory)]


@pytest.mark.parametrize("mode", ["ab", "r+b", "wb"])
def test_a_writer_is_found_with_its_name(tmp_path: Path, shard: Path, mode: str) -> None:
    with process(OPEN, str(shard), mode) as pid:
        (opener,) = writers_below(tmp_path / "cache")
        assert (opener.pid, opener.path) == (pid, str(shard))
        assert opener.name.startswith("python")
        assert found(shard) == [(pid, str(shard))]
    assert found(tmp_path / "cache") == []


def test_a_reader_is_no_writer(tmp_path: Path, shard: Path) -> None:
    with process(OPEN, str(shard), "rb"), process(MAP_TO_READ, str(shard)):
        assert found(tmp_path / "cache") == []


def test_a_mapping_that_can_be_written_counts(tmp_path: Path, shard: Path) -> None:
    with process(MAP_TO_WRITE, str(shard)) as pid:
        assert found(tmp_path / "cache") == [(pid, str(shard))]


def test_a_new_file_and_a_removed_one_count(tmp_path: Path, shard: Path) -> None:
    with process(OPEN, str(shard.with_name("x.incomplete")), "wb") as pid:
        shard.with_name("x.incomplete").unlink()
        assert found(tmp_path / "cache") == [(pid, str(shard.with_name("x.incomplete")))]


def test_neighbours_and_this_process_do_not_count(tmp_path: Path, shard: Path) -> None:
    (tmp_path / "cache-2").mkdir()
    with process(OPEN, str(tmp_path / "cache-2" / "file"), "wb"), shard.open("r+b"):
        assert found(tmp_path / "cache") == []


def test_a_link_to_the_cache_is_the_cache(tmp_path: Path, shard: Path) -> None:
    (tmp_path / "link").symlink_to("cache")
    with process(OPEN, str(shard), "ab") as pid:
        assert found(tmp_path / "link") == [(pid, str(shard))]


def test_names_of_every_kind(tmp_path: Path, shard: Path) -> None:
    odd = shard.with_name("a b\t\\012 (deleted)é")
    odd.write_bytes(bytes(4096))
    with process(OPEN, str(odd), "ab") as one:
        assert found(tmp_path / "cache") == [(one, str(odd).removesuffix(" (deleted)"))]


def test_a_directory_that_is_not_there_has_no_writers(tmp_path: Path) -> None:
    assert writers_below(tmp_path / "nothing") == []


@pytest.mark.root
def test_a_writer_through_a_bind_mount_is_found(tmp_path: Path, shard: Path) -> None:
    """As a container does, which sees the cache under a path of its own."""
    with mounted(["--bind", str(tmp_path / "cache")], tmp_path / "elsewhere") as other:
        with process(OPEN, str(other / "models" / "shard"), "ab") as pid:
            assert found(tmp_path / "cache") == [(pid, str(other / "models" / "shard"))]
        with process(MAP_TO_WRITE, str(other / "models" / "shard")) as pid:
            assert found(tmp_path / "cache") == [(pid, str(other / "models" / "shard"))]


@pytest.mark.root
def test_a_writer_in_another_mount_namespace_is_found(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk") as disk:
        (disk / "file").write_bytes(bytes(4096))
        inner = tmp_path / "inner"
        inner.mkdir()
        program = (
            f"mount --bind {disk} {inner} && umount -l {disk} && exec {sys.executable} -c "
            f"\"import sys; f = open('{inner}/file', 'ab'); print('ready', flush=True); sys.stdin.read()\""
        )
        child = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", program],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        try:
            assert child.stdout is not None
            if child.stdout.readline() != b"ready\n":
                pytest.skip("cannot unshare mounts here")
            assert [path for _, path in found(disk)] == [f"{inner}/file"]
        finally:
            child.communicate()


@pytest.mark.root
def test_a_btrfs_subvolume_has_device_numbers_of_its_own(tmp_path: Path) -> None:
    with btrfs(tmp_path / "disk") as disk:
        subprocess.run(["btrfs", "-q", "subvolume", "create", str(disk / "cache")], check=True)
        (disk / "cache" / "file").write_bytes(bytes(4096))
        with (
            mounted(["--bind", str(disk / "cache")], tmp_path / "elsewhere") as other,
            process(OPEN, str(other / "file"), "ab") as pid,
        ):
            assert found(disk / "cache") == [(pid, str(other / "file"))]


@pytest.mark.root
def test_root_sees_everyone(shard: Path, tmp_path: Path) -> None:
    assert sees_everyone()
