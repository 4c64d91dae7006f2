"""Each kind of damage that users meet is named, with the bytes it is about and the next command."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.verify.places import MIB, MODEL, SHARD, Place, codes, flip_bit, noise, only_damaged, overwrite
from zitcache.errors import Exit
from zitcache.events import Session
from zitcache.tasks.sample import SampleLayout
from zitcache.tasks.verify import VerifyRequest, verify

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9437184\n"


def test_a_good_cache_is_fine(place: Place) -> None:
    outcome = place.verify()
    assert outcome.exit_code == Exit.OK
    assert outcome.data.damaged == outcome.data.missing == outcome.data.extra == outcome.data.unverified == []
    assert outcome.data.files_checked == 5
    assert outcome.data.bytes_read == sum(path.stat().st_size for path in place.cache.rglob("*.*"))
    assert outcome.data.sources[0].startswith("snapshot ")


@pytest.mark.parametrize("layout", list(SampleLayout))
def test_a_good_sample_is_fine_in_every_layout(tmp_path: Path, layout: SampleLayout) -> None:
    outcome = Place.of_sample(tmp_path, layout).verify()
    assert outcome.exit_code == Exit.OK
    assert outcome.data.damaged == outcome.data.missing == outcome.data.extra == outcome.data.unverified == []


def test_a_zeroed_page_is_found_with_its_exact_bytes(place: Place) -> None:
    overwrite(place.cache / SHARD, 1_234_567, bytes(4096))
    outcome = place.verify()
    damaged = only_damaged(outcome)
    assert outcome.exit_code == Exit.DAMAGE
    assert (damaged.path, damaged.kind, damaged.ranges) == (SHARD, "zero-filled", [(1_234_567, 1_238_663)])
    assert damaged.message == (
        "model-00002-of-00003.safetensors: 4,096 bytes at 1,234,567 are zero; repair with: "
        f"zitcache verify {place.cache} --repair --repo {place.repository}"
    )


def test_a_zero_filled_tail_is_found(place: Place) -> None:
    size = (place.cache / SHARD).stat().st_size
    overwrite(place.cache / SHARD, size - 5 * MIB, bytes(5 * MIB))
    damaged = only_damaged(place.verify())
    assert (damaged.kind, damaged.ranges) == ("zero-filled", [(size - 5 * MIB, size)])


def test_single_flipped_bits_are_found_where_they_are(place: Place) -> None:
    for offset in (77, 3 * MIB, 8 * MIB + 5):
        flip_bit(place.cache / SHARD, offset)
    damaged = only_damaged(place.verify())
    assert damaged.kind == "bit-flips"
    assert damaged.ranges == [(offset, offset + 1) for offset in (77, 3 * MIB, 8 * MIB + 5)]
    assert "3 bytes in 3 places, the first at 77, differ; the rest is good" in damaged.message


def test_a_truncated_shard_is_named(place: Place) -> None:
    size = (place.cache / SHARD).stat().st_size
    os.truncate(place.cache / SHARD, 5 * MIB)
    damaged = only_damaged(place.verify())
    assert (damaged.path, damaged.kind, damaged.ranges) == (SHARD, "truncated", [(5 * MIB, size)])
    assert f"it ends after 5,242,880 of {size:,} bytes" in damaged.message


def test_a_shard_that_is_truncated_and_flipped_shows_both(place: Place) -> None:
    flip_bit(place.cache / SHARD, 100)
    size = (place.cache / SHARD).stat().st_size
    os.truncate(place.cache / SHARD, 5 * MIB)
    damaged = only_damaged(place.verify())
    assert (damaged.kind, damaged.ranges) == ("truncated", [(100, 101), (5 * MIB, size)])


def test_a_file_that_grew_is_found(place: Place) -> None:
    size = (place.cache / SHARD).stat().st_size
    with (place.cache / SHARD).open("ab") as file:
        file.write(b"x" * 1000)
    damaged = only_damaged(place.verify())
    assert (damaged.kind, damaged.ranges) == ("extended", [(size, size + 1000)])
    assert "1,000 bytes more" in damaged.message


def test_a_git_lfs_pointer_is_recognised(place: Place) -> None:
    (place.cache / SHARD).write_bytes(POINTER)
    damaged = only_damaged(place.verify())
    assert damaged.kind == "lfs-pointer"
    assert "Git LFS pointer" in damaged.message


def test_a_web_page_in_the_place_of_weights_is_recognised(place: Place) -> None:
    (place.cache / SHARD).write_bytes(b"\n<!DOCTYPE html><html>502 Bad Gateway</html>")
    assert only_damaged(place.verify()).kind == "html-page"


def test_another_content_of_the_same_size_differs(place: Place) -> None:
    size = (place.cache / SHARD).stat().st_size
    overwrite(place.cache / SHARD, 0, noise("other", size))
    damaged = only_damaged(place.verify())
    assert damaged.kind == "differs"
    assert "it has another content" in damaged.message


def test_content_written_after_the_snapshot_is_said_to_be_so(place: Place) -> None:
    size = (place.cache / SHARD).stat().st_size
    (place.cache / SHARD).write_bytes(noise("a fine-tune", size))
    damaged = only_damaged(place.verify())
    assert damaged.kind == "differs"
    assert "zitcache backup" in damaged.message


def test_the_ranges_of_a_file_are_bounded(place: Place) -> None:
    for offset in range(1000, 9 * MIB, 60_000):
        flip_bit(place.cache / SHARD, offset)
    damaged = only_damaged(place.verify())
    assert len(damaged.ranges) == 64
    assert damaged.ranges == sorted(damaged.ranges)
    covered = sum(
        start <= offset < end for offset in range(1000, 9 * MIB, 60_000) for start, end in damaged.ranges
    )
    assert covered == len(range(1000, 9 * MIB, 60_000))


def test_missing_and_extra_files_are_listed(place: Place) -> None:
    (place.cache / SHARD).unlink()
    (place.cache / MODEL / "notes.txt").write_text("mine")
    (place.cache / MODEL / "model-00009.safetensors.incomplete").write_bytes(b"half")
    outcome = place.verify()
    assert outcome.exit_code == Exit.DAMAGE
    assert outcome.data.missing == [SHARD]
    assert outcome.data.extra == outcome.data.unverified == [f"{MODEL}/notes.txt"]


def test_an_extra_file_alone_is_no_damage(place: Place) -> None:
    (place.cache / MODEL / "notes.txt").write_text("mine")
    outcome = place.verify()
    assert (outcome.exit_code, outcome.data.extra) == (Exit.OK, [f"{MODEL}/notes.txt"])


def test_a_directory_in_the_place_of_a_file_is_damage(place: Place) -> None:
    (place.cache / SHARD).unlink()
    (place.cache / SHARD).mkdir()
    damaged = only_damaged(place.verify())
    assert (damaged.path, damaged.kind, damaged.repairable) == (SHARD, "differs", False)
    assert damaged.message.endswith(
        "it is a directory where the snapshot has a file; move that directory away first"
    )


def test_a_link_that_leads_elsewhere_is_damage(tmp_path: Path) -> None:
    place = Place.of_sample(tmp_path, SampleLayout.HUGGINGFACE)
    link = next(path for path in place.cache.rglob("config.json") if path.parent.name == "vae")
    target = os.readlink(link)
    other = next(path for path in place.cache.rglob("config.json") if path.parent.name == "transformer")
    link.unlink()
    link.symlink_to(os.readlink(other))
    damaged = only_damaged(place.verify())
    assert (damaged.path, damaged.kind) == (str(link.relative_to(place.cache)), "differs")
    assert f"instead of {target}" in damaged.message


def test_a_file_that_may_not_be_read_is_damage(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.access

    def deny(path: str, mode: int, **options: bool) -> bool:
        return not str(path).endswith(SHARD) and real(path, mode, **options)

    monkeypatch.setattr(os, "access", deny)  # root, who may run the tests, may read everything
    outcome = place.verify()
    damaged = only_damaged(outcome)
    assert (outcome.exit_code, damaged.path, damaged.kind) == (Exit.DAMAGE, SHARD, "unreadable")
    assert "Permission denied" in damaged.message
    unknown = place.without_repository()
    assert SHARD in unknown.data.unverified
    assert "unreadable" in codes(unknown)


def test_a_disk_that_cannot_read_a_block_is_reported(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    import zitcache.tasks.reading as reading

    real = reading.pread_into

    def failing(fd: int, view: memoryview, offset: int) -> int:
        if offset == 4 * MIB:
            raise OSError(5, "Input/output error")
        return real(fd, view, offset)

    monkeypatch.setattr(reading, "pread_into", failing)
    outcome = place.verify()
    damaged = only_damaged(outcome)
    assert (outcome.exit_code, damaged.kind, damaged.repairable) == (Exit.DAMAGE, "unreadable", True)
    assert "Input/output error" in damaged.message


def test_a_file_that_changes_while_it_is_read_is_no_damage(place: Place) -> None:
    class Writer(Session):
        """Touches the shard when the progress says that it is being read."""

        done = threading.Event()

    session = Writer()

    def file(path: str) -> None:
        if path.endswith(SHARD) and not session.done.is_set():
            session.done.set()
            os.utime(place.cache / SHARD)

    session.progress.file = file  # type: ignore[method-assign]
    outcome = verify(VerifyRequest(path=str(place.cache), repository=str(place.repository)), session)
    assert session.done.is_set()
    assert outcome.exit_code == Exit.PARTIAL
    assert (outcome.data.damaged, outcome.data.unverified) == ([], [SHARD])
    assert "changed-while-read" in codes(outcome)


def test_a_note_that_a_tool_wrote_anew_is_no_damage(tmp_path: Path) -> None:
    place = Place.of_sample(tmp_path, SampleLayout.HUGGINGFACE)
    ref = next(place.cache.rglob("refs/main"))
    ref.write_text("1" * 40)
    outcome = place.verify()
    assert outcome.exit_code == Exit.OK
    assert outcome.data.changed == [str(ref.relative_to(place.cache))]
    assert "changed-since-snapshot" in codes(outcome)


def test_a_note_that_rotted_is_damage(tmp_path: Path) -> None:
    place = Place.of_sample(tmp_path, SampleLayout.HUGGINGFACE)
    ref = next(place.cache.rglob("refs/main"))
    flip_bit(ref, 3)
    assert only_damaged(place.verify()).path == str(ref.relative_to(place.cache))


def test_a_read_that_went_wrong_once_is_no_damage_of_the_file(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zitcache.tasks.reading as reading

    real = reading.pread_into
    spoiled: list[int] = []

    def spoil_once(fd: int, view: memoryview, offset: int) -> int:
        count = real(fd, view, offset)
        if offset == 4 * MIB and not spoiled:
            spoiled.append(offset)
            view[0] ^= 1
        return count

    monkeypatch.setattr(reading, "pread_into", spoil_once)
    outcome = place.verify()
    assert spoiled
    assert (outcome.exit_code, outcome.data.damaged) == (Exit.PARTIAL, [])
    assert outcome.data.unverified == [SHARD]
    assert "unstable-reads" in codes(outcome)
