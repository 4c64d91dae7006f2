"""read_repository.py, which knows nothing but docs/FORMAT.md, reads what zitcache writes."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings

from tests.cache.builders import pipeline_files, safetensors, write_huggingface
from tests.codec.contents import MAKERS, contents, dtypes, make
from tests.repository.builders import (
    SMALL_PIECES,
    back_up,
    bring_back,
    new_repository,
    picture,
    write_snapshot,
)
from tests.repository.test_trees import HARMLESS, HOSTILE, entry
from zitcache.codec.blob import encode
from zitcache.repository.repository import Repository
from zitcache.storage.local import LocalStorage

READER = Path(__file__).parents[2] / "zitcache" / "tasks" / "kit" / "data" / "read_repository.py"


def _load_reader():  # type: ignore[no-untyped-def]
    spec = importlib.util.spec_from_file_location("read_repository", READER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reader = _load_reader()

pytestmark = pytest.mark.skipif(shutil.which("zstd") is None, reason="the program zstd is not installed")


class Answer(NamedTuple):
    """What the reader said."""

    returncode: int
    stdout: str
    stderr: str


def read(*arguments: Path | str) -> Answer:
    """Run the reader in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = reader.main([str(argument) for argument in arguments])
    return Answer(code, out.getvalue(), err.getvalue())


def run(*arguments: Path, modules: bool = True, programs: Path | None = None) -> Answer:
    """Run the reader as a program, perhaps without installed modules, or with the programs of one folder."""
    flags = [] if modules else ["-I", "-S"]
    environment = {**os.environ, "PATH": str(programs)} if programs else None
    command = [sys.executable, *flags, READER, *arguments]
    found = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    return Answer(found.returncode, found.stdout, found.stderr)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with everything that is odd: names, links, hard links, empty things, every kind of content."""
    root = tmp_path_factory.mktemp("odd") / "cache"
    snapshot = write_huggingface(root, pipeline_files(), shared=True)
    odd = snapshot / "odd"
    odd.mkdir()
    rng = np.random.default_rng(1)
    for number, kind in enumerate(MAKERS):
        (odd / f"{kind} \u00e4\u4e2d").write_bytes(make(kind, 5000 + 1000 * number + number, number))
    weights = {"f64": ("F64", [9000], make("fp64", 72_000, 2)), "f8": ("F8_E4M3", [9000], rng.bytes(9000))}
    weights["wide"] = ("F32", [300_000], make("upcast bf16", 1_200_000, 3))
    (odd / "weights.safetensors").write_bytes(safetensors(weights))
    base = os.fsencode(odd)
    for name in (b"\xff\xfe not UTF-8", b"line\nfeed", b"n" * 255, b"back\\slash", b" ", b"\xe4\xb8"):
        with open(base + b"/" + name, "wb") as file:
            file.write(b"content of " + name)
    (odd / "empty").write_bytes(b"")
    (odd / "no files").mkdir(mode=0o750)
    (odd / "closed").mkdir()
    (odd / "closed" / "secret").write_bytes(b"x" * 100)
    (odd / "closed" / "secret").chmod(0o400)
    (odd / "closed").chmod(0o555)
    os.link(odd / "weights.safetensors", odd / "second name")
    (odd / "link").symlink_to("no files")
    (odd / "dangling").symlink_to("not there")
    (odd / "absolute").symlink_to(root / "models--Tongyi-MAI--Z-Image-Turbo")
    os.symlink(b"\xff\xfe not UTF-8", base + b"/\xfelink")
    for number, path in enumerate(sorted(root.rglob("*"), reverse=True)):
        os.utime(path, ns=(10**18 + number, 10**18 + number), follow_symlinks=False)
    os.utime(odd / "empty", ns=(-1, -1_000_000_000))
    return root


@pytest.fixture(scope="module")
def repository(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("odd-repository") / "repository"
    Repository.create(LocalStorage(place), cutting=SMALL_PIECES)
    back_up(place, cache)
    return place


def assert_same(one: Path, other: Path) -> None:
    assert picture(one) == picture(other)
    diff = subprocess.run(["diff", "-r", "--no-dereference", one, other], capture_output=True, check=False)
    assert (diff.returncode, diff.stdout) == (0, b"")


@pytest.mark.parametrize("verifier", ["module", "b3sum", "none"])
def test_the_reader_extracts_what_restore_restores(cache: Path, tmp_path: Path, verifier: str) -> None:
    if verifier == "b3sum" and shutil.which("b3sum") is None:
        pytest.skip("the program b3sum is not installed")
    place = tmp_path / "repository"
    back_up(place, cache)
    programs = tmp_path / "programs"
    programs.mkdir()
    for program in ("zstd", "b3sum")[: 1 + (verifier == "b3sum")]:
        (programs / program).symlink_to(str(shutil.which(program)))
    found = run(place, Path("latest"), tmp_path / "read", modules=verifier == "module", programs=programs)
    assert (found.returncode, found.stdout) == (0, "")
    bring_back(place, tmp_path / "restored")
    assert_same(tmp_path / "read", cache)
    assert_same(tmp_path / "restored", tmp_path / "read")
    has_sha256 = all(each.sha256 for each in entries_of(place) if each.kind == "file")
    assert ("not verified" in found.stderr) == (verifier == "none" and not has_sha256)


def entries_of(place: Path) -> list:  # type: ignore[type-arg]
    opened = Repository.open(LocalStorage(place))
    return opened.tree(opened.load_snapshot(opened.snapshot_ids()[0]))


def test_files_of_many_pieces_are_put_together(cache: Path, repository: Path, tmp_path: Path) -> None:
    assert read(repository, "latest", tmp_path / "read").returncode == 0
    assert_same(tmp_path / "read", cache)


def test_snapshots_are_listed_and_chosen_by_the_beginning_of_their_id(
    cache: Path, repository: Path, tmp_path: Path
) -> None:
    place = tmp_path / "repository"
    shutil.copytree(repository, place)
    second = back_up(place, cache, tags=("second",)).data.snapshot_id
    assert second is not None
    listed = read(place).stdout.splitlines()
    assert len(listed) == 2
    assert listed[1].startswith(second[:8])
    assert str(cache) in listed[0]
    assert read(place, second[:10].upper(), tmp_path / "a").returncode == 0
    for wanted in ("", "zz"):
        refused = read(place, wanted, tmp_path / "b")
        assert refused.returncode == 1
        assert "snapshots fit" in refused.stderr


def test_the_reader_needs_no_index(cache: Path, repository: Path, tmp_path: Path) -> None:
    place = tmp_path / "repository"
    shutil.copytree(repository, place)
    shutil.rmtree(place / "index")
    (place / "packs" / ".tmp-1-0123456789abcdef").write_bytes(b"unfinished")
    (place / "packs" / ("0" * 64)).write_bytes(b"nonsense")
    (place / "snapshots" / ("0" * 64)).write_bytes(b"nonsense")
    (place / "config").unlink()
    found = read(place, "latest", tmp_path / "read")
    assert found.returncode == 0
    assert "config is missing" in found.stderr
    assert "packs/00000000 is passed over" in found.stderr
    assert "snapshots/00000000 is passed over" in found.stderr
    assert_same(tmp_path / "read", cache)


def test_a_damaged_blob_is_named_and_every_other_file_comes(
    cache: Path, repository: Path, tmp_path: Path
) -> None:
    place = tmp_path / "repository"
    shutil.copytree(repository, place)
    opened = Repository.open(LocalStorage(place))
    victim = next(each for each in entries_of(place) if each.path.endswith("odd/noise \u00e4\u4e2d"))
    at = opened.index.locations(opened.piece_list(victim)[1][1])[0]
    pack = place / "packs" / at.pack
    data = bytearray(pack.read_bytes())
    data[at.offset + 100] ^= 1
    pack.write_bytes(data)
    found = read(place, "latest", tmp_path / "read")
    assert found.returncode == 1
    assert "odd/noise" in found.stderr
    assert f"offset {at.offset}" in found.stderr
    expected = picture(cache)
    missing = os.fsencode(victim.real_path)
    del expected[missing]
    assert picture(tmp_path / "read") == expected


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_tree_is_refused_by_the_reader_too(tmp_path: Path, name: str) -> None:
    write_snapshot(new_repository(tmp_path / "repository"), [entry("good"), *HOSTILE[name]])
    before = sorted(tmp_path.rglob("*"))
    refused = read(tmp_path / "repository", "latest", tmp_path / "place" / "target")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", [name for name in HARMLESS if name != "bytes that are not UTF-8"])
def test_an_odd_but_harmless_tree_is_extracted(tmp_path: Path, name: str) -> None:
    write_snapshot(new_repository(tmp_path / "repository"), HARMLESS[name])
    assert read(tmp_path / "repository", "latest", tmp_path / "target").returncode == 0
    for each in HARMLESS[name]:
        assert os.path.lexists(tmp_path / "target" / each.real_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [('"version": 1', '"version": 2'), ("[]", '["encryption"]'), ("zitcache", "other"), ("{", "")],
)
def test_what_the_reader_does_not_know_it_refuses(tmp_path: Path, old: str, new: str) -> None:
    write_snapshot(new_repository(tmp_path / "repository"), [entry("a")])
    config = tmp_path / "repository" / "config"
    config.write_text(config.read_text().replace(old, new, 1))
    refused = read(tmp_path / "repository", "latest", tmp_path / "target")
    assert (refused.returncode, (tmp_path / "target").exists()) == (1, False)
    assert "error: " in refused.stderr


def test_nothing_is_written_into_a_directory_that_holds_something(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"precious")
    assert read(repository, "latest", tmp_path).returncode == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("arguments", [(), ("a", "b"), ("--help",), ("a", "b", "c", "d")])
def test_without_proper_arguments_it_explains_itself(arguments: tuple[str, ...]) -> None:
    explained = read(*arguments)
    assert explained.returncode == 2
    assert "REPOSITORY SNAPSHOT TARGET" in explained.stderr


def test_it_runs_on_python_3_8_with_the_standard_library_alone() -> None:
    tree = ast.parse(READER.read_text(), feature_version=(3, 8))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
        )
    }
    assert imported - set(sys.stdlib_module_names) == {"blake3"}, "which is optional"
    called = {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert not called & {
        "removeprefix",
        "removesuffix",
        "bit_count",
        "readlink",
        "hardlink_to",
        "is_relative_to",
    }


@settings(max_examples=60, deadline=None)
@given(contents, dtypes)
def test_the_reader_decodes_every_frame(data: bytes, dtype: str | None) -> None:
    assert bytes(reader.decode(encode(data, dtype).to_bytes(), 0)) == data
