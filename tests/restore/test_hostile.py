"""Snapshots that somebody forged: refused before anything is written, wherever they point to."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.backup.world import back_up, bring_back, describe, make_model, make_repository, opened
from zitcache.codec.blob import blob_id, encode
from zitcache.codec.frame import FrameKind
from zitcache.errors import Exit, IntegrityError, NoSpace, UsageError, ZitcacheError
from zitcache.repository.records import PieceList, SnapshotModel, SnapshotRecord, TreeEntry, TreeRecord

CONTENT = b"root::0:0:::/bin/sh\n"
BLOB = blob_id(CONTENT).hex()


def forge(
    repository: Path, entries: list[TreeEntry], cache: str, roots: tuple[str, ...] = (), **fields: Any
) -> str:
    """Write a snapshot of these entries through the repository itself; returns its id."""
    if not repository.exists():
        make_repository(repository)
    into = opened(repository)
    with into.saver(1) as saver:
        if saver.claim(BLOB):
            saver.save(encode(CONTENT))
        fields.setdefault("trees", [into.save_metadata(saver, TreeRecord(entries=entries), FrameKind.TREE)])
        packs = saver.finish()
    into.write_index([*into.unindexed_packs, *packs])
    record = SnapshotRecord(
        time="2026-01-01T00:00:00.000000Z",
        host=socket.gethostname(),
        cache=cache,
        program="forger",
        models=[
            SnapshotModel(
                id="a/b", revision="r", layout="plain", path=root, root=root, size_bytes=1, complete=True
            )
            for root in roots
        ],
        files=1,
        size_bytes=len(CONTENT),
        **fields,
    )
    return into.write_snapshot(record)


def file(path: str, **fields: Any) -> TreeEntry:
    defaults: dict[str, Any] = {"mode": 0o644, "mtime_ns": 0, "size": len(CONTENT), "blob": BLOB}
    return TreeEntry(path=path, kind="file", blake3=BLOB, **{**defaults, **fields})


def link(path: str, to: str) -> TreeEntry:
    return TreeEntry(path=path, kind="symlink", mode=0o777, mtime_ns=0, target=to)


def folder(path: str) -> TreeEntry:
    return TreeEntry(path=path, kind="directory", mode=0o755, mtime_ns=0)


def hard(path: str, to: str) -> TreeEntry:
    return TreeEntry(path=path, kind="hardlink", mode=0o644, mtime_ns=0, target=to)


@pytest.mark.parametrize(
    "entries",
    [
        [file("../../etc/passwd")],
        [file("a/../../b")],
        [file("/etc/passwd")],
        [file("a//b")],
        [file("./a")],
        [file("a/.")],
        [file("..")],
        [file("a\0b")],
        [file("x", path_bytes="Li4vLi4vZXRjL3Bhc3N3ZA==")],  # ../../etc/passwd
        [file("x", path_bytes="not base64")],
        [file("a"), file("a")],
        [file("a"), file("x", path_bytes="YQ==")],  # "a" in other words
        [file("a"), file("a/b")],
        [link("a", "/etc"), file("a/passwd")],
        [link("a", "b"), folder("b"), file("a/passwd")],
        [link("a", "../outside")],
        [link("a", "/etc/passwd")],
        [link("a/b", "../../outside"), folder("a")],
        [link("a", "b/../../outside")],
        [link("a", "")],
        [hard("a", "/etc/passwd")],
        [hard("a", "../outside")],
        [folder("b"), hard("a", "b")],
        [file("a", mtime_ns=1 << 64)],
        [file("a", mtime_ns=-(1 << 70))],
    ],
    ids=lambda entries: " + ".join(repr(entry.path) for entry in entries),
)
def test_a_forged_tree_is_refused(
    entries: list[TreeEntry], repository: Path, target: Path, tmp_path: Path
) -> None:
    forge(repository, entries, str(tmp_path / "cache"))
    before = describe(tmp_path)
    with pytest.raises(IntegrityError) as caught:
        bring_back(repository, target)
    assert caught.value.exit_code is Exit.TAMPERED
    assert describe(tmp_path) == before


@pytest.mark.parametrize("where", ["/etc", "/usr/lib/x", "/root", "/", "/dev/shm", "/proc/self"])
def test_a_forged_origin_in_the_system_is_refused(where: str, repository: Path) -> None:
    forge(repository, [file("a")], where)
    with pytest.raises(UsageError) as caught:
        bring_back(repository, dry_run=True)  # which refuses what the real one does, and cannot do harm
    assert "--to" in (caught.value.hint or "")


@pytest.mark.parametrize("where", ["relative/place", "../../up", "~"])
def test_a_forged_origin_that_is_not_absolute_is_refused(
    where: str, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    forge(repository, [file("a")], where)
    before = describe(tmp_path)
    with pytest.raises(IntegrityError):
        bring_back(repository)
    assert describe(tmp_path) == before


def test_a_link_of_one_snapshot_and_a_file_through_it_of_the_next(
    repository: Path, target: Path, tmp_path: Path
) -> None:
    """Each alone looks harmless: the first lays a link, the second names a file below it, and no folder."""
    outside = tmp_path / "outside"
    outside.mkdir()
    first = forge(repository, [link("a", str(outside))], str(tmp_path))
    second = forge(repository, [file("a/passwd")], str(tmp_path / "cache"))
    bring_back(repository, target, snapshot=first)
    assert (target / "a").is_symlink()
    for roots in ((), ("a",), ("",)):
        third = forge(repository, [file("a/passwd")], str(tmp_path / "cache"), roots, tags=["again"])
        for snapshot in (second, third):
            with pytest.raises(UsageError):
                bring_back(repository, target, snapshot=snapshot)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("root", ["..", "../outside", "/etc", "a/../..", "nothing", "a/b", "a"])
def test_forged_model_folders_change_nothing_outside(
    root: str, repository: Path, target: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "restored" / "outside"
    make_model(outside)
    forge(repository, [folder("a"), file("a/b")], str(tmp_path / "cache"), (root,))
    before = describe(outside)
    target.mkdir()
    (target / "mine").write_bytes(b"mine")
    bring_back(repository, target)
    assert describe(outside) == before
    assert (target / "a" / "b").read_bytes() == CONTENT
    assert (target / "mine").read_bytes() == b"mine"


def _huge(repository: Path) -> list[TreeEntry]:
    return [file("a", size=1 << 60)]


def _no_content(repository: Path) -> list[TreeEntry]:
    return [file("a", blob=None)]


def _wrong_size(repository: Path) -> list[TreeEntry]:
    return [file("a", size=len(CONTENT) + 1)]


def _wrong_digest(repository: Path) -> list[TreeEntry]:
    return [
        file("a").__class__(path="a", kind="file", mode=0, mtime_ns=0, size=20, blob=BLOB, blake3="0" * 64)
    ]


def _pieces(*pieces: tuple[int, str], size: int) -> Callable[[Path], list[TreeEntry]]:
    def make(repository: Path) -> list[TreeEntry]:
        into = opened(make_repository(repository))
        with into.saver(1) as saver:
            record = PieceList(size=size, pieces=list(pieces))
            name = into.save_metadata(saver, record, FrameKind.PIECES)
            into.write_index(saver.finish())
        return [file("a", size=size, blob=None, pieces=name)]

    return make


@pytest.mark.parametrize(
    "make",
    [
        _no_content,
        _wrong_size,
        _wrong_digest,
        _pieces((20, BLOB), (5, "1" * 64), size=25),
        _pieces((1 << 40, "1" * 64), size=1 << 40),
        _pieces((20, BLOB), size=99),
        _pieces((0, BLOB), (20, BLOB), size=20),
        _pieces(size=0),
    ],
)
def test_forged_content_fails_that_file_alone(
    make: Callable[[Path], list[TreeEntry]], repository: Path, target: Path, tmp_path: Path
) -> None:
    entries = make(repository)
    if entries[0].size > 1 << 30:
        forge(repository, [*entries, file("good")], str(tmp_path / "cache"))
        with pytest.raises(NoSpace):
            bring_back(repository, target)
        assert not target.parent.exists()
        return
    forge(repository, [*entries, file("good")], str(tmp_path / "cache"))
    report = bring_back(repository, target)
    assert (target / "good").read_bytes() == CONTENT
    assert (report.exit_code, report.data.failed) == (Exit.DAMAGE, ["a"])
    assert not (target / "a").exists()


def test_an_impossible_size_is_no_reason_to_write_anything(
    repository: Path, target: Path, tmp_path: Path
) -> None:
    forge(repository, _huge(repository), str(tmp_path / "cache"))
    with pytest.raises(NoSpace):
        bring_back(repository, target)
    assert not target.parent.exists()


def test_names_that_no_file_system_takes(repository: Path, target: Path, tmp_path: Path) -> None:
    forge(repository, [file("x" * 300), file("good")], str(tmp_path / "cache"))
    with pytest.raises(ZitcacheError) as caught:
        bring_back(repository, target)
    assert caught.value.exit_code is not Exit.BUG
    assert not target.exists()
    other = repository.with_name("deep")
    forge(other, [file("/".join(["d"] * 20_000))], str(tmp_path / "cache"))
    with pytest.raises(ZitcacheError) as caught:
        bring_back(other, target)
    assert not target.exists()


def test_a_snapshot_without_any_tree(cache: Path, repository: Path, target: Path, tmp_path: Path) -> None:
    make_model(cache)
    good = back_up(repository, cache)
    forge(repository, [], str(cache), trees=["3" * 64])
    with pytest.raises(IntegrityError) as caught:
        bring_back(repository, target, snapshot=_other(repository, good.data.snapshot_id))
    assert caught.value.exit_code is Exit.DAMAGE
    assert f"zitcache restore {(good.data.snapshot_id or '')[:8]}" in (caught.value.hint or "")


def _other(repository: Path, not_this: str | None) -> str:
    return next(found for found in opened(repository).snapshot_ids() if found != not_this)
