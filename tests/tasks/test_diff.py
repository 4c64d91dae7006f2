"""``diff`` tells what changed between two snapshots, by name, content and pieces."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cache.builders import safetensors
from tests.tasks.repositories import (
    KIB,
    MODEL,
    back_up,
    flip_bit,
    frames_of,
    new_repository,
    newest_tree,
    noise,
    reopened,
    store_snapshot,
    weights,
    write_cache,
)
from zitcache.codec.frame import FrameKind
from zitcache.errors import BlobDamaged, Exit, IntegrityError, SnapshotNotFound
from zitcache.events import Session
from zitcache.repository.records import TreeEntry
from zitcache.tasks.snapshots import DiffReport, diff


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    new_repository(tmp_path / "repo")
    return tmp_path / "repo"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return write_cache(tmp_path / "cache")


def compare(repo: Path, a: object, b: object) -> DiffReport:
    outcome = diff(str(repo), str(a), str(b), Session())
    assert outcome.exit_code == Exit.OK
    return outcome.data


def changes(report: DiffReport) -> dict[str, str]:
    return {change.path.removeprefix(f"{MODEL}/"): change.change for change in report.changes}


def snapshot(repo: Path, cache: Path) -> str:
    return str(back_up(repo, cache).snapshot_id)


def test_an_unchanged_cache_has_no_difference(repo: Path, cache: Path) -> None:
    a, b = snapshot(repo, cache), snapshot(repo, cache)
    report = compare(repo, a[:8], b[:10])
    assert (report.a, report.b, report.changes) == (a, b, [])
    assert (report.bytes_added, report.bytes_removed) == (0, 0)
    assert report.bytes_shared == sum(entry.size for entry in newest_tree(reopened(repo)))


def test_each_kind_of_change_is_told_apart(repo: Path, cache: Path) -> None:
    model = cache / MODEL
    (model / "link").symlink_to("config.json")
    (model / "turns").write_text("from a file")
    a = snapshot(repo, cache)
    (model / "added" / "below").mkdir(parents=True)
    (model / "added" / "below" / "new.txt").write_text("new")
    (model / "added" / "empty folder").mkdir()
    (model / "README.md").unlink()
    (model / "config.json").write_text('{"dim": 65}!')
    os.utime(model / "empty", ns=(1, 10**18))
    (model / "model-1.safetensors").chmod(0o600)
    (model / "link").unlink()
    (model / "link").symlink_to("empty")
    (model / "turns").unlink()
    (model / "turns").mkdir()
    report = compare(repo, a, snapshot(repo, cache))
    assert changes(report) == {
        "README.md": "removed",
        "added/below/new.txt": "added",
        "added/empty folder": "added",
        "config.json": "modified",
        "empty": "metadata",
        "link": "modified",
        "model-1.safetensors": "metadata",
        "turns": "modified",
    }
    sizes = {Path(each.path).name: (each.size_before, each.size_after) for each in report.changes}
    assert sizes["config.json"] == (11, 12)
    assert sizes["new.txt"] == (None, 3)
    assert sizes["README.md"] == (len(b"# A model\n"), None)
    assert sizes["turns"] == (11, None)
    assert [each.path for each in report.changes] == sorted(each.path for each in report.changes)


def test_the_other_way_round_added_is_removed(repo: Path, cache: Path) -> None:
    a = snapshot(repo, cache)
    (cache / MODEL / "new.bin").write_bytes(noise("new", 100 * KIB))
    b = snapshot(repo, cache)
    there, back = compare(repo, a, b), compare(repo, b, a)
    assert (changes(there), changes(back)) == ({"new.bin": "added"}, {"new.bin": "removed"})
    assert there.bytes_added == back.bytes_removed == 100 * KIB
    assert there.bytes_removed == back.bytes_added == 0


def test_a_resharded_model_is_seen_to_share_its_tensors(repo: Path, cache: Path) -> None:
    a = snapshot(repo, cache)
    model = cache / MODEL
    for number in (1, 2, 3):
        (model / f"model-{number}.safetensors").unlink()
    names = [f"{letter}{number}" for number in (1, 2, 3) for letter in "abc"]
    (model / "first.safetensors").write_bytes(weights(*names[:5]))
    (model / "second.safetensors").write_bytes(weights(*names[5:]))
    report = compare(repo, a, snapshot(repo, cache))
    assert changes(report) == {
        "first.safetensors": "added",
        "second.safetensors": "added",
        "model-1.safetensors": "removed",
        "model-2.safetensors": "removed",
        "model-3.safetensors": "removed",
    }
    tensors = 9 * 512 * KIB
    assert tensors <= report.bytes_shared < tensors + 100
    assert 0 < report.bytes_added < 5000, "only the two headers are new"
    assert 0 < report.bytes_removed < 5000


def test_a_fine_tune_shares_all_tensors_but_one(repo: Path, cache: Path) -> None:
    a = snapshot(repo, cache)
    tuned = {
        name: ("U8", [512 * KIB], noise(name if name != "b2" else "tuned", 512 * KIB))
        for name in ("a2", "b2", "c2")
    }
    (cache / MODEL / "model-2.safetensors").write_bytes(safetensors(tuned))
    report = compare(repo, a, snapshot(repo, cache))
    assert changes(report) == {"model-2.safetensors": "modified"}
    assert report.bytes_added == report.bytes_removed == 512 * KIB


def test_a_hard_link_in_place_of_a_copy_is_no_other_content(repo: Path, cache: Path) -> None:
    model = cache / MODEL
    (model / "twin").write_bytes((model / "config.json").read_bytes())
    a = snapshot(repo, cache)
    (model / "twin").unlink()
    os.link(model / "config.json", model / "twin")
    assert changes(compare(repo, a, snapshot(repo, cache))) == {"twin": "metadata"}


def test_latest_is_the_newest_good_snapshot(repo: Path, cache: Path) -> None:
    a = snapshot(repo, cache)
    (cache / MODEL / "new").write_text("new")
    b = snapshot(repo, cache)
    assert compare(repo, a, "latest").b == b


def test_an_unknown_snapshot_is_not_found(repo: Path, cache: Path) -> None:
    snapshot(repo, cache)
    with pytest.raises(SnapshotNotFound):
        compare(repo, "latest", "0000000000")


def test_a_damaged_list_of_pieces_is_said_and_the_names_are_still_compared(repo: Path, cache: Path) -> None:
    a = snapshot(repo, cache)
    (cache / MODEL / "new").write_text("new")
    b = snapshot(repo, cache)
    _, pack, offset, length = next(frames_of(repo, FrameKind.PIECES))
    flip_bit(pack, offset + length // 2)
    outcome = diff(str(repo), a, b, Session())
    assert outcome.exit_code == Exit.DAMAGE
    assert changes(outcome.data) == {"new": "added"}
    assert {notice.code for notice in outcome.warnings} == {"pieces-unreadable"}
    assert (outcome.data.bytes_added, outcome.data.bytes_removed) == (3, 0)


def test_a_tree_that_cannot_be_read_cannot_be_compared(repo: Path, cache: Path) -> None:
    a = snapshot(repo, cache)
    ((_, pack, offset, length),) = frames_of(repo, FrameKind.TREE)
    flip_bit(pack, offset + length // 2)
    with pytest.raises(BlobDamaged):
        compare(repo, a, a)


def test_an_unsafe_tree_is_refused(repo: Path, cache: Path) -> None:
    a = snapshot(repo, cache)
    entry = TreeEntry(path="../../etc/passwd", kind="symlink", mode=0o777, mtime_ns=0, target="x")
    forged = store_snapshot(repo, [entry])
    with pytest.raises(IntegrityError) as refused:
        compare(repo, a, forged)
    assert refused.value.exit_code == Exit.TAMPERED
