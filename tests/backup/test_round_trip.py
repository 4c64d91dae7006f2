"""Every byte comes back: every layout, every kind of name, every kind of file."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from tests.backup.world import (
    KIB,
    LAYOUTS,
    MIB,
    back_up,
    bring_back,
    codes,
    data_of,
    make_model,
    make_repository,
    make_sample,
    noise,
    require_no_leftovers,
    require_same,
    require_sound,
    weights,
    zitcache,
)
from tests.cache.builders import with_header
from zitcache.errors import Exit
from zitcache.tasks.sample import SampleLayout


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.value)
def test_every_layout_comes_back_byte_for_byte(
    layout: SampleLayout, cache: Path, repository: Path, target: Path
) -> None:
    make_sample(cache, layout)
    report = back_up(repository, cache)
    assert report.exit_code is Exit.OK
    assert report.data.bytes_new_stored < report.data.size_bytes
    restored = bring_back(repository, target)
    assert (restored.exit_code, restored.data.action) == (Exit.OK, "restored")
    assert restored.data.files == report.data.files
    require_same(cache, target)
    require_no_leftovers(target.parent)


def test_the_two_commands_a_person_types(cache: Path, repository: Path) -> None:
    """Back up, lose the system disk, restore: through the program, to where it came from."""
    make_sample(cache, SampleLayout.SEED)
    kept = cache.with_name("kept")
    shutil.copytree(cache, kept, symlinks=True)
    for line in _times_of(cache, kept):
        os.utime(line[0], ns=(line[1], line[1]), follow_symlinks=False)
    env = {"ZITCACHE_REPO": str(repository), "ZITCACHE_CACHE": str(cache)}
    assert zitcache("init", repository).returncode == 0
    first = zitcache("backup", "--json", env=env)
    assert first.returncode == 0, first.stderr
    shutil.rmtree(cache)
    second = zitcache("restore", "--json", env={"ZITCACHE_REPO": str(repository)})
    assert second.returncode == 0, second.stderr
    assert data_of(second)["snapshot_id"] == data_of(first)["snapshot_id"]
    assert data_of(second)["target"] == str(cache)
    require_same(kept, cache)


def _times_of(source: Path, copy: Path) -> list[tuple[Path, int]]:
    paths = list(source.rglob("*"))
    return [(copy / path.relative_to(source), path.lstat().st_mtime_ns) for path in reversed(paths)]


def test_several_caches_in_one_root(cache: Path, repository: Path, target: Path) -> None:
    """ModelScope's and Hugging Face's trees share a directory, as on the rented box."""
    make_sample(cache, SampleLayout.MODELSCOPE)
    make_sample(cache / "hub", SampleLayout.HUGGINGFACE_SHARED)
    legacy = make_sample(cache.with_name("legacy"), SampleLayout.MODELSCOPE_LEGACY)
    shutil.move(legacy / "models" / "Tongyi-MAI", cache / "models")
    report = back_up(repository, cache)
    assert len(report.data.models) == 3
    bring_back(repository, target)
    require_same(cache, target)


def test_names_of_every_kind(cache: Path, repository: Path, target: Path) -> None:
    make_model(cache)
    names = [
        b"new\nline",
        b"tab\tand\x7f\x01control",
        b"not utf-8 \xff\xfe",
        b"not utf-8 \xff\xfd",  # shown alike, and yet another file
        b"x" * 255,
        "ä".encode() * 127,
        b" leading and trailing ",
        b"-rf",
        b"back\\slash \\x41",
        b"*?[a]'\"$(id)`id`",
        "Zażółć 模型 🤖".encode(),
        b"\xe2\x80\xae reversed",
    ]
    root = os.fsencode(cache)
    for number, name in enumerate(names):
        path = os.path.join(root, name)
        os.makedirs(os.path.join(root, b"in", name))
        for place in (path, os.path.join(root, b"in", name, name)):
            with open(place, "wb") as file:
                file.write(noise(100 * number + 1, str(number)))
        os.symlink(name, os.path.join(root, b"link%d" % number))
        os.symlink(b"in/" + name, os.path.join(root, b"to-folder%d" % number))
    os.link(os.path.join(root, names[2]), os.path.join(root, b"hard \xff"))
    report = back_up(repository, cache)
    assert report.exit_code is Exit.OK
    assert set(codes(report)) <= {"same-disk", "system-disk"}
    bring_back(repository, target)
    require_same(cache, target)


def test_json_is_valid_whatever_the_names(cache: Path, repository: Path, target: Path) -> None:
    make_model(cache)
    (cache / os.fsdecode(b"escapes \xff")).symlink_to("/etc/hosts")
    done = zitcache("backup", "--json", "--init", "-r", repository, "--cache", cache)
    assert done.returncode == Exit.PARTIAL
    assert data_of(done)["left_out"] == ["escapes \\xff"]
    dry = zitcache("backup", "--json", "--dry-run", "-r", repository, "--cache", cache)
    assert data_of(dry)["left_out"] == ["escapes \\xff"]


def test_deep_paths(cache: Path, repository: Path, target: Path) -> None:
    make_model(cache)
    deep = cache
    while len(str(target)) + len(str(deep)) < 3600:
        deep = deep / ("d" * 200)
    deep.mkdir(parents=True)
    (deep / "config.json").write_bytes(b"{}")
    many = cache.joinpath(*["e"] * 300)
    many.mkdir(parents=True)
    (many / "file").write_bytes(b"deep")
    assert back_up(repository, cache).exit_code is Exit.OK
    bring_back(repository, target)
    require_same(cache, target)


def test_modes_times_links_and_empty_things(cache: Path, repository: Path, target: Path) -> None:
    make_model(cache)
    for mode in (0o400, 0o444, 0o600, 0o640, 0o755, 0o777, 0o4755, 0o2644):
        path = cache / f"mode-{mode:o}"
        path.write_bytes(noise(10, str(mode)))
        path.chmod(mode)
    (cache / "empty").touch()
    (cache / "empty-model" / "nested").mkdir(parents=True)
    (cache / "sticky").mkdir(mode=0o700)
    (cache / "sticky").chmod(0o1777)
    folder = cache / "a" / "folder"
    folder.mkdir(parents=True)
    (folder / "first").write_bytes(noise(300 * KIB))
    os.link(folder / "first", cache / "second")
    os.link(folder / "first", cache / "zzz-third")
    (cache / "dangling").symlink_to("nowhere/at/all")
    (cache / "loop").symlink_to("loop")
    (cache / "up-and-down").symlink_to("a/../a/folder/first")
    (folder / "parent").symlink_to("../..")
    moments = [0, 1, 999_999_999, 1_234_567_890_123_456_789, -1_000_000_001]
    for number, moment in enumerate(moments):
        path = cache / f"time{number}"
        path.write_bytes(b"t")
        os.utime(path, ns=(moment, moment))
    os.utime(cache / "dangling", ns=(5, 5), follow_symlinks=False)
    os.utime(folder, ns=(7, 7))
    (cache / "read-only").mkdir()
    (cache / "read-only" / "file").write_bytes(b"r")
    (cache / "read-only").chmod(0o555)
    report = back_up(repository, cache)
    assert report.exit_code is Exit.OK
    bring_back(repository, target)
    require_same(cache, target)
    assert bring_back(repository, target).data.action == "nothing to do"


def test_what_does_not_belong_in_a_backup_stays_out(cache: Path, repository: Path, target: Path) -> None:
    make_sample(cache, SampleLayout.SEED)
    (cache / "token").write_text("hf_secret")
    (cache / "stored_tokens").write_text("hf_secret")
    (cache / ".locks").mkdir()
    (cache / ".locks" / "x.lock").touch()
    (cache / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55")
    blobs = next(cache.glob("models--*/blobs"))
    (blobs / "abc.incomplete").write_bytes(b"half")
    report = back_up(repository, cache)
    assert (report.exit_code, report.data.left_out) == (Exit.OK, [])
    bring_back(repository, target)
    found = {str(path.relative_to(target)) for path in target.rglob("*")}
    assert "CACHEDIR.TAG" in found
    assert not [name for name in found if "token" in name.rsplit("/")[-1] and "/" not in name]
    assert not [name for name in found if "lock" in name or "incomplete" in name]
    stored = b"".join(path.read_bytes() for path in repository.rglob("*") if path.is_file())
    assert b"hf_secret" not in stored


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 10 * 10**9) + b'{"a":' + noise(300 * KIB),
        struct.pack("<Q", (1 << 64) - 1) + b"{}" + noise(2 * MIB),
        with_header(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[-16,0]}}') + noise(64),
        with_header(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}}') + noise(64),
        with_header(
            b'{"a":{"dtype":"U8","shape":[64],"data_offsets":[0,64]},'
            b'"b":{"dtype":"U8","shape":[64],"data_offsets":[32,96]}}'
        )
        + noise(96),
        with_header(b'{"a":{"dtype":"F32","shape":[9999],"data_offsets":[0,39996]}}') + noise(100),
        with_header(b"[" * 100_000),
        with_header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,99999999999999999999999]}}'),
        with_header(b"\xff\xfe not json"),
        with_header(b""),
        with_header(b"{}"),
        weights({"a": 70 * KIB, "b": 5}) + b"bytes after the payload",
        b"short",
        b"",
    ],
    ids=[
        "header of 10 GB", "header of 16 EB", "negative offset", "ends before it begins", "overlap",
        "payload cut off", "nested too deep", "number too large", "not JSON", "empty header", "no tensors",
        "trailing bytes", "shorter than a length", "empty",
    ],
)  # fmt: skip
def test_a_safetensors_file_with_a_hostile_header_is_kept_as_it_is(
    content: bytes, cache: Path, repository: Path, target: Path
) -> None:
    make_model(cache, {"model.safetensors": content, "blob-without-suffix": content})
    make_repository(repository, piece_size=64 * KIB, merge_below=16 * KIB)
    assert back_up(repository, cache).exit_code is Exit.OK
    bring_back(repository, target)
    require_same(cache, target)
    require_sound(repository)


def test_sparse_and_constant_files_cost_next_to_nothing(cache: Path, repository: Path, target: Path) -> None:
    make_model(cache, {"ones.bin": b"\x3f\x80" * (4 * MIB)})
    with (cache / "sparse.bin").open("wb") as file:
        file.truncate(64 * MIB)
        file.seek(20 * MIB)
        file.write(noise(KIB))
    report = back_up(repository, cache)
    assert report.data.bytes_new_stored < 64 * KIB
    bring_back(repository, target)
    require_same(cache, target)


def test_every_cutting_of_many_small_and_some_big_files(cache: Path, repository: Path, target: Path) -> None:
    """Thousands of pieces of the smallest size, thousands of files: the pipelines neither stop nor mix up."""
    make_model(cache)
    for number in range(1500):
        path = cache / f"f{number % 40}" / str(number)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(noise(number % 97, str(number)))
    (cache / "big.bin").write_bytes(noise(6 * MIB, "big"))
    (cache / "big.safetensors").write_bytes(weights({f"t{n}": 5000 + n for n in range(300)}))
    make_repository(repository, piece_size=4096, merge_below=1000, pack_size=MIB)
    report = back_up(repository, cache)
    assert report.data.files == 1504
    assert len(list((repository / "packs").iterdir())) > 5
    restored = bring_back(repository, target)
    assert restored.data.files == 1504
    require_same(cache, target)
    require_sound(repository)


def test_restore_needs_nothing_but_the_repository(cache: Path, repository: Path, target: Path) -> None:
    """It may have been moved: nothing in it depends on where it was."""
    make_sample(cache)
    back_up(repository, cache)
    elsewhere = repository.parent / "moved"
    subprocess.run(["cp", "-a", repository, elsewhere], check=True)
    shutil.rmtree(repository)
    kept = cache.rename(cache.with_name("kept"))
    restored = bring_back(elsewhere)
    assert Path(restored.data.target) == cache
    require_same(kept, cache)
    assert "suspect-snapshot" not in codes(restored)
