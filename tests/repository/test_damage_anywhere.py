"""Whatever happens to the objects of a repository: right bytes or an error, from zitcache and the reader."""

from __future__ import annotations

import contextlib
import io
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cache.builders import safetensors, write
from tests.codec.contents import make
from tests.repository.builders import back_up, read_files
from tests.repository.test_read_repository import reader
from zitcache.errors import ZitcacheError
from zitcache.repository.records import CuttingRules
from zitcache.repository.repository import Repository
from zitcache.repository.selection import list_snapshots
from zitcache.storage.local import LocalStorage

FILES = {
    "model.safetensors": safetensors({"a": ("BF16", [3000], make("bf16", 6000, 1))}),
    "notes.txt": b"some words " * 80,
    "zeros": bytes(500),
    "noise": make("noise", 300, 2),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("damage")
    write(root / "cache", FILES)
    Repository.create(
        LocalStorage(root / "repository"), cutting=CuttingRules(piece_size=4096, merge_below=1024)
    )
    back_up(root / "repository", root / "cache")
    return root / "repository"


def objects(repository: Path) -> list[Path]:
    return sorted(path for path in repository.rglob("*") if path.is_file() and path.name != "config")


def damages() -> st.SearchStrategy[tuple[str, int, int]]:
    """What, to which object, and where: numbers are taken modulo what there is."""
    return st.tuples(
        st.sampled_from(["flip", "flip", "flip", "cut", "zeros", "swap"]),
        st.integers(0, 99),
        st.integers(0, 10**6),
    )


def damage(repository: Path, what: str, which: int, where: int) -> None:
    found = objects(repository)
    path = found[which % len(found)]
    data = bytearray(path.read_bytes())
    where %= max(1, 8 * len(data))
    if what == "flip" and data:
        data[where // 8] ^= 1 << where % 8
    elif what == "cut":
        del data[where // 8 :]
    elif what == "zeros":
        data[where // 8 : where // 8 + 100] = bytes(len(data[where // 8 : where // 8 + 100]))
    else:
        data = bytearray(found[where % len(found)].read_bytes())
    path.write_bytes(data)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "repository"


def broken_copy(repository: Path, place: Path, done: list[tuple[str, int, int]]) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(repository, place)
    for each in done:
        damage(place, *each)
    return place


@settings(max_examples=200, deadline=None)
@given(done=st.lists(damages(), min_size=1, max_size=3))
def test_zitcache_gives_right_bytes_or_an_error(
    repository: Path, place: Path, done: list[tuple[str, int, int]]
) -> None:
    broken = Repository.open(LocalStorage(broken_copy(repository, place, done)))
    with contextlib.suppress(ZitcacheError):
        for snapshot in list_snapshots(broken)[0]:
            assert read_files(broken, snapshot.record) == FILES


@pytest.mark.skipif(shutil.which("zstd") is None, reason="the program zstd is not installed")
@settings(max_examples=50, deadline=None)
@given(done=st.lists(damages(), min_size=1, max_size=3))
def test_the_reader_gives_right_bytes_or_says_what_is_wrong(
    repository: Path, place: Path, done: list[tuple[str, int, int]]
) -> None:
    broken_copy(repository, place, done)
    target = place.parent / "target"
    shutil.rmtree(target, ignore_errors=True)
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = reader.main([str(place), "latest", str(target)])
    extracted = {path.name: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert extracted.items() <= FILES.items()
    assert code == 0 or said.getvalue()
    assert (code == 0) == (extracted == FILES)
