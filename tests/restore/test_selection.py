"""Which snapshot, and which files of it."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest

from tests.backup.world import (
    back_up,
    bring_back,
    codes,
    data_of,
    describe,
    make_model,
    make_sample,
    noise,
    require_same,
    snapshots_in,
    zitcache,
)
from zitcache.errors import Exit, NotFound, SnapshotNotFound
from zitcache.tasks.sample import SampleLayout


def files_in(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_symlink() or not path.is_dir()}


def test_only_some_files(cache: Path, repository: Path, target: Path) -> None:
    make_sample(cache)
    back_up(repository, cache)
    report = bring_back(repository, target, only=("*/vae/*",))
    prefix = "models/Tongyi-MAI--Z-Image-Turbo/snapshots/master/vae/"
    assert files_in(target) == {prefix + "config.json", prefix + "diffusion_pytorch_model.safetensors"}
    assert report.data.files == 2
    for path in target.rglob("*"):
        original = cache / path.relative_to(target)
        assert path.lstat().st_mode == original.lstat().st_mode
        assert path.lstat().st_mtime_ns == original.lstat().st_mtime_ns
    assert bring_back(repository, target, only=("*/vae/*",)).data.action == "nothing to do"
    bring_back(repository, target, only=("*.json", "merges.txt"))
    assert len([name for name in files_in(target) if name.endswith("merges.txt")]) == 1
    bring_back(repository, target)
    require_same(cache, target)


@pytest.mark.parametrize(
    "layout", [SampleLayout.HUGGINGFACE, SampleLayout.HUGGINGFACE_SHARED, SampleLayout.SEED], ids=str
)
def test_a_link_brings_the_blob_it_shows(
    layout: SampleLayout, cache: Path, repository: Path, target: Path
) -> None:
    """In a Hugging Face cache, ``*/vae/*`` are links to blobs, and those may be links to shared blobs."""
    make_sample(cache, layout)
    back_up(repository, cache)
    bring_back(repository, target, only=("*/vae/*",))
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        (found,) = target.glob(f"models--*/snapshots/*/vae/{name}")
        assert found.is_symlink()
        assert found.read_bytes() == (cache / found.relative_to(target)).read_bytes()
    assert sum(path.stat().st_size for path in target.rglob("*") if path.is_file()) < 9_000_000


def test_the_second_name_of_a_file_brings_the_first(cache: Path, repository: Path, target: Path) -> None:
    make_model(cache, {"a/first.bin": noise(100), "other.bin": noise(50)})
    os.link(cache / "a" / "first.bin", cache / "second.bin")
    back_up(repository, cache)
    bring_back(repository, target, only=("second.bin",))
    assert files_in(target) == {"a/first.bin", "second.bin"}
    assert (target / "second.bin").samefile(target / "a/first.bin")


def test_a_pattern_that_fits_nothing(cache: Path, repository: Path, target: Path) -> None:
    make_sample(cache)
    back_up(repository, cache)
    for pattern in ("vea/*", "models", "nothing"):
        with pytest.raises(NotFound) as caught:
            bring_back(repository, target, only=(pattern,))
        assert repr(pattern) in caught.value.message
        assert "--only" in (caught.value.hint or "")
    assert not target.parent.exists()
    done = zitcache("restore", "-r", repository, "--to", target, "--only", "*/unet/*")
    assert done.returncode == 6


def test_only_leaves_the_rest_of_the_target_alone(cache: Path, repository: Path, target: Path) -> None:
    make_sample(cache, SampleLayout.HUGGINGFACE)
    back_up(repository, cache)
    shutil.copytree(cache, target, symlinks=True)
    for path in target.rglob("blobs/*"):
        path.write_bytes(b"bad")
    bring_back(repository, target, only=("*/model_index.json",))
    (index,) = target.glob("models--*/snapshots/*/model_index.json")
    good = [path for path in target.rglob("blobs/*") if path.read_bytes() != b"bad"]
    assert good == [index.resolve()]


def test_a_snapshot_by_the_beginning_of_its_id(cache: Path, repository: Path, target: Path) -> None:
    make_model(cache)
    first = back_up(repository, cache).data.snapshot_id or ""
    kept = cache.with_name("kept")
    shutil.copytree(cache, kept)
    (cache / "config.json").write_bytes(b"{}")
    second = back_up(repository, cache).data.snapshot_id or ""
    report = bring_back(repository, target, snapshot=first[:12].upper())
    assert report.data.snapshot_id == first
    assert (target / "config.json").read_bytes() == (kept / "config.json").read_bytes()
    assert bring_back(repository, target).data.snapshot_id == second
    for wrong in ("", "zzzz", "f" * 64, "../../config"):
        with pytest.raises(SnapshotNotFound) as caught:
            bring_back(repository, target, snapshot=wrong)
        assert caught.value.exit_code is Exit.NOT_FOUND


def test_an_older_snapshot_over_a_newer_state(cache: Path, repository: Path, target: Path) -> None:
    make_model(cache, {"a.bin": noise(100), "gone-later.bin": noise(200)})
    first = back_up(repository, cache).data.snapshot_id or ""
    before = {name: what[0] for name, what in describe(cache).items()}
    (cache / "a.bin").write_bytes(noise(300))
    (cache / "gone-later.bin").unlink()
    (cache / "new.bin").write_bytes(b"new")
    back_up(repository, cache)
    bring_back(repository, snapshot=first)
    after = {name: what[0] for name, what in describe(cache).items()}
    assert after.pop("new.bin")
    assert after == before


def test_several_caches_in_one_repository(cache: Path, repository: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    make_model(cache, {"a.bin": b"a"})
    make_model(other, {"b.bin": b"b"})
    back_up(repository, cache)
    back_up(repository, other)
    report = bring_back(repository)
    assert report.data.target == str(other)  # the newest
    warning = next(warning for warning in report.warnings if warning.code == "several-caches")
    assert str(cache) in warning.message
    assert "zitcache restore" in (warning.hint or "")
    (tmp_path / "link").symlink_to(cache)
    for name in (cache, tmp_path / "link", tmp_path / "other" / ".." / "cache"):
        assert bring_back(repository, cache=str(name)).data.target == str(cache)
    with pytest.raises(SnapshotNotFound) as caught:
        bring_back(repository, cache=str(tmp_path / "nothing"))
    assert str(other) in caught.value.message


def test_several_machines_in_one_repository(
    cache: Path, repository: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model(cache, {"who.bin": b"mine"})
    mine = back_up(repository, cache)
    (cache / "who.bin").write_bytes(b"of another machine")
    real = socket.gethostname()
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    theirs = back_up(repository, cache)
    assert bring_back(repository, target).data.snapshot_id == theirs.data.snapshot_id
    monkeypatch.setattr(socket, "gethostname", lambda: real)
    report = bring_back(repository, target)
    assert report.data.snapshot_id == mine.data.snapshot_id
    assert "several-caches" in codes(report)
    # A machine that comes back under a new name has none of its own: the newest good one it is.
    monkeypatch.setattr(socket, "gethostname", lambda: "fresh-after-reset")
    assert bring_back(repository, target).data.snapshot_id == theirs.data.snapshot_id


def test_snapshots_that_lack_files_are_not_preferred(cache: Path, repository: Path, target: Path) -> None:
    make_model(cache)
    good = back_up(repository, cache)
    (cache / "out").symlink_to("/etc")
    partial = back_up(repository, cache)
    report = bring_back(repository, target)
    assert report.data.snapshot_id == good.data.snapshot_id
    warning = next(w for w in report.warnings if w.code == "newer-snapshot-passed-over")
    assert (partial.data.snapshot_id or "")[:8] in warning.message
    assert "out" in warning.message
    (repository / "snapshots" / (good.data.snapshot_id or "")).unlink()
    report = bring_back(repository, target)
    assert report.data.snapshot_id == partial.data.snapshot_id
    assert "partial-snapshot" in codes(report)
    assert len(snapshots_in(repository)) == 1


def test_what_the_command_says(cache: Path, repository: Path, target: Path) -> None:
    make_sample(cache)
    back_up(repository, cache)
    done = zitcache("restore", "--json", "-r", repository, "--to", target)
    data = data_of(done)
    assert {"action", "target", "files", "bytes_written", "seconds"} <= data.keys()
    assert (data["action"], data["target"]) == ("restored", str(target))
    done = zitcache("restore", "--json", "-r", repository, "--to", target)
    assert data_of(done)["action"] == "nothing to do"
