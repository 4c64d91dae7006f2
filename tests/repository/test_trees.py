"""Trees of a hostile or damaged repository: refused as a whole, before anything is written."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.repository.builders import new_repository, reopened, save, write_snapshot
from zitcache.codec.blob import blob_id
from zitcache.errors import IntegrityError
from zitcache.events import Session
from zitcache.repository.records import PieceList, TreeEntry
from zitcache.repository.trees import ENTRIES_PER_TREE, check_entries, link_stays_inside, split_tree
from zitcache.tasks.restore import RestoreRequest, restore

CACHE = "/root/cache"


def entry(path: str, kind: str = "file", target: str | None = None, **more: object) -> TreeEntry:
    return TreeEntry(path=path, kind=kind, mode=0o644, mtime_ns=0, target=target, **more)  # type: ignore[arg-type]


def b64(name: bytes) -> str:
    return base64.b64encode(name).decode()


HOSTILE: dict[str, list[TreeEntry]] = {
    "above the cache": [entry("../evil")],
    "far above the cache": [entry("../../etc/passwd")],
    "above in the middle": [entry("a/../../evil")],
    "a dot": [entry("./evil")],
    "only dots": [entry("..")],
    "absolute": [entry("/etc/passwd")],
    "an empty part": [entry("a//b")],
    "a slash at the end": [entry("a/")],
    "a NUL": [entry("a\0b")],
    "above the cache in exact bytes": [entry("innocent", path_bytes=b64(b"../evil"))],
    "an empty name in exact bytes": [entry("innocent", path_bytes="")],
    "exact bytes that are no base64": [entry("innocent", path_bytes="!")],
    "twice": [entry("a"), entry("a")],
    "twice by exact bytes": [entry("a"), entry("b", path_bytes=b64(b"a"))],
    "below a file": [entry("a"), entry("a/b")],
    "far below a file": [entry("a"), entry("a/b/c/d")],
    "below a link": [entry("a", "symlink", "b"), entry("a/b"), entry("b", "directory")],
    "below a link that comes later": [entry("a/b"), entry("a", "symlink", "c")],
    "below a hard link": [entry("a"), entry("b", "hardlink", "a"), entry("b/c")],
    "a link above the cache": [entry("a", "symlink", "../x")],
    "a link far above the cache": [entry("a/b", "symlink", "../../x")],
    "a link that is absolute": [entry("a", "symlink", "/etc/passwd")],
    "a link beside the cache": [entry("a", "symlink", "/root/cache-2/x")],
    "a link that is absolute and climbs": [entry("a", "symlink", "/root/cache/../x")],
    "a link to nothing at all": [entry("a", "symlink", "")],
    "a link without a target": [entry("a", "symlink")],
    "a link with a NUL": [entry("a", "symlink", "b\0c")],
    "a link that leaves in exact bytes": [entry("a", "symlink", "b", target_bytes=b64(b"../x"))],
    "a hard link to nothing": [entry("a", "hardlink", "b")],
    "a hard link to itself": [entry("a", "hardlink", "a")],
    "a hard link without a target": [entry("a", "hardlink")],
    "a hard link out of the cache": [entry("a", "hardlink", "/etc/passwd")],
    "a hard link to a directory": [entry("a", "hardlink", "b"), entry("b", "directory")],
    "a hard link to a symlink": [entry("a", "hardlink", "b"), entry("b", "symlink", "c")],
    "a hard link to a hard link": [entry("a"), entry("b", "hardlink", "a"), entry("c", "hardlink", "b")],
}

HARMLESS: dict[str, list[TreeEntry]] = {
    "nothing": [],
    "files without their directories": [entry("a/b/c"), entry("a/d")],
    "directories": [entry("a", "directory"), entry("a/b", "directory"), entry("a/b/c")],
    "names with dots": [entry("..a"), entry("a..", "directory"), entry("a../..."), entry(".b")],
    "a link to a sibling": [entry("a/b", "symlink", "c"), entry("a/c")],
    "a link to the cache itself": [entry("a", "symlink", ".")],
    "a link through its parent": [entry("a/b", "symlink", "../c"), entry("c")],
    "a link to what is not there": [entry("a", "symlink", "missing")],
    "an absolute link into the cache": [entry("a", "symlink", "/root/cache/b"), entry("b")],
    "a hard link": [entry("a"), entry("b", "hardlink", "a")],
    "bytes that are not UTF-8": [entry("a\ufffd", path_bytes=b64(b"a\xff")), entry("a\ufffd")],
    "the name that stands for broken bytes": [entry("\ufffd"), entry("b", path_bytes=b64(b"\xff"))],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_tree_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    repository = new_repository(tmp_path / "repository")
    snapshot_id = write_snapshot(repository, [entry("good"), *HOSTILE[name]])
    fresh = reopened(repository)
    with pytest.raises(IntegrityError):
        fresh.tree(fresh.load_snapshot(snapshot_id))
    before = sorted(tmp_path.rglob("*"))
    request = RestoreRequest(repository=str(tmp_path / "repository"), to=str(tmp_path / "place" / "target"))
    with pytest.raises(IntegrityError):
        restore(request, Session())
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", HARMLESS)
def test_an_odd_but_harmless_tree_is_accepted(name: str) -> None:
    check_entries(HARMLESS[name], CACHE)


def test_a_tree_is_split_into_parts_of_bounded_size_and_put_together_again(tmp_path: Path) -> None:
    entries = [entry(f"{number:06}") for number in range(2 * ENTRIES_PER_TREE + 5)]
    parts = list(split_tree(entries))
    assert [len(part.entries) for part in parts] == [ENTRIES_PER_TREE, ENTRIES_PER_TREE, 5]
    assert [each for part in parts for each in part.entries] == entries
    assert list(split_tree([])) == []


def test_a_snapshot_that_repeats_a_part_of_its_tree_is_refused(tmp_path: Path) -> None:
    """Otherwise a few bytes could stand for millions of entries."""
    repository = new_repository(tmp_path / "repository")
    honest = repository.load_snapshot(write_snapshot(repository, [entry("a")]))
    bomb = write_snapshot(repository, [entry("a")], trees=honest.trees * 1000)
    with pytest.raises(IntegrityError, match="twice"):
        repository.tree(repository.load_snapshot(bomb))


def test_a_tree_that_is_another_kind_of_blob_is_refused(tmp_path: Path) -> None:
    repository = new_repository(tmp_path / "repository")
    ids = save(repository, [b'{"version":1,"entries":[]}'])
    snapshot = write_snapshot(repository, [entry("a")], trees=ids)
    with pytest.raises(IntegrityError):
        repository.tree(repository.load_snapshot(snapshot))


@pytest.mark.parametrize(
    ("path", "target", "cache", "expected"),
    [
        ("a", "b", CACHE, True),
        ("a", "..", CACHE, False),
        ("a/b", "..", CACHE, True),
        ("a/b", "../..", CACHE, False),
        ("a", "..b", CACHE, True),
        ("a", "b/../../c", CACHE, False),
        ("a", CACHE, CACHE, True),
        ("a", CACHE + "/", CACHE, True),
        ("a", "/root", CACHE, False),
        ("a", "/anything", "/", True),
        ("a", "//root/cache/x", CACHE, True),
    ],
)
def test_a_link_is_judged_by_its_text(path: str, target: str, cache: str, expected: bool) -> None:
    assert link_stays_inside(path, target, cache) is expected


def test_a_file_whose_pieces_do_not_add_up_is_refused(tmp_path: Path) -> None:
    repository = new_repository(tmp_path / "repository")
    pieces = [(3, blob_id(b"abc").hex()), (2, blob_id(b"de").hex())]
    save(repository, [b"abc", b"de"])
    from zitcache.codec.frame import FrameKind

    for size, listed in ((5, 6), (6, 5), (6, 6)):
        with repository.saver(1) as saver:
            record = PieceList(size=listed, pieces=pieces)
            identity = repository.save_metadata(saver, record, FrameKind.PIECES)
            repository.write_index(saver.finish())
        with pytest.raises(IntegrityError, match="add up"):
            repository.piece_list(entry("a", size=size, pieces=identity))
    with pytest.raises(IntegrityError, match="no content"):
        repository.piece_list(entry("a", size=1))
    assert repository.piece_list(entry("a")) == []
