"""Only what changed is read, only what is new is stored."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.backup.world import (
    KIB,
    MIB,
    back_up,
    bring_back,
    command,
    entries_in,
    make_model,
    make_repository,
    make_sample,
    noise,
    opened,
    require_same,
    require_sound,
    settle,
    snapshots_in,
    weights,
)
from tests.storage.disks import python_environment
from zitcache.errors import Exit
from zitcache.tasks.sample import SampleLayout

METADATA = 16 * KIB
"""More than a snapshot's own tree takes for these caches."""


def test_the_second_backup_reads_and_stores_nothing(cache: Path, repository: Path, target: Path) -> None:
    make_sample(cache)
    settle(cache)
    first = back_up(repository, cache)
    second = back_up(repository, cache)
    assert second.exit_code is Exit.OK
    assert (second.data.files, second.data.files_unchanged) == (first.data.files, first.data.files)
    assert (second.data.bytes_read, second.data.bytes_new_stored) == (0, 0)
    assert second.data.snapshot_id != first.data.snapshot_id
    assert snapshots_in(repository)[-1].record.parent == first.data.snapshot_id
    bring_back(repository, target)
    require_same(cache, target)


def test_the_kernel_agrees_that_unchanged_files_are_not_read(
    cache: Path, repository: Path, tmp_path: Path
) -> None:
    make_model(cache, {"pytorch_model.bin": noise(3 * MIB), "model.safetensors": weights({"a": 3 * MIB})})
    settle(cache)
    back_up(repository, cache)
    assert _bytes_read_of(cache, repository, tmp_path) < 64 * KIB  # the headers, to see what is complete
    os.utime(cache / "pytorch_model.bin")
    assert _bytes_read_of(cache, repository, tmp_path) > 3 * MIB


def _bytes_read_of(cache: Path, repository: Path, tmp_path: Path) -> int:
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    log = tmp_path / "trace"
    calls = "trace=read,pread64,preadv,preadv2,readv,mmap"
    program = command("backup", "-r", repository, "--cache", cache)
    done = subprocess.run(
        # A file for each thread (-ff): in one file, calls of two threads cut each other's lines in two.
        ["strace", "-ff", "-qq", "-y", "-o", log, "-e", calls, *program],
        capture_output=True,
        text=True,
        env=python_environment(),
    )
    if done.returncode and "ptrace" in done.stderr:
        pytest.skip("strace is not allowed here")
    assert done.returncode == 0, done.stderr
    traces = [trace.read_text() for trace in tmp_path.glob("trace.*")]
    for trace in tmp_path.glob("trace.*"):
        trace.unlink()
    lines = [line for text in traces for line in text.splitlines() if f"<{cache}/" in line]
    assert not [line for line in lines if " mmap(" in line]
    return sum(int(match[1]) for line in lines if (match := re.search(r"= (\d+)$", line)))


def test_a_touched_file_is_read_again_and_stores_nothing_new(cache: Path, repository: Path) -> None:
    make_sample(cache)
    settle(cache)
    back_up(repository, cache)
    shard = next(cache.rglob("diffusion_pytorch_model-00001-of-00003.safetensors"))
    os.utime(shard)
    report = back_up(repository, cache)
    assert report.exit_code is Exit.OK
    assert (report.data.bytes_read, report.data.files_unchanged) == (
        shard.stat().st_size,
        report.data.files - 1,
    )
    assert report.data.bytes_new_stored < METADATA


def test_a_file_that_was_moved_or_copied_stores_nothing_new(cache: Path, repository: Path) -> None:
    make_sample(cache)
    back_up(repository, cache)
    model = next(cache.rglob("snapshots/master"))
    shutil.copytree(model, model.with_name("v2"))
    shutil.move(model / "vae", model / "vae2")
    assert back_up(repository, cache).data.bytes_new_stored < METADATA


def test_a_changed_mode_is_kept_without_storing_anything(cache: Path, repository: Path, target: Path) -> None:
    make_model(cache)
    settle(cache)
    back_up(repository, cache)
    (cache / "config.json").chmod(0o640)
    assert back_up(repository, cache).data.bytes_new_stored < METADATA
    bring_back(repository, target)
    require_same(cache, target)


@pytest.mark.parametrize("layout", [layout for layout in SampleLayout if layout != "modelscope"])
def test_the_same_model_in_another_layout_shares_its_blobs(
    layout: SampleLayout, cache: Path, repository: Path
) -> None:
    back_up(repository, make_sample(cache))
    other = make_sample(cache.with_name("other"), layout)
    report = back_up(repository, other)
    assert report.data.bytes_read > 4 * MIB
    assert report.data.bytes_new_stored < METADATA


def test_resharded_weights_share_their_blobs(cache: Path, repository: Path) -> None:
    names = {f"layer{number}": 300 * KIB + 8 * number for number in range(12)}
    make_model(cache, {"model.safetensors": weights(names)})
    make_repository(repository, piece_size=256 * KIB, merge_below=64 * KIB)
    back_up(repository, cache)
    items = list(names.items())
    again = make_model(
        cache.with_name("resharded"),
        {
            f"model-0000{n + 1}-of-00003.safetensors": weights(dict(items[n * 4 : n * 4 + 4]))
            for n in range(3)
        },
    )
    report = back_up(repository, again)
    assert report.data.bytes_read > sum(names.values())
    assert report.data.bytes_new_stored < METADATA


def test_one_changed_tensor_stores_that_tensor(cache: Path, repository: Path) -> None:
    names = {f"layer{number}": 200 * KIB for number in range(10)}
    make_model(cache, {"model.safetensors": weights(names)})
    make_repository(repository, piece_size=256 * KIB, merge_below=64 * KIB)
    back_up(repository, cache)
    (cache / "model.safetensors").write_bytes(weights({**names, "fine-tuned": 200 * KIB}))
    report = back_up(repository, cache)
    assert 200 * KIB <= report.data.bytes_new_stored < 200 * KIB + METADATA


def test_a_file_written_in_the_very_moment_of_the_backup_is_read_again(cache: Path, repository: Path) -> None:
    """Within one tick of the clock it could be written again without a trace."""
    make_model(cache)
    before = (cache / "config.json").stat()
    first = back_up(repository, cache)
    assert first.data.files_unchanged == 0
    second = back_up(repository, cache)
    assert second.data.bytes_read == second.data.size_bytes
    settle(cache)
    back_up(repository, cache)
    assert back_up(repository, cache).data.bytes_read == 0
    assert (cache / "config.json").stat().st_mtime_ns == before.st_mtime_ns


def test_two_machines_with_a_cache_at_the_same_path_do_not_make_each_other_read(
    cache: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_sample(cache)
    settle(cache)
    for host in ("first", "second"):
        monkeypatch.setattr(socket, "gethostname", lambda host=host: host)
        back_up(repository, cache)
        for path in cache.rglob("*"):  # the other machine's files are others, with times of their own
            if path.is_file():
                os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
        settle(cache)
        if host == "first":
            back_up(repository, cache)
    # Now it is the first machine's turn again, whose files are as its own last snapshot has them.
    for path in cache.rglob("*"):
        if path.is_file():
            os.utime(path, ns=(1, path.stat().st_mtime_ns - 1))
    monkeypatch.setattr(socket, "gethostname", lambda: "first")
    assert back_up(repository, cache).exit_code is Exit.OK
    own = [s for s in snapshots_in(repository) if s.record.host == "first"]
    assert own[-1].record.parent == own[-2].id


def test_a_machine_that_comes_back_under_another_name_goes_on(
    cache: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_sample(cache)
    settle(cache)
    monkeypatch.setattr(socket, "gethostname", lambda: "container-1")
    back_up(repository, cache)
    monkeypatch.setattr(socket, "gethostname", lambda: "container-2")
    assert back_up(repository, cache).data.bytes_read == 0


def test_what_the_repository_lost_is_stored_again(cache: Path, repository: Path, target: Path) -> None:
    """Unchanged files are not taken for saved when their pack, and the index that named it, are gone."""
    make_model(cache, {"pytorch_model.bin": noise(4 * MIB)})
    make_repository(repository, piece_size=256 * KIB, pack_size=MIB)
    settle(cache)
    back_up(repository, cache)
    entry = entries_in(repository)["pytorch_model.bin"]
    assert entry.pieces is not None
    index = opened(repository).index
    metadata = {index.locations(entry.pieces)[0].pack}
    metadata |= {index.locations(tree)[0].pack for tree in snapshots_in(repository)[0].record.trees}
    lost = next(pack for pack in index.packs if pack not in metadata)
    (repository / "packs" / lost).unlink()
    for path in (repository / "index").iterdir():
        path.unlink()
    report = back_up(repository, cache)
    assert report.data.bytes_read >= 4 * MIB
    assert report.data.bytes_new_stored >= 512 * KIB
    bring_back(repository, target)
    require_same(cache, target)
    require_sound(repository)


def test_a_dry_run_tells_and_writes_nothing(cache: Path, repository: Path) -> None:
    make_sample(cache)
    (cache / "escapes").symlink_to("/etc")
    plan = back_up(repository, cache, dry_run=True)
    assert (plan.data.dry_run, plan.data.snapshot_id) == (True, None)
    assert plan.data.left_out == ["escapes"]
    assert plan.data.bytes_read == plan.data.size_bytes > 0
    assert not repository.parent.exists()
    back_up(repository, cache)
    before = sorted((path, path.stat().st_mtime_ns) for path in repository.rglob("*"))
    (cache / "new.bin").write_bytes(noise(1000))
    assert back_up(repository, cache, dry_run=True).data.bytes_read >= 1000
    assert sorted((path, path.stat().st_mtime_ns) for path in repository.rglob("*")) == before
