"""Durable files, whole reads and writes, renames and trees, on real directories."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.storage.disks import ext4, mounted, names_under, tmpfs
from zitcache.machine import files, libc, pagecache, raw

DATA = bytes(range(256)) * 5000


@pytest.fixture(params=["renameat2", "link", "neither"])
def renames(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """File systems with ``RENAME_NOREPLACE``, without it, and without hard links too."""
    if request.param != "renameat2":
        monkeypatch.setattr(libc, "renameat2", lambda *_: errno.EINVAL)
    if request.param == "neither":

        def no_link(*_: object, **__: object) -> None:
            raise PermissionError(errno.EPERM, "no hard links here")

        monkeypatch.setattr(os, "link", no_link)
    return str(request.param)


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may write a part of what it is given: at most 2 GiB, and less on a full disk."""
    write, pwrite = os.write, os.pwrite
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:777]))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:777], offset))
    with (tmp_path / "file").open("wb") as file:
        files.write_all(file.fileno(), DATA)
        files.pwrite_all(file.fileno(), DATA, len(DATA))
    assert (tmp_path / "file").read_bytes() == DATA * 2


def test_a_write_that_does_nothing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", lambda fd, data: 0)
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: 0)
    with (tmp_path / "file").open("wb") as file:
        with pytest.raises(OSError, match="wrote nothing"):
            files.write_all(file.fileno(), DATA)
        with pytest.raises(OSError, match="wrote nothing"):
            files.pwrite_all(file.fileno(), DATA, 0)


def test_arrays_are_written_as_their_bytes(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(600, dtype=numpy.uint32).reshape(20, 30)
    files.write_durably(tmp_path / "file", memoryview(array))
    assert (tmp_path / "file").read_bytes() == array.tobytes()


def test_a_read_goes_on_until_the_buffer_is_full_or_the_file_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(DATA)
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, offset: preadv(fd, [buffers[0][:999]], offset))
    with (tmp_path / "file").open("rb") as file:
        buffer = bytearray(len(DATA))
        assert files.pread_into(file.fileno(), memoryview(buffer), 0) == len(DATA)
        assert buffer == DATA
        assert files.pread_into(file.fileno(), memoryview(buffer), len(DATA) - 10) == 10
        assert files.pread_into(file.fileno(), memoryview(buffer), len(DATA) + 10) == 0


def test_preallocation_tolerates_file_systems_that_cannot_and_no_other_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(number: int) -> Callable[..., None]:
        def fallocate(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        return fallocate

    with (tmp_path / "file").open("wb") as file:
        files.preallocate(file.fileno(), 4096)
        assert os.fstat(file.fileno()).st_size == 4096
        for number in (errno.EOPNOTSUPP, errno.EINVAL):
            monkeypatch.setattr(os, "posix_fallocate", failing(number))
            files.preallocate(file.fileno(), 8192)
        for number in (errno.ENOSPC, errno.EIO, errno.EFBIG):
            monkeypatch.setattr(os, "posix_fallocate", failing(number))
            with pytest.raises(OSError, match=os.strerror(number)):
                files.preallocate(file.fileno(), 8192)


def test_writing_durably_replaces_in_one_step(tmp_path: Path) -> None:
    files.write_durably(tmp_path / "file", b"first", mode=0o600)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    inode = (tmp_path / "file").stat().st_ino
    files.write_durably(tmp_path / "file", DATA)
    assert (tmp_path / "file").read_bytes() == DATA
    assert (tmp_path / "file").stat().st_ino != inode
    assert names_under(tmp_path) == ["file"]


def test_a_name_of_255_bytes_can_be_written(tmp_path: Path) -> None:
    files.write_durably(tmp_path / ("x" * 255), b"data")
    assert files.create_durably(tmp_path / ("y" * 255), b"data")


def test_the_order_of_a_durable_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content is on the disk before the name is, and the name before anybody is told."""
    order: list[str] = []
    fsync, renameat2 = os.fsync, libc.renameat2

    def traced_fsync(fd: int) -> None:
        order.append("fsync directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "fsync file")
        fsync(fd)

    def traced_rename(a: Path, b: Path, flags: int) -> int:
        order.append("rename")
        return renameat2(a, b, flags)

    monkeypatch.setattr(os, "fsync", traced_fsync)
    monkeypatch.setattr(libc, "renameat2", traced_rename)
    assert files.create_durably(tmp_path / "file", DATA)
    assert order == ["fsync file", "rename", "fsync directory"]


def test_create_never_replaces(tmp_path: Path, renames: str) -> None:
    assert files.create_durably(tmp_path / "file", b"first") is True
    assert files.create_durably(tmp_path / "file", b"second") is False
    (tmp_path / "link").symlink_to("nowhere")
    assert files.create_durably(tmp_path / "link", b"third") is False
    assert (tmp_path / "file").read_bytes() == b"first"
    assert names_under(tmp_path) == ["file", "link"]


def test_of_many_that_create_one_file_exactly_one_succeeds(tmp_path: Path, renames: str) -> None:
    for attempt in range(20):
        barrier = threading.Barrier(8)
        path = tmp_path / str(attempt)

        def create(worker: int, barrier: threading.Barrier = barrier, path: Path = path) -> bool:
            barrier.wait()
            return files.create_durably(path, b"%d" % worker)

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(create, range(8)))
        assert won.count(True) == 1
        assert path.read_bytes() == b"%d" % won.index(True)
    assert len(names_under(tmp_path)) == 20


def test_a_pending_file_that_is_not_committed_leaves_no_trace(tmp_path: Path) -> None:
    with files.PendingFile(tmp_path, size=len(DATA)) as pending:
        pending.write(DATA)
        assert pending.path.name.startswith(".zitcache-tmp-")
    with pytest.raises(ValueError, match="closed"):
        pending.write(b"more")
    assert list(tmp_path.iterdir()) == []


def test_a_pending_file_written_in_any_order(tmp_path: Path) -> None:
    with files.PendingFile(tmp_path, size=len(DATA)) as pending:
        files.pwrite_all(pending.fd, DATA[1000:], 1000)
        files.pwrite_all(pending.fd, DATA[:1000], 0)
        assert pending.commit(tmp_path / "file") is True
    assert (tmp_path / "file").read_bytes() == DATA


@pytest.mark.parametrize(
    ("reserved", "written", "said"), [(100, 99, None), (100, 101, None), (None, 100, 101)]
)
def test_a_pending_file_of_the_wrong_length_is_not_committed(
    tmp_path: Path, reserved: int | None, written: int, said: int | None
) -> None:
    with files.PendingFile(tmp_path, size=reserved) as pending:
        pending.write(b"x" * written)
        with pytest.raises(OSError, match=f"{written} of"):
            pending.commit(tmp_path / "file", size=said)
    assert list(tmp_path.iterdir()) == []


def test_a_commit_keeps_what_is_there_unless_told_to_replace(tmp_path: Path, renames: str) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with files.PendingFile(tmp_path) as pending:
        pending.write(b"new")
        assert pending.commit(tmp_path / "file") is False
    assert (tmp_path / "file").read_bytes() == b"old"
    with files.PendingFile(tmp_path) as pending:
        pending.write(b"new")
        assert pending.commit(tmp_path / "file", replace=True) is True
    assert (tmp_path / "file").read_bytes() == b"new"
    assert names_under(tmp_path) == ["file"]


def test_a_name_taken_back_by_its_failing_writer_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer of the same object was first, and then its directory sync failed."""
    (tmp_path / "file").write_bytes(b"same")
    sync = raw.sync_directory

    def vanishing(path: Path) -> None:
        (tmp_path / "file").unlink(missing_ok=True)
        monkeypatch.setattr("zitcache.machine.durable.sync_directory", sync)

    monkeypatch.setattr("zitcache.machine.durable.sync_directory", vanishing)
    with files.PendingFile(tmp_path) as pending:
        pending.write(b"same")
        assert pending.commit(tmp_path / "file") is True
    assert (tmp_path / "file").read_bytes() == b"same"


@pytest.mark.parametrize("failing", ["fsync file", "fsync directory"])
def test_a_failed_sync_leaves_no_trace_and_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    fsync = os.fsync
    calls: list[str] = []

    def broken(fd: int) -> None:
        calls.append("fsync directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "fsync file")
        if calls[-1] == failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        files.create_durably(tmp_path / "file", DATA)
    assert list(tmp_path.iterdir()) == []
    assert calls.count(failing) == 1


def test_exchange_swaps_files_and_directories(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "in").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    if not files.exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot swap names")
    assert (tmp_path / "a").read_bytes() == b"b"
    assert (tmp_path / "b" / "in").read_bytes() == b"a"
    with pytest.raises(FileNotFoundError):
        files.exchange(tmp_path / "a", tmp_path / "missing")
    assert (tmp_path / "a").exists()


def test_exchange_says_where_it_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    monkeypatch.setattr(libc, "renameat2", lambda *_: errno.EINVAL)
    assert files.exchange(tmp_path / "a", tmp_path / "b") is False
    monkeypatch.setattr(libc, "renameat2", lambda *_: errno.EIO)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        files.exchange(tmp_path / "a", tmp_path / "b")


def test_rename_noreplace_moves_files_directories_and_links(tmp_path: Path, renames: str) -> None:
    (tmp_path / "file").write_bytes(b"file")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "in").write_bytes(b"in")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "folder", "link"):
        files.rename_noreplace(tmp_path / name, tmp_path / f"{name}2")
    assert (tmp_path / "file2").read_bytes() == b"file"
    assert (tmp_path / "folder2" / "in").read_bytes() == b"in"
    assert (tmp_path / "link2").readlink() == Path("file")
    assert names_under(tmp_path) == ["file2", "folder2/in", "link2"]


def test_rename_noreplace_never_replaces(tmp_path: Path, renames: str) -> None:
    for name in ("a", "b"):
        (tmp_path / f"file-{name}").write_bytes(name.encode())
        (tmp_path / f"folder-{name}").mkdir()
    for kind in ("file", "folder"):
        with pytest.raises(FileExistsError):
            files.rename_noreplace(tmp_path / f"{kind}-a", tmp_path / f"{kind}-b")
    assert (tmp_path / "file-b").read_bytes() == b"b"
    assert (tmp_path / "file-a").read_bytes() == b"a"
    assert (tmp_path / "folder-a").is_dir()
    with pytest.raises(FileNotFoundError):
        files.rename_noreplace(tmp_path / "missing", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_removing_a_tree_never_follows_links(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"x")
    tree = tmp_path / "tree"
    (tree / "deep" / "deeper").mkdir(parents=True)
    (tree / "deep" / os.fsdecode(b"\xff\n")).write_bytes(b"x")
    (tree / "to-folder").symlink_to(outside)
    (tree / "to-file").symlink_to(outside / "precious")
    (tree / "dangling").symlink_to("nowhere")
    os.mkfifo(tree / "pipe")
    files.remove_tree(tree)
    assert not tree.exists()
    assert (outside / "precious").read_bytes() == b"x"
    (tmp_path / "link").symlink_to(outside)
    files.remove_tree(tmp_path / "link")
    files.remove_tree(tmp_path / "link")
    assert (outside / "precious").read_bytes() == b"x"
    files.remove_tree(outside / "precious")
    assert list(outside.iterdir()) == []


def test_removing_a_tree_with_directories_that_cannot_be_written(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "file").write_bytes(b"x")
    for folder in (tree / "a" / "b", tree / "a", tree):
        folder.chmod(0o400)

    child = os.fork() if os.geteuid() == 0 else 0
    if os.geteuid() == 0 and child == 0:
        # Root may do anything, so it is done as somebody who may not.
        code = 1
        try:
            for path in (tmp_path, tree, tree / "a", tree / "a" / "b", tree / "a" / "b" / "file"):
                os.chown(path, 65534, 65534)
            parent = os.open(tmp_path, os.O_RDONLY)
            os.fchdir(parent)
            os.setegid(65534)
            os.seteuid(65534)
            files.remove_tree("tree")
            code = 0
        finally:
            os._exit(code)
    if child:
        assert os.waitpid(child, 0)[1] == 0
    else:
        files.remove_tree(tree)
    assert not tree.exists()


def test_removing_a_tree_deeper_than_recursion_and_open_files_allow(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    files.remove_tree(tmp_path / "d")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.root
def test_removing_a_tree_stops_at_another_file_system(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    with tmpfs(tree / "folder" / "disk") as disk:
        (disk / "precious").write_bytes(b"x")
        with pytest.raises(OSError, match="Another file system"):
            files.remove_tree(tree)
        assert (disk / "precious").read_bytes() == b"x"
    files.remove_tree(tree)
    assert not tree.exists()


def test_hard_links_can_be_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert files.can_hard_link(tmp_path) is True
    assert files.can_hard_link(tmp_path / "missing") is False

    def no_link(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", no_link)
    assert files.can_hard_link(tmp_path) is False
    assert list(tmp_path.iterdir()) == []


def test_the_device_of_what_does_not_exist_is_that_of_its_parent(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "dangling").symlink_to("/proc/self/nothing/here")
    expected = tmp_path.stat().st_dev
    assert files.device_of(tmp_path / "a" / "b" / "c") == expected
    assert files.device_of(tmp_path / "file" / "below") == expected
    assert files.device_of(tmp_path / "dangling") == Path("/proc").stat().st_dev


@pytest.mark.root
@pytest.mark.parametrize("file_system", [tmpfs, ext4])
def test_durable_files_on_a_full_disk(
    tmp_path: Path, file_system: Callable[..., AbstractContextManager[Path]]
) -> None:
    with file_system(tmp_path / "disk") as disk:
        files.write_durably(disk / "file", b"old")
        before = names_under(disk)
        for action in (files.write_durably, files.create_durably):
            for path in (disk / "file", disk / "new"):
                if action is files.create_durably and path.name == "file":
                    continue
                with pytest.raises(OSError) as caught:
                    action(path, bytes(10 << 20))
                assert caught.value.errno == errno.ENOSPC
        assert (disk / "file").read_bytes() == b"old"
        assert names_under(disk) == before


@pytest.mark.root
def test_durable_files_without_hard_links_or_rename_flags(tmp_path: Path) -> None:
    """A real file system with neither: VFAT."""
    import shutil
    import subprocess

    if shutil.which("mkfs.vfat") is None:
        pytest.skip("needs mkfs.vfat (package dosfstools)")
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(4 << 20)
    subprocess.run(["mkfs.vfat", str(image)], check=True, capture_output=True)
    with mounted(["-o", "loop", str(image)], tmp_path / "disk") as disk:
        assert files.can_hard_link(disk) is False
        assert files.create_durably(disk / "file", b"first") is True
        assert files.create_durably(disk / "file", b"second") is False
        assert (disk / "file").read_bytes() == b"first"
        assert names_under(disk) == ["file"]


@pytest.fixture
def cached_file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    files.write_durably(path, os.urandom(4 << 20))
    with path.open("rb") as file:
        files.drop_cached(file.fileno(), 0, 0)
        if files.is_resident(file.fileno(), 4 << 20):
            pytest.skip("the temporary directory is in memory: its pages cannot be dropped")
    return path


@pytest.mark.parametrize("way", ["cachestat", "sampling"])
def test_residency_follows_reading_and_dropping(
    cached_file: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "sampling":
        monkeypatch.setattr(libc, "cached_pages", lambda *_: None)
    size = cached_file.stat().st_size
    with cached_file.open("rb", buffering=0) as file:
        cached_file.read_bytes()
        assert files.is_resident(file.fileno(), size) is True
        files.drop_cached(file.fileno(), 0, 0)
        assert files.is_resident(file.fileno(), size) is False
        files.advise_sequential(file.fileno())


def test_a_quarter_in_memory_is_not_resident(cached_file: Path) -> None:
    with cached_file.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        os.pread(file.fileno(), 1 << 20, 0)
        assert files.is_resident(file.fileno(), 4 << 20) is False
        assert files.is_resident(file.fileno(), 1 << 20) is True


def test_residency_is_false_where_it_cannot_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libc, "cached_pages", lambda *_: None)
    monkeypatch.delattr(os, "RWF_NOWAIT")
    (tmp_path / "file").write_bytes(DATA)
    with (tmp_path / "file").open("rb") as file:
        assert pagecache.is_resident(file.fileno(), len(DATA)) is False
        assert pagecache.is_resident(file.fileno(), 0) is False


def test_page_cache_advice_never_fails() -> None:
    read, write = os.pipe()
    try:
        files.drop_cached(read, 0, 0)
        files.advise_sequential(read)
        assert files.is_resident(read, 1000) is False
    finally:
        os.close(read)
        os.close(write)
