"""Fingerprints: the same for the same files in any layout, strict when read; lists that sha256sum takes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cache.builders import MODEL, pipeline_files, write, write_huggingface, write_legacy
from zitcache.cache.fingerprint import (
    FileFingerprint,
    Fingerprint,
    digest_of,
    from_json,
    make_fingerprint,
    parse_sha256sums,
    to_json,
    to_sha256sums,
)
from zitcache.cache.inventory import inventory
from zitcache.errors import UsageError

ODD_NAMES = [
    "new\nline",
    "back\\slash",
    "both\\n\n",
    "\udcff\udcfe",
    "x" * 255,
    " leading",
    "a  b",
    "*star",
    "cr\r",
]


def fingerprint_of(root: Path) -> Fingerprint:
    (model,) = inventory(root).models
    files = []
    for file in model.files:
        content = (root / file.content_path).read_bytes()
        path = os.path.relpath(root / file.path, model.path)
        digest = hashlib.sha256(content).hexdigest()
        files.append(FileFingerprint(path, len(content), blake3(content).hexdigest(), digest))
    return make_fingerprint(model.id, model.revision, model.layout.value, files)


def one_file(path: str, content: bytes = b"x") -> FileFingerprint:
    return FileFingerprint(
        path, len(content), blake3(content).hexdigest(), hashlib.sha256(content).hexdigest()
    )


def test_the_same_files_have_the_same_digest_in_every_layout(tmp_path: Path) -> None:
    files = pipeline_files()
    write(tmp_path / "1/models/Tongyi-MAI--Z-Image-Turbo/snapshots/master", files)
    write_legacy(tmp_path / "2/models/Tongyi-MAI/Z-Image-Turbo", files)
    write_huggingface(tmp_path / "3", files)
    write_huggingface(tmp_path / "4/hub", files, shared=True)
    write(tmp_path / "5/plain", files)
    fingerprints = [fingerprint_of(tmp_path / name) for name in ("1", "2", "3", "4", "5/plain")]
    assert len({fingerprint.digest for fingerprint in fingerprints}) == 1
    assert len({fingerprint.layout for fingerprint in fingerprints}) == 5


def test_the_digest_follows_content_size_and_name() -> None:
    files = [one_file("a"), one_file("b")]
    digest = digest_of(files)
    assert digest == digest_of(reversed(files))
    assert digest != digest_of([one_file("a", b"y"), one_file("b")])
    assert digest != digest_of([one_file("a"), one_file("c")])
    assert digest != digest_of([one_file("a")])
    assert digest == digest_of([*files, one_file(".msc")])
    assert digest != digest_of([*files, one_file("sub/.msc")])


def test_the_digest_is_what_the_documentation_says() -> None:
    files = [one_file("b", b"2"), one_file("a", b"1")]
    text = b"".join(
        b"%s 1 %s\0" % (blake3(c).hexdigest().encode(), n) for n, c in ((b"a", b"1"), (b"b", b"2"))
    )
    assert digest_of(files) == blake3(text).hexdigest()


def test_a_fingerprint_survives_json_with_the_oddest_names() -> None:
    fingerprint = make_fingerprint(MODEL, "master", "plain", [one_file(name) for name in ODD_NAMES])
    data = to_json(fingerprint)
    assert from_json(data) == fingerprint
    assert json.loads(data)["schema"] == "zitcache-fingerprint/1"


def test_a_file_without_sha256_survives_json() -> None:
    fingerprint = make_fingerprint(MODEL, "r", "plain", [FileFingerprint("a", 0, blake3(b"").hexdigest())])
    assert from_json(to_json(fingerprint)) == fingerprint


def changed(**changes: object) -> bytes:
    value = json.loads(to_json(make_fingerprint(MODEL, "r", "plain", [one_file("a")])))
    return json.dumps(value | changes).encode()


def changed_file(**changes: object) -> bytes:
    value = json.loads(to_json(make_fingerprint(MODEL, "r", "plain", [one_file("a")])))
    value["files"][0] |= changes
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        changed(schema="zitcache-fingerprint/2"),
        changed(size_bytes=5),
        changed(size_bytes=-1),
        changed(digest="0" * 64),
        changed(digest="short"),
        changed(files=[]),
        changed(model=3),
        changed_file(size=2),
        changed_file(size=True),
        changed_file(blake3="0" * 64),
        changed_file(blake3="Z" * 64),
        changed_file(sha256="0" * 63),
        changed_file(path="b"),
        changed_file(path="../a"),
        changed_file(path="/a"),
        changed_file(path="a//b"),
        changed_file(path=""),
        changed_file(path="a\0"),
        changed_file(path_hex="2e2e2f61"),
        changed_file(path_hex="xyz"),
    ],
)
def test_what_is_no_whole_fingerprint_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError):
        from_json(data)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum of coreutils")
def test_sha256sum_accepts_the_list_with_every_odd_name(tmp_path: Path) -> None:
    write(tmp_path, {name: os.fsencode(name) for name in [*ODD_NAMES, "sub/plain"]})
    digests = [(name, hashlib.sha256(os.fsencode(name)).hexdigest()) for name in [*ODD_NAMES, "sub/plain"]]
    (tmp_path / "SUMS").write_bytes(to_sha256sums(digests))
    done = subprocess.run(
        ["sha256sum", "-c", "--strict", "--quiet", "SUMS"], cwd=tmp_path, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
    (tmp_path / "sub/plain").write_bytes(b"flipped")
    done = subprocess.run(["sha256sum", "-c", "--quiet", "SUMS"], cwd=tmp_path, capture_output=True)
    assert done.returncode == 1
    assert b"sub/plain: FAILED" in done.stdout


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum of coreutils")
def test_the_list_that_sha256sum_writes_is_read(tmp_path: Path) -> None:
    write(tmp_path, {name: os.fsencode(name) for name in ODD_NAMES})
    command = ["sha256sum", "--", *[os.fsencode(name) for name in ODD_NAMES]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert parse_sha256sums(done.stdout) == {n: hashlib.sha256(os.fsencode(n)).hexdigest() for n in ODD_NAMES}


@settings(max_examples=200, deadline=None)
@given(names=st.sets(st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name), max_size=6))
def test_any_names_survive_the_list(names: set[bytes]) -> None:
    digests = {
        os.fsdecode(name): hashlib.sha256(name).hexdigest() for name in names if not name.startswith(b"./")
    }
    assert parse_sha256sums(to_sha256sums(digests.items())) == digests


def test_other_forms_of_lines_are_read() -> None:
    digest = "ab" * 32
    data = f"# comment\r\n{digest.upper()} *./a b\r\n\n{digest}  c".encode()
    assert parse_sha256sums(data) == {"a b": digest, "c": digest}


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"ab" * 32,
        b"ab" * 31 + b"  short",
        b"ab" * 32 + b" a",
        b"\\" + b"ab" * 32 + b"  bad\\x",
        b"ab" * 32 + b"  a\n" + b"cd" * 32 + b"  a\n",
        b"<html>",
    ],
)
def test_lines_that_are_not_of_sha256sum_are_refused_with_their_number(data: bytes) -> None:
    with pytest.raises(UsageError, match=r"Line \d"):
        parse_sha256sums(data)
