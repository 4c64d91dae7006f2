"""A local repository on disks that fill up, fail, or stop: as it was before, or complete."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.storage.disks import MIB, ext4, names_under, python_environment, tmpfs, with_faults
from tests.storage.scenario import DATA
from zitcache.errors import Exit, NoSpace
from zitcache.storage.local import LocalStorage

SCENARIO = str(Path(__file__).with_name("scenario.py"))
FileSystem: TypeAlias = Callable[..., AbstractContextManager[Path]]
VERBS = ["store", "create", "writer"]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One with an object in it already."""
    storage = LocalStorage(tmp_path / "repository")
    storage.store("packs/old", b"old")
    return storage.directory


def act(storage: LocalStorage, verb: str, name: str, data: bytes) -> None:
    if verb == "store":
        storage.store(name, data)
    elif verb == "create":
        storage.create(name, data)
    else:
        with storage.writer() as writer:
            for start in range(0, len(data), MIB):
                writer.write(data[start : start + MIB])
            writer.commit(name)


@pytest.mark.root
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("file_system", [tmpfs, ext4])
def test_a_full_disk_leaves_the_repository_as_it_was(
    tmp_path: Path, file_system: FileSystem, verb: str
) -> None:
    with file_system(tmp_path / "disk") as disk:
        storage = LocalStorage(disk / "repository")
        storage.store("packs/old", b"old" * 1000)
        before = names_under(disk)
        with pytest.raises(NoSpace) as caught:
            act(storage, verb, "packs/new", b"n" * (10 * MIB))
        assert caught.value.exit_code is Exit.NO_SPACE
        assert str(disk) in caught.value.message
        assert "df -i" in (caught.value.hint or "")
        assert names_under(disk) == before
        # What was taken is given back: the same command resumes once there is space.
        act(storage, verb, "packs/new", b"n" * (2 * MIB))
        assert storage.load("packs/new") == b"n" * (2 * MIB)
        assert storage.load("packs/old") == b"old" * 1000


@pytest.mark.root
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("file_system", [tmpfs, ext4])
def test_a_disk_without_inodes_leaves_the_repository_as_it_was(
    tmp_path: Path, file_system: FileSystem, verb: str
) -> None:
    with file_system(tmp_path / "disk", inodes=40) as disk:
        storage = LocalStorage(disk / "repository")
        stored = 0
        with pytest.raises(NoSpace):
            for stored in range(100):
                act(storage, verb, f"packs/n{stored}", b"n")
        assert 5 < stored < 40
        assert names_under(disk / "repository" / "packs") == sorted(f"n{number}" for number in range(stored))
        storage.delete("packs/n0")
        act(storage, verb, "packs/again", b"n")
        assert storage.load("packs/again") == b"n"


@pytest.mark.parametrize("verb", VERBS)
def test_a_file_size_limit_leaves_the_repository_as_it_was(repository: Path, verb: str) -> None:
    command = [sys.executable, SCENARIO, str(repository), verb, str(2 * MIB)]
    done = subprocess.run(command, capture_output=True, text=True, env=python_environment())
    assert done.stdout.split() == ["begin", "no-space"], done.stderr
    assert names_under(repository) == ["packs/old"]


CASES = [
    # what is made to fail, the error a person gets, verbs that make this call
    ("fsync:error=EIO:when=1", "unreachable", VERBS),
    ("fsync:error=ENOSPC:when=1", "no-space", VERBS),
    ("fsync:error=EIO:when=2", "unreachable", VERBS),
    ("fsync:error=EDQUOT:when=2", "no-space", VERBS),
    ("renameat2:error=EIO:when=1", "unreachable", VERBS),
    ("renameat2:error=ENOSPC:when=1", "no-space", VERBS),
    ("fallocate:error=ENOSPC:when=1", "no-space", ["store", "create"]),
    ("fallocate:error=EIO:when=1", "unreachable", ["store", "create"]),
]


@pytest.mark.parametrize(
    ("injection", "code", "verb"),
    [(injection, code, verb) for injection, code, verbs in CASES for verb in verbs],
)
def test_a_failing_system_call_leaves_the_repository_as_it_was(
    repository: Path, tmp_path: Path, injection: str, code: str, verb: str
) -> None:
    log = tmp_path / "trace"
    done = with_faults([SCENARIO, str(repository), verb], [injection], log)
    assert done.stdout.split() == ["begin", code], done.stderr
    assert names_under(repository) == ["packs/old"]
    trace = log.read_text()
    assert trace.count("(INJECTED)") == 1
    # The call that failed is the last of its kind: a second fsync would say that all is well.
    assert trace.splitlines()[-1].endswith("(INJECTED)") or "exited" in trace.splitlines()[-1]


@pytest.mark.parametrize("verb", ["store", "writer"])
def test_a_failing_write_leaves_the_repository_as_it_was(repository: Path, tmp_path: Path, verb: str) -> None:
    # The first write of the scenario is the line it prints; the data comes after that.
    done = with_faults([SCENARIO, str(repository), verb], ["write:error=EIO:when=2"], tmp_path / "trace")
    assert done.stdout.split() == ["begin", "unreachable"], done.stderr
    assert names_under(repository) == ["packs/old"]


@pytest.mark.parametrize(
    ("verb", "error"),
    [("store", "EINVAL"), ("writer", "ENOSYS"), ("create", "EOPNOTSUPP"), ("create", "EINVAL")],
)
def test_a_file_system_without_rename_flags_is_fine(
    repository: Path, tmp_path: Path, verb: str, error: str
) -> None:
    done = with_faults([SCENARIO, str(repository), verb], [f"renameat2:error={error}"], tmp_path / "trace")
    assert done.stdout.split() == ["begin", "ok"], done.stderr
    assert names_under(repository) == ["packs/new", "packs/old"]
    assert LocalStorage(repository).load("packs/new") == DATA


@pytest.mark.parametrize("verb", ["writer", "create"])
def test_a_file_system_without_hard_links_either_is_fine(repository: Path, tmp_path: Path, verb: str) -> None:
    faults = ["renameat2:error=EINVAL", "linkat:error=EPERM", "link:error=EPERM"]
    done = with_faults([SCENARIO, str(repository), verb], faults, tmp_path / "trace")
    assert done.stdout.split() == ["begin", "ok"], done.stderr
    assert names_under(repository) == ["packs/new", "packs/old"]
    assert LocalStorage(repository).load("packs/new") == DATA


def test_a_file_system_that_cannot_preallocate_or_sync_directories_is_fine(
    repository: Path, tmp_path: Path
) -> None:
    faults = ["fallocate:error=EOPNOTSUPP", "fsync:error=EINVAL:when=2"]
    done = with_faults([SCENARIO, str(repository), "store"], faults, tmp_path / "trace")
    assert done.stdout.split() == ["begin", "ok"], done.stderr
    assert LocalStorage(repository).load("packs/new") == DATA


@pytest.mark.parametrize(
    "injection",
    ["fsync:signal=SIGKILL:when=1", "renameat2:signal=SIGKILL:when=1", "fsync:signal=SIGKILL:when=2"],
)
@pytest.mark.parametrize("verb", ["store", "writer"])
def test_a_kill_leaves_all_or_nothing_and_the_next_run_completes_it(
    repository: Path, tmp_path: Path, injection: str, verb: str
) -> None:
    done = with_faults([SCENARIO, str(repository), verb], [injection], tmp_path / "trace")
    assert done.stdout.split() == ["begin"]
    storage = LocalStorage(repository)
    found = {info.name: info.size for info in storage.list("packs")}
    assert found in ({"packs/old": 3}, {"packs/old": 3, "packs/new": len(DATA)})
    leftovers = storage.stale_temporaries(0)
    assert len(leftovers) == 2 - len(found)
    act(storage, verb, "packs/new", DATA)
    for name in leftovers:
        storage.remove_temporary(name)
    assert names_under(repository) == ["packs/new", "packs/old"]
    assert storage.load("packs/new") == DATA
