"""A target that holds something already: the good stays, the bad is replaced, nothing else is lost."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from tests.backup.world import (
    KIB,
    LAYOUTS,
    MIB,
    Watching,
    back_up,
    bring_back,
    describe,
    entries_in,
    flip,
    make_model,
    make_repository,
    make_sample,
    noise,
    opened,
    require_no_leftovers,
    require_same,
    settle,
    unprivileged,
    weights,
)
from zitcache.errors import Exit, UsageError
from zitcache.tasks.sample import SampleLayout


def destroy_content(repository: Path, *paths: str) -> None:
    """Make the blobs of these files unreadable, so that whoever needs them from here fails."""
    entries, found = entries_in(repository), opened(repository)
    for path in paths:
        for _, blob in found.piece_list(entries[path]):
            for location in found.index.locations(blob):
                with (repository / "packs" / location.pack).open("r+b") as pack:
                    pack.seek(location.offset)
                    pack.write(bytes(location.length))


def big_files(root: Path) -> list[str]:
    return [
        str(path.relative_to(root))
        for path in root.rglob("*.safetensors")
        if path.is_file() and not path.is_symlink()
    ]


def test_good_files_are_not_read_from_the_repository(cache: Path, repository: Path, target: Path) -> None:
    make_sample(cache)
    back_up(repository, cache)
    shutil.copytree(cache, target, copy_function=shutil.copy2)
    vae = "models/Tongyi-MAI--Z-Image-Turbo/snapshots/master/vae/diffusion_pytorch_model.safetensors"
    (target / vae).unlink()
    destroy_content(repository, *(path for path in big_files(cache) if path != vae))
    inodes = {path: (target / path).stat().st_ino for path in big_files(target)}
    report = bring_back(repository, target)
    assert (report.exit_code, report.data.failed) == (Exit.OK, [])
    assert (report.data.files, report.data.files_kept) == (1, 20)
    assert report.data.bytes_written == (cache / vae).stat().st_size
    require_same(cache, target)
    assert {path: (target / path).stat().st_ino for path in inodes} == inodes  # not even copied
    require_no_leftovers(target.parent)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.value)
def test_a_complete_target_is_left_alone(
    layout: SampleLayout, cache: Path, repository: Path, target: Path
) -> None:
    make_sample(cache, layout)
    back_up(repository, cache)
    bring_back(repository, target)
    before = _everything(target.parent)
    destroy_content(repository, *big_files(cache))
    report = bring_back(repository, target)
    assert (report.exit_code, report.data.action) == (Exit.OK, "nothing to do")
    assert (report.data.files, report.data.bytes_written) == (0, 0)
    assert report.data.files_kept > 15
    assert _everything(target.parent) == before


def _everything(root: Path) -> dict[str, tuple[object, ...]]:
    return {
        str(path): (path.lstat().st_ino, path.lstat().st_mtime_ns, path.lstat().st_mode)
        for path in root.rglob("*")
    }


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.value)
def test_damaged_and_missing_files_are_replaced_and_everything_else_stays(
    layout: SampleLayout, cache: Path, repository: Path, target: Path
) -> None:
    make_sample(cache, layout)
    back_up(repository, cache)
    shutil.copytree(cache, target, symlinks=True)
    files = sorted((path for path in target.rglob("*") if path.is_file() and not path.is_symlink()), key=str)
    flip(max(files, key=lambda path: path.stat().st_size))
    files[0].unlink()
    extra = {
        "notes.txt": b"mine",
        "token": b"hf_secret",
        "hub/models--other--model/snapshots/abc/config.json": b"{}",
        "models/.lock/x": b"",
    }
    model_root = next((path for path in target.glob("**/models--*")), target)
    extra[str((model_root / "snapshots/newer/config.json").relative_to(target))] = b'{"newer": 1}'
    extra[str((model_root / "refs/pr/1").relative_to(target))] = b"newer"
    for name, content in extra.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(content)
    (target / "empty folder of mine").mkdir()
    (target / "empty folder of mine").chmod(0o711)
    (model_root / "dangling").symlink_to("nowhere")
    report = bring_back(repository, target)
    assert report.exit_code is Exit.OK
    assert report.data.files == 2
    wanted, found = describe(cache), describe(target)
    for name, what in wanted.items():
        if what[0] == "symlink" or what[0] != "directory":
            assert found[name][:2] == what[:2], name
    for name, content in extra.items():
        assert (target / name).read_bytes() == content
    assert (target / "empty folder of mine").stat().st_mode & 0o777 == 0o711
    assert os.readlink(model_root / "dangling") == "nowhere"
    require_no_leftovers(target.parent)


def test_the_bad_pieces_alone_come_from_the_repository(cache: Path, repository: Path, target: Path) -> None:
    """Of a 10 GB shard with one rotten bit, a few MB are decoded; the rest is taken from the file itself."""
    make_model(cache, {"big.bin": noise(4 * MIB)})
    make_repository(repository, piece_size=256 * KIB)
    back_up(repository, cache)
    shutil.copytree(cache, target)
    flip(target / "big.bin", 3 * MIB)
    found = opened(repository)
    pieces = found.piece_list(entries_in(repository)["big.bin"])
    for number, (_, blob) in enumerate(pieces):
        if number != 12:
            location = found.index.locations(blob)[0]
            with (repository / "packs" / location.pack).open("r+b") as pack:
                pack.seek(location.offset)
                pack.write(bytes(location.length))
    report = bring_back(repository, target)
    assert (report.exit_code, report.data.files) == (Exit.OK, 1)
    assert (target / "big.bin").read_bytes() == (cache / "big.bin").read_bytes()


def test_a_file_that_cannot_be_brought_back_does_not_take_the_live_one_away(
    cache: Path, repository: Path, target: Path
) -> None:
    files = {f"{name}.bin": noise(2000, name) for name in ("good", "newer", "lost", "missing")}
    make_model(cache, files)
    back_up(repository, cache)
    make_model(target, files)
    (target / "missing.bin").unlink()
    (target / "newer.bin").write_bytes(b"a version that the user made")
    destroy_content(repository, "newer.bin", "missing.bin")
    (target / "lost.bin").unlink()
    report = bring_back(repository, target)
    assert report.exit_code is Exit.DAMAGE
    assert report.data.failed == ["missing.bin", "newer.bin"]
    assert (target / "newer.bin").read_bytes() == b"a version that the user made"
    assert (target / "lost.bin").read_bytes() == files["lost.bin"]
    assert not (target / "missing.bin").exists()
    messages = [warning.message for warning in report.warnings if warning.code == "not-restored"]
    assert len(messages) == 2
    assert all("Blob " in message for message in messages)


def test_hard_links_of_a_file_that_cannot_be_brought_back(
    cache: Path, repository: Path, target: Path
) -> None:
    make_model(cache, {"a.bin": noise(2000), "other.bin": noise(100)})
    os.link(cache / "a.bin", cache / "b.bin")
    os.link(cache / "other.bin", cache / "other2.bin")
    back_up(repository, cache)
    destroy_content(repository, "a.bin")
    report = bring_back(repository, target)
    assert (report.exit_code, report.data.failed) == (Exit.DAMAGE, ["a.bin"])
    assert sorted(path.name for path in target.iterdir()) == ["config.json", "other.bin", "other2.bin"]
    assert (target / "other.bin").samefile(target / "other2.bin")
    (target / "b.bin").write_bytes(b"mine")
    (target / "config.json").unlink()
    report = bring_back(repository, target)
    assert report.exit_code is Exit.DAMAGE
    assert (target / "b.bin").read_bytes() == b"mine"
    assert (target / "config.json").read_bytes() == b'{"dim": 64}'


def test_hard_links_across_models(cache: Path, repository: Path, target: Path) -> None:
    one, two = (
        make_model(cache / "models" / f"owner--{name}" / "snapshots" / "master", {f"{name}.bin": noise(9)})
        for name in ("one", "two")
    )
    (one / "shared.bin").write_bytes(noise(3000))
    os.link(one / "shared.bin", two / "shared.bin")
    (cache / "loose.bin").write_bytes(noise(50))
    os.link(cache / "loose.bin", two / "loose.bin")
    os.link(cache / "loose.bin", cache / "zzz.bin")
    back_up(repository, cache)
    bring_back(repository, target)
    require_same(cache, target)
    for path in (target / two.relative_to(cache)).iterdir():
        path.unlink()
    bring_back(repository, target)
    require_same(cache, target)
    (target / "zzz.bin").unlink()
    (target / "loose.bin").unlink()
    (target / one.relative_to(cache) / "shared.bin").unlink()
    bring_back(repository, target)
    assert {name: what[:2] for name, what in describe(target).items()} == {
        name: what[:2] for name, what in describe(cache).items()
    }


def test_an_empty_target_is_filled(cache: Path, repository: Path, target: Path) -> None:
    make_sample(cache, SampleLayout.HUGGINGFACE_SHARED)
    back_up(repository, cache)
    target.mkdir(parents=True, mode=0o750)
    target.chmod(0o2750)
    bring_back(repository, target)
    require_same(cache, target)
    assert target.stat().st_mode & 0o7777 == 0o2750


def test_modes_and_times_are_mended_without_writing_content(
    cache: Path, repository: Path, target: Path
) -> None:
    make_sample(cache)
    (cache / "models").chmod(0o750)
    back_up(repository, cache)
    bring_back(repository, target)
    destroy_content(repository, *big_files(cache))
    shard = target / big_files(target)[0]
    shard.chmod(0o600)
    os.utime(shard, ns=(1, 1))
    (target / "models").chmod(0o777)
    dry = bring_back(repository, target, dry_run=True)
    assert (dry.data.action, shard.stat().st_mode & 0o777) == ("restored", 0o600)
    report = bring_back(repository, target)
    assert (report.data.action, report.data.bytes_written) == ("restored", 0)
    require_same(cache, target)


def test_times_of_directories_come_back_too(cache: Path, repository: Path, target: Path) -> None:
    make_sample(cache, SampleLayout.HUGGINGFACE_SHARED)
    (cache / "loose.bin").write_bytes(b"l")
    for number, path in enumerate(sorted(path for path in cache.rglob("*") if path.is_dir())):
        os.utime(path, ns=(number, 10**18 + number))
    back_up(repository, cache)
    bring_back(repository, target)
    require_same(cache, target)
    for path in [*(target.rglob("*.safetensors")), *target.glob("blobs/*/*"), target / "loose.bin"]:
        path.unlink()
    bring_back(repository, target)
    require_same(cache, target)


@pytest.mark.parametrize("kind", ["directory for file", "file for directory", "link for directory", "pipe"])
def test_something_else_in_the_way_is_refused_and_left(
    kind: str, cache: Path, repository: Path, target: Path, tmp_path: Path
) -> None:
    make_model(cache, {"folder/a.bin": noise(100), "z.bin": noise(100)})
    back_up(repository, cache)
    make_model(target, {"mine.txt": b"mine"})
    outside = tmp_path / "outside"
    outside.mkdir()
    if kind == "directory for file":
        (target / "z.bin").mkdir()
        (target / "z.bin" / "mine").write_text("mine")
    elif kind == "file for directory":
        (target / "folder").write_text("mine")
    elif kind == "link for directory":
        (target / "folder").symlink_to(outside)
    else:
        os.mkfifo(target / "z.bin")
    before = _everything(target.parent)
    if kind == "pipe":  # nothing in it could be lost
        bring_back(repository, target)
        assert (target / "z.bin").read_bytes() == (cache / "z.bin").read_bytes()
        return
    with pytest.raises(UsageError) as caught:
        bring_back(repository, target)
    assert str(target) in caught.value.message
    assert "Nothing was changed" in caught.value.message
    assert "--to" in (caught.value.hint or "")
    assert _everything(target.parent) == before
    assert list(outside.iterdir()) == []


def test_an_older_snapshot_leaves_a_newer_revision_in_the_same_folder(
    cache: Path, repository: Path, target: Path
) -> None:
    make_sample(cache, SampleLayout.HUGGINGFACE)
    back_up(repository, cache)
    shutil.copytree(cache, target, symlinks=True)
    repo = next(target.glob("models--*"))
    newer = repo / "snapshots" / ("f" * 40)
    newer.mkdir()
    (repo / "blobs" / ("e" * 64)).write_bytes(noise(5000, "newer"))
    (newer / "model.safetensors").symlink_to("../../blobs/" + "e" * 64)
    old_blob = max(cache.rglob("blobs/*"), key=lambda path: path.stat().st_size)
    (target / old_blob.relative_to(cache)).unlink()
    bring_back(repository, target)
    assert (newer / "model.safetensors").read_bytes() == noise(5000, "newer")
    assert (target / old_blob.relative_to(cache)).read_bytes() == old_blob.read_bytes()


def test_what_another_program_writes_meanwhile_is_not_lost(
    cache: Path, repository: Path, target: Path
) -> None:
    """A download into the same model goes on while the model is swapped."""
    make_sample(cache, SampleLayout.HUGGINGFACE)
    back_up(repository, cache)
    shutil.copytree(cache, target, symlinks=True)
    max(target.rglob("blobs/*"), key=lambda path: path.stat().st_size).unlink()
    repo = next(target.glob("models--*"))
    stop = threading.Event()
    written: list[str] = []

    def download() -> None:
        number = 0
        while not stop.wait(0.0005):
            number += 1
            path = os.path.join(repo, "blobs", f"new{number}")
            with open(path, "wb") as file:
                file.write(b"%d" % number)
            written.append(path)

    writer = threading.Thread(target=download)
    writer.start()
    try:
        bring_back(repository, target)
    finally:
        stop.set()
        writer.join()
    assert len(written) > 5
    for number, path in enumerate(written, 1):
        assert Path(path).read_bytes() == b"%d" % number


@pytest.mark.root
def test_root_leaves_a_users_cache_to_the_user(cache: Path, repository: Path, target: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    make_sample(cache)
    back_up(repository, cache)
    bring_back(repository, target)
    for path in [target, *target.rglob("*")]:
        os.chown(path, 1234, 2345)
    (target / "models/mine").mkdir()
    os.chown(target / "models/mine", 4321, 5432)
    flip(target / big_files(target)[0])
    (target / big_files(target)[1]).unlink()
    bring_back(repository, target)
    for path in [target, *target.rglob("*")]:
        owner = (4321, 5432) if path.name == "mine" else (1234, 2345)
        assert (path.stat().st_uid, path.stat().st_gid) == owner, path


@pytest.mark.root
def test_what_one_may_not_list_is_not_thrown_away(open_place: Path) -> None:
    cache, repository, target = (open_place / name for name in ("cache", "data/zitcache", "target/cache"))
    make_sample(cache)
    (cache / "x.bin").write_bytes(weights({"a": 100}))
    settle(cache)
    back_up(repository, cache)
    target.parent.mkdir()
    with unprivileged():
        pass
    target.parent.chmod(0o777)
    with unprivileged():
        bring_back(repository, target)
    secret = next(target.glob("models/*")) / "closed"
    secret.mkdir(mode=0o700)  # by root
    (secret / "file").write_text("keep me")
    (target / big_files(target)[0]).write_bytes(b"bad")
    with unprivileged(), pytest.raises(Exception) as caught:
        bring_back(repository, target)
    assert getattr(caught.value, "exit_code", None) is Exit.CREDENTIALS
    assert (secret / "file").read_text() == "keep me"
    assert (target / big_files(target)[0]).read_bytes() == b"bad"


def test_a_watcher_sees_no_file_half(cache: Path, repository: Path, target: Path) -> None:
    """While it runs, every file at the target is absent, or as it was, or whole."""
    make_sample(cache)
    back_up(repository, cache)
    shutil.copytree(cache, target)
    victim = target / max(big_files(target), key=lambda path: (target / path).stat().st_size)
    good = victim.read_bytes()
    victim.write_bytes(b"bad")
    seen: set[bytes] = set()

    def look(_: object) -> None:
        seen.add(victim.read_bytes())

    bring_back(repository, target, Watching(on_file=look, on_advance=look, on_stage=look))
    assert victim.read_bytes() == good
    assert seen <= {b"bad", good}
