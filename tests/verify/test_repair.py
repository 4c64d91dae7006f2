"""``verify --repair`` brings back what is damaged or missing, and never writes into a live file."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.storage.disks import with_faults
from tests.verify.places import (
    MIB,
    MODEL,
    SHARD,
    Place,
    codes,
    flip_bit,
    noise,
    only_damaged,
    overwrite,
    write_files,
)
from zitcache.errors import Exit, Interrupted, Locked, NoSpace, NotFound, RepositoryNotFound, UsageError
from zitcache.events import Session
from zitcache.tasks.sample import SampleLayout
from zitcache.tasks.verify import VerifyRequest, verify
from zitcache.tasks.verify.repair_plan import PREFIX


def _truncate(path: Path) -> None:
    os.truncate(path, 5 * MIB)


def _zero(path: Path) -> None:
    overwrite(path, 2 * MIB, bytes(MIB))


def _flip(path: Path) -> None:
    flip_bit(path, 8 * MIB)


def _extend(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def _pointer(path: Path) -> None:
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n")


def _page(path: Path) -> None:
    path.write_bytes(b"<html>error</html>")


def _another(path: Path) -> None:
    path.write_bytes(noise("other", path.stat().st_size))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    "damage", [_truncate, _zero, _flip, _extend, _pointer, _page, _another, _empty, _pipe]
)
def test_every_kind_of_damage_is_repaired(place: Place, damage: Callable[[Path], None]) -> None:
    before, stamp = place.contents(), (place.cache / SHARD).stat()
    damage(place.cache / SHARD)
    outcome = place.repair()
    assert outcome.exit_code == Exit.OK
    damaged = only_damaged(outcome)
    assert (damaged.path, damaged.repaired, outcome.data.repaired) == (SHARD, True, 1)
    assert damaged.message.endswith("; repaired")
    assert place.contents() == before
    after = (place.cache / SHARD).stat()
    assert (after.st_mode, after.st_mtime_ns) == (stamp.st_mode, stamp.st_mtime_ns)
    assert place.leftovers() == []
    assert place.verify().exit_code == Exit.OK


@pytest.mark.parametrize("layout", list(SampleLayout))
def test_a_damaged_and_a_missing_file_are_repaired_in_every_layout(
    tmp_path: Path, layout: SampleLayout
) -> None:
    place = Place.of_sample(tmp_path, layout)
    before = place.contents()
    shard = next(place.cache.rglob("diffusion_pytorch_model-00002-of-00003.safetensors")).resolve()
    lost = next(place.cache.rglob("vocab.json"))
    shard.chmod(0o644)
    flip_bit(shard, 70_000)
    real = lost.resolve()
    lost.unlink()
    if real != lost:
        real.unlink()
    outcome = place.repair()
    assert outcome.exit_code == Exit.OK
    assert only_damaged(outcome).ranges == [(70_000, 70_001)]
    assert str(lost.relative_to(place.cache)) in outcome.data.restored
    assert outcome.data.missing == []
    assert place.contents() == before


def test_a_damaged_blob_is_named_with_the_model_file_it_is(tmp_path: Path) -> None:
    place = Place.of_sample(tmp_path, SampleLayout.HUGGINGFACE)
    name = next(place.cache.rglob("diffusion_pytorch_model-00002-of-00003.safetensors"))
    flip_bit(name.resolve(), 70_000)
    damaged = only_damaged(place.verify())
    assert damaged.path == str(name.resolve().relative_to(place.cache.resolve()))
    assert damaged.names == [str(name.relative_to(place.cache))]
    assert damaged.message.startswith("transformer/diffusion_pytorch_model-00002-of-00003.safetensors (blob ")


def test_a_missing_blob_is_named_with_the_model_file_it_is(tmp_path: Path) -> None:
    place = Place.of_sample(tmp_path, SampleLayout.HUGGINGFACE)
    name = next(place.cache.rglob("vae/diffusion_pytorch_model.safetensors"))
    blob = name.resolve()
    blob.unlink()
    outcome = place.verify()
    assert outcome.data.missing == [str(blob.relative_to(place.cache.resolve()))]
    warning = next(warning for warning in outcome.warnings if warning.code == "missing-blob")
    assert "vae/diffusion_pytorch_model.safetensors" in warning.message
    assert place.repair().exit_code == Exit.OK
    assert blob.exists()


def test_wrong_and_missing_links_are_repaired(tmp_path: Path) -> None:
    place = Place.of_sample(tmp_path, SampleLayout.HUGGINGFACE)
    before = place.contents()
    links = sorted(path for path in place.cache.rglob("config.json") if path.is_symlink())
    links[0].unlink()
    links[1].unlink()
    links[1].symlink_to("nowhere")
    links[2].unlink()
    links[2].write_text("a file in the place of a link")
    outcome = place.repair()
    assert outcome.exit_code == Exit.OK
    assert outcome.data.repaired == 3
    assert place.contents() == before


def test_only_the_bad_pieces_are_read_from_the_repository(place: Place) -> None:
    flip_bit(place.cache / SHARD, 8 * MIB)
    intact = place.verify().data.bytes_read
    flip = place.repair()
    # Verified once; from the repository comes the one piece of at most 4 MiB, not all three.
    assert flip.data.bytes_read - intact < 4 * MIB + 4096


def test_the_live_file_is_never_written_to(place: Place) -> None:
    flip_bit(place.cache / SHARD, 8 * MIB)
    damaged = (place.cache / SHARD).read_bytes()
    with (place.cache / SHARD).open("rb") as reader:  # as a process that has the model loaded
        assert place.repair().exit_code == Exit.OK
        assert reader.read() == damaged


def test_dry_run_says_what_it_would_do_and_does_nothing(place: Place) -> None:
    flip_bit(place.cache / SHARD, 8 * MIB)
    (place.cache / MODEL / "config.json").unlink()
    before = place.contents()
    outcome = place.repair(dry_run=True)
    assert outcome.exit_code == Exit.DAMAGE
    assert outcome.data.would_repair == [f"{MODEL}/config.json", SHARD]
    assert only_damaged(outcome).message.endswith("would be repaired")
    assert place.contents() == before


def test_missing_directories_are_made_again(place: Place) -> None:
    before = place.contents()
    for path in (place.cache / MODEL).iterdir():
        path.unlink()
    (place.cache / MODEL).rmdir()
    outcome = place.repair()
    assert (outcome.exit_code, len(outcome.data.restored)) == (Exit.OK, 5)
    assert place.contents() == before


def test_names_of_one_file_stay_one_file(tmp_path: Path) -> None:
    place = Place(tmp_path / "cache", tmp_path / "repository")
    write_files(place.cache / MODEL, {"a.safetensors": noise("a", MIB), "config.json": b"{}"})
    first, second, third = (place.cache / MODEL / f"{name}.safetensors" for name in "abc")
    second.hardlink_to(first)
    third.hardlink_to(first)
    place.backup()
    flip_bit(first, 1000)
    third.unlink()
    outcome = place.repair()
    assert outcome.exit_code == Exit.OK
    assert first.read_bytes() == noise("a", MIB)
    assert first.stat().st_ino == second.stat().st_ino == third.stat().st_ino
    assert place.leftovers() == []


def test_one_bad_name_of_a_file_is_linked_again(tmp_path: Path) -> None:
    place = Place(tmp_path / "cache", tmp_path / "repository")
    write_files(place.cache / MODEL, {"a.safetensors": noise("a", MIB), "config.json": b"{}"})
    first, second = (place.cache / MODEL / f"{name}.safetensors" for name in "ab")
    second.hardlink_to(first)
    place.backup()
    second.unlink()
    second.write_bytes(b"something else")
    assert only_damaged(place.verify()).path == f"{MODEL}/b.safetensors"
    assert place.repair().exit_code == Exit.OK
    assert first.stat().st_ino == second.stat().st_ino


def test_damage_in_the_repository_is_said_and_the_file_left_alone(place: Place) -> None:
    flip_bit(place.cache / SHARD, 8 * MIB)
    flip_bit(place.cache / MODEL / "config.json", 3)
    damaged = (place.cache / SHARD).read_bytes()
    for pack in (place.repository / "packs").rglob("*"):
        if pack.is_file():
            pack.chmod(0o644)
            for offset in range(3 * MIB, pack.stat().st_size - MIB, 4096):
                flip_bit(pack, offset)
    outcome = place.repair()
    assert outcome.exit_code == Exit.DAMAGE
    by_path = {file.path: file for file in outcome.data.damaged}
    assert not by_path[SHARD].repaired
    assert "the repository's copy is damaged, too" in by_path[SHARD].message
    assert by_path[f"{MODEL}/config.json"].repaired
    assert "not-repaired" in codes(outcome)
    assert (place.cache / SHARD).read_bytes() == damaged
    assert place.leftovers() == []


def test_a_pack_that_is_gone_is_known_before_anything_is_tried(place: Place) -> None:
    flip_bit(place.cache / SHARD, 8 * MIB)
    largest = max(
        (path for path in (place.repository / "packs").rglob("*") if path.is_file()),
        key=lambda path: path.stat().st_size,
    )
    second = place.cache / MODEL / "only-now.txt"
    second.write_text("in a pack of its own, with the new tree")
    place.repair()
    place.backup()
    flip_bit(place.cache / SHARD, 8 * MIB)
    largest.unlink()
    damaged = only_damaged(place.verify())
    assert not damaged.repairable
    assert "the repository has lost a part of it" in damaged.message


def test_a_link_in_the_way_is_never_followed(place: Place, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (place.cache / "models").rename(outside)
    (place.cache / "models").symlink_to(outside)
    (outside / Path(SHARD).relative_to("models")).unlink()
    outcome = place.repair()
    assert outcome.exit_code == Exit.PARTIAL
    assert SHARD in outcome.data.unverified
    assert not (outside / Path(SHARD).relative_to("models")).exists()


def test_a_file_that_something_else_writes_meanwhile_is_left_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zitcache.tasks.verify.repair as repair

    flip_bit(place.cache / SHARD, 8 * MIB)
    real = repair.fetch_files

    def download_first(*arguments: object) -> object:
        (place.cache / SHARD).write_bytes(b"a new download begins")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(repair, "fetch_files", download_first)
    outcome = place.repair()
    assert outcome.exit_code == Exit.DAMAGE
    assert "something else wrote to it" in only_damaged(outcome).message
    assert (place.cache / SHARD).read_bytes() == b"a new download begins"


def test_a_full_disk_is_noticed_before_anything_is_written(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zitcache.machine.mounts import FreeSpace

    flip_bit(place.cache / SHARD, 8 * MIB)
    before = place.contents()
    monkeypatch.setattr("zitcache.tasks.verify.repair.free_space", lambda path: FreeSpace(MIB, 100))
    with pytest.raises(NoSpace, match=r"needs 0\.01 GB"):
        place.repair()
    assert place.contents() == before


def test_two_repairs_at_once_are_refused(place: Place) -> None:
    import fcntl

    flip_bit(place.cache / SHARD, 8 * MIB)
    fd = os.open(place.cache, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(Locked):
            place.repair()
    finally:
        os.close(fd)
    assert place.repair().exit_code == Exit.OK


def test_repair_without_a_snapshot_says_so(place: Place, tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotFound):
        place.repair(repository=str(tmp_path / "nowhere"))
    with pytest.raises(RepositoryNotFound):
        place.repair(repository=None)
    place.cache.rename(tmp_path / "other")
    write_files(tmp_path / "cache2", {"x/y/config.json": b"{}", "x/y/model.safetensors": b""})
    with pytest.raises(NotFound, match="holds"):
        place.repair(path=str(tmp_path / "cache2"))


def test_repair_and_quick_exclude_each_other(place: Place) -> None:
    with pytest.raises(UsageError):
        place.repair(quick=True)


def test_a_full_disk_while_repairing_leaves_the_old_file(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zitcache.tasks.fetching.writing as fetching

    flip_bit(place.cache / SHARD, 8 * MIB)
    damaged = (place.cache / SHARD).read_bytes()

    def full(fd: int, buffer: memoryview, offset: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(fetching, "pwrite_all", full)
        with pytest.raises(NoSpace):
            place.repair()
    assert (place.cache / SHARD).read_bytes() == damaged
    assert place.repair().exit_code == Exit.OK
    assert place.leftovers() == []


_REPAIR = """
import sys, os, time
import zitcache.tasks.fetching.writing as fetching
from zitcache.events import Session
from zitcache.tasks.verify import VerifyRequest, verify
written = 0
real = fetching.pwrite_all
def slowly(fd, buffer, offset):
    global written
    real(fd, buffer, offset)
    written += 1
    if written == 2:
        print("half way", flush=True)
        time.sleep(60)
fetching.pwrite_all = slowly
verify(VerifyRequest(path=sys.argv[1], repository=sys.argv[2], repair=True), Session())
"""


def test_a_kill_in_the_middle_leaves_the_old_file_and_the_next_run_goes_on(place: Place) -> None:
    before = place.contents()
    (place.cache / SHARD).write_bytes(b"")
    child = subprocess.Popen(
        [sys.executable, "-c", _REPAIR, str(place.cache), str(place.repository)], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == b"half way\n"
        child.send_signal(signal.SIGKILL)
    child.wait()
    assert (place.cache / SHARD).read_bytes() == b""
    (copy,) = place.leftovers()
    assert copy.name.startswith(PREFIX)
    # What the killed run left is no part of the cache for anybody.
    looked = place.verify()
    assert (looked.data.extra, only_damaged(looked).kind) == ([], "truncated")
    outcome = place.repair()
    assert outcome.exit_code == Exit.OK
    assert place.contents() == before


def test_the_copy_of_a_repair_that_is_not_needed_any_more_is_removed(place: Place) -> None:
    (place.cache / MODEL / f"{PREFIX}0123").write_bytes(b"from long ago")
    flip_bit(place.cache / SHARD, 8 * MIB)
    assert place.repair().exit_code == Exit.OK
    assert place.leftovers() == []


@pytest.mark.parametrize("call", ["rename", "fsync", "ftruncate"])
def test_a_kill_at_a_system_call_leaves_a_repairable_cache(place: Place, tmp_path: Path, call: str) -> None:
    before = place.contents()
    config = f"{MODEL}/config.json"
    flip_bit(place.cache / SHARD, 8 * MIB)
    (place.cache / config).unlink()
    script = (
        "import sys; from zitcache.events import Session; from zitcache.tasks.verify import *;"
        "verify(VerifyRequest(path=sys.argv[1], repository=sys.argv[2], repair=True), Session())"
    )
    arguments = ["-c", script, str(place.cache), str(place.repository)]
    for number in (1, 2):
        ended = with_faults(arguments, [f"{call}:signal=SIGKILL:when={number}"], tmp_path / "log")
        assert number > 1 or ended.returncode == -signal.SIGKILL
        now = place.contents()
        for name in before.keys() - {SHARD, config}:
            assert now[name] == before[name]
        assert now[SHARD] in (before[SHARD], _flipped(before[SHARD]))
        assert now.get(config) in (before[config], None)
    assert place.repair().exit_code == Exit.OK
    assert place.contents() == before


def _flipped(content: bytes | str) -> bytes:
    assert isinstance(content, bytes)
    changed = bytearray(content)
    changed[8 * MIB] ^= 0x10
    return bytes(changed)


def test_a_missing_file_that_arrives_meanwhile_is_left_alone(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zitcache.tasks.verify.repair as repair

    (place.cache / SHARD).unlink()
    real = repair.fetch_files

    def download_first(*arguments: object) -> object:
        (place.cache / SHARD).write_bytes(b"a new download begins")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(repair, "fetch_files", download_first)
    outcome = place.repair()
    assert (outcome.exit_code, outcome.data.missing) == (Exit.DAMAGE, [SHARD])
    assert (place.cache / SHARD).read_bytes() == b"a new download begins"


def test_a_repair_that_is_interrupted_goes_on_next_time(place: Place) -> None:
    before = place.contents()
    (place.cache / SHARD).write_bytes(b"")
    session = Session()
    stages: list[str] = []

    def stage(name: str, total_bytes: int | None = None) -> None:
        stages.append(name)

    def advance(byte_count: int) -> None:
        if stages[-1] == "Repairing":
            session.cancel.set()

    session.progress.stage = stage  # type: ignore[method-assign]
    session.progress.advance = advance  # type: ignore[method-assign]
    request = VerifyRequest(path=str(place.cache), repository=str(place.repository), repair=True)
    with pytest.raises(Interrupted):
        verify(request, session)
    assert (place.cache / SHARD).read_bytes() in (b"", before[SHARD])
    assert place.repair().exit_code == Exit.OK
    assert place.contents() == before
