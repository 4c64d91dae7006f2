"""What is needed, open, locked, new or somebody else's is left alone, with the reason."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.backup.world import NOBODY, back_up, make_repository, make_sample, unprivileged
from tests.cache.builders import HF_FOLDER, pipeline_files, write_huggingface
from tests.clean.world import SNAPSHOT, items_of, only, process, put, require_complete, run
from zitcache.errors import Exit


def kept(cache: Path, path: Path, **request: object) -> str:
    """Why ``path`` is kept by a run that would remove it."""
    outcome = run(cache, delete=True, **request)
    item = items_of(outcome)[str(path)]
    assert not item.removed and path.exists() and outcome.data.bytes_freed == 0
    assert outcome.exit_code == Exit.OK
    assert item.kept_because is not None
    return item.kept_because


def test_a_running_download_is_new(cache: Path) -> None:
    path = put(cache / SNAPSHOT / "x.bin.incomplete")
    assert "It changed" in kept(cache, path, later=60.0) and "--min-age" in kept(cache, path, later=60.0)
    assert only(run(cache, delete=True, later=60.0, min_age_seconds=30.0)).removed


def test_a_clock_that_went_back_makes_everything_new(cache: Path) -> None:
    path = put(cache / SNAPSHOT / "x.bin.incomplete")
    assert "in the future" in kept(cache, path, later=-7200.0)


@pytest.mark.parametrize("mode", ["rb", "ab"])
def test_a_file_that_a_process_has_open(cache: Path, mode: str) -> None:
    path = put(cache / SNAPSHOT / "x.bin.incomplete")
    with process(f"file = open(sys.argv[1], {mode!r})", path) as other:
        assert f"({other.pid}) has it open" in kept(cache, path)
    assert only(run(cache, delete=True)).removed


def test_a_file_that_a_process_has_mapped(cache: Path) -> None:
    path = put(cache / SNAPSHOT / "._____temp/x").parent
    code = "import mmap\nwith open(sys.argv[1]) as f: m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)"
    with process(code, path / "x"):
        assert "has it open" in kept(cache, path)


def test_while_a_download_holds_its_lock(cache: Path) -> None:
    path = put(cache / SNAPSHOT / "x.bin.incomplete")
    lock = put(cache / ".lock/repo_1.lock", b"")
    with process("import fcntl\nf = open(sys.argv[1])\nfcntl.flock(f, fcntl.LOCK_EX)", lock):
        assert "somebody holds its lock" in kept(cache, path)
        assert lock.exists()
    run(cache, delete=True)
    assert not path.exists() and not lock.exists()


def test_a_lock_of_hugging_face_guards_its_own_repository(tmp_path: Path) -> None:
    write_huggingface(tmp_path, pipeline_files())
    path = put(tmp_path / HF_FOLDER / "blobs/e.0123abcd.incomplete")
    other = put(tmp_path / "models--a--b/blobs/e.0123abcd.incomplete")
    lock = put(tmp_path / ".locks" / HF_FOLDER / "e.lock", b"")
    with process("import fcntl\nf = open(sys.argv[1])\nfcntl.flock(f, fcntl.LOCK_EX)", lock):
        found = items_of(run(tmp_path, delete=True))
    assert not found[str(path)].removed and found[str(other)].removed


def test_a_lock_without_flock_counts_while_its_process_lives(cache: Path) -> None:
    path = put(cache / SNAPSHOT / "x.bin.incomplete")
    lock = put(cache / ".lock/repo_1.lock", f"{os.getpid()}\n{socket.gethostname()}\n".encode())
    assert f"process {os.getpid()} holds its lock" in kept(cache, path)
    lock.write_text("1\nanother-machine\n")
    assert "another-machine" in kept(cache, path)
    lock.write_text(f"4194305\n{socket.gethostname()}\n")  # no such process can be
    assert items_of(run(cache, delete=True))[str(path)].removed


def test_a_leftover_that_a_model_points_to(cache: Path) -> None:
    path = put(cache / SNAPSHOT / "vae/part.incomplete")
    (cache / SNAPSHOT / "vae/model.safetensors").symlink_to("part.incomplete")
    assert "The model Tongyi-MAI/Z-Image-Turbo@master needs it" in kept(cache, path)


def test_a_leftover_that_a_model_of_another_cache_points_to(
    cache: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(home / "hub"))
    snapshot = write_huggingface(home / "hub", pipeline_files())
    path = put(cache / SNAPSHOT / "vae/part.incomplete")
    (snapshot / "borrowed.safetensors").symlink_to(path)
    assert "needs it" in kept(cache, path)


def test_a_leftover_that_is_a_file_of_a_model_under_another_name(cache: Path) -> None:
    path = put(cache / SNAPSHOT / "vae/part.incomplete")
    os.link(path, cache / SNAPSHOT / "vae/part.safetensors")
    assert "by a hard link" in kept(cache, path)


def test_a_file_that_the_last_good_snapshot_counts_to_a_model(tmp_path: Path) -> None:
    cache = make_sample(tmp_path / "cache")
    odd = cache / SNAPSHOT / "table_0_99"
    put(odd, b"a" * 50)
    repository = make_repository(tmp_path / "repository")
    back_up(repository, cache)
    put(cache / SNAPSHOT / "table_100_199", b"b" * 50)  # now each vouches for the other
    found = items_of(run(cache, delete=True, repository=str(repository)))
    assert (
        "It is a file of the model Tongyi-MAI/Z-Image-Turbo in snapshot"
        in (found[str(odd)].kept_because or "")
        and odd.exists()
    )
    assert found[str(odd.with_name("table_100_199"))].removed


@pytest.mark.root
def test_files_of_other_users(cache: Path) -> None:
    path = put(cache / SNAPSHOT / "x.bin.incomplete")
    if os.geteuid() != 0:
        pytest.skip("needs root to give a file away")
    os.chown(path, NOBODY, NOBODY)
    assert f"another user (uid {NOBODY})" in kept(cache, path)


@pytest.mark.root
def test_what_cannot_be_removed_is_a_partial_success(cache: Path, tmp_path: Path) -> None:
    stuck = put(cache / SNAPSHOT / "vae/x.bin.incomplete")
    fine = put(cache / SNAPSHOT / "y.bin.incomplete")
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    for folder, directories, files in os.walk(tmp_path):
        for name in [*directories, *files]:
            os.chown(os.path.join(folder, name), NOBODY, NOBODY, follow_symlinks=False)
    for place in [tmp_path, *list(tmp_path.parents)[:3]]:
        place.chmod(0o755)
    stuck.parent.chmod(0o555)
    with unprivileged():
        outcome = run(cache, delete=True)
    found = items_of(outcome)
    assert outcome.exit_code == Exit.PARTIAL and stuck.exists()
    assert "could not be removed: Permission denied" in (found[str(stuck)].kept_because or "")
    assert found[str(fine)].removed and not fine.exists()
    assert outcome.data.bytes_freed == found[str(fine)].size_bytes
    assert [warning.code for warning in outcome.warnings] == ["not-removed"]
    require_complete(cache)
