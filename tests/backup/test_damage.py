"""Rot is told from change: warned of, remembered, and never what ``restore`` takes."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from tests.backup.world import (
    KIB,
    MIB,
    Watching,
    back_up,
    bring_back,
    codes,
    data_of,
    describe,
    entries_in,
    flip,
    make_model,
    make_sample,
    noise,
    require_same,
    settle,
    snapshots_in,
    weights,
    zitcache,
)
from tests.storage.disks import ext4, mounted
from zitcache.errors import Exit, SnapshotNotFound
from zitcache.tasks.sample import SampleLayout


def test_content_that_differs_while_size_and_time_do_not_is_damage(
    cache: Path, repository: Path, target: Path
) -> None:
    make_sample(cache)
    original = cache.with_name("original")
    shutil.copytree(cache, original, copy_function=shutil.copy2)
    good = back_up(repository, cache)
    shard = next(cache.rglob("diffusion_pytorch_model-00002-of-00003.safetensors"))
    flip(shard)
    report = back_up(repository, cache, reread=1.0)
    assert (report.exit_code, report.data.suspect) == (Exit.DAMAGE, True)
    assert report.data.damaged == [str(shard.relative_to(cache))]
    warning = next(warning for warning in report.warnings if warning.code == "suspect")
    assert shard.name in warning.message
    assert "zitcache verify --repair" in (warning.hint or "")
    record = snapshots_in(repository)[-1].record
    assert record.suspect
    assert [damage.path for damage in record.damage] == report.data.damaged
    restored = bring_back(repository, target)
    assert (restored.exit_code, restored.data.snapshot_id) == (Exit.OK, good.data.snapshot_id)
    assert "newer-snapshot-passed-over" in codes(restored)
    require_same(original, target)


def test_the_suspect_snapshot_can_be_had_by_name(cache: Path, repository: Path, target: Path) -> None:
    make_model(cache)
    back_up(repository, cache)
    flip(cache / "model.safetensors")
    bad = back_up(repository, cache)
    restored = bring_back(repository, target, snapshot=(bad.data.snapshot_id or "")[:10])
    assert restored.data.snapshot_id == bad.data.snapshot_id
    assert "suspect-snapshot" in codes(restored)
    require_same(cache, target)


def test_nothing_but_suspect_snapshots_is_said_so(cache: Path, repository: Path, target: Path) -> None:
    make_model(cache)
    back_up(repository, cache)
    flip(cache / "model.safetensors")
    back_up(repository, cache)
    (repository / "snapshots" / snapshots_in(repository)[0].id).unlink()
    with pytest.raises(SnapshotNotFound) as caught:
        bring_back(repository, target)
    assert "suspect" in caught.value.message
    assert "zitcache snapshots" in (caught.value.hint or "")
    assert not target.exists()


def test_the_nights_after_it_is_still_known_as_damaged(cache: Path, repository: Path) -> None:
    make_sample(cache)
    settle(cache)
    good = back_up(repository, cache)
    vae = next(cache.rglob("vae/diffusion_pytorch_model.safetensors"))
    flip(vae)
    settle(cache)
    back_up(repository, cache)
    for _ in range(2):
        night = back_up(repository, cache)  # nothing asked to be read again
        assert (night.exit_code, night.data.suspect) == (Exit.DAMAGE, True)
        assert night.data.damaged == [str(vae.relative_to(cache))]
        assert night.data.bytes_read == vae.stat().st_size
    flip(vae)
    repaired = back_up(repository, cache)
    assert (repaired.exit_code, repaired.data.suspect) == (Exit.OK, False)
    assert back_up(repository, cache).data.bytes_read <= vae.stat().st_size
    assert [s.record.suspect for s in snapshots_in(repository)][:2] == [False, True]
    assert good.data.snapshot_id != repaired.data.snapshot_id


def test_a_repair_that_writes_the_file_anew_makes_it_good(cache: Path, repository: Path) -> None:
    make_model(cache)
    content, times = (cache / "model.safetensors").read_bytes(), (cache / "model.safetensors").stat()
    back_up(repository, cache)
    flip(cache / "model.safetensors")
    assert back_up(repository, cache).exit_code is Exit.DAMAGE
    copy = cache / "copy"
    copy.write_bytes(content)
    os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))
    copy.rename(cache / "model.safetensors")
    assert back_up(repository, cache).exit_code is Exit.OK


def test_a_new_download_after_damage_is_a_new_version(cache: Path, repository: Path) -> None:
    make_model(cache)
    back_up(repository, cache)
    flip(cache / "model.safetensors")
    assert back_up(repository, cache).exit_code is Exit.DAMAGE
    (cache / "model.safetensors").write_bytes(weights({"fine-tuned": 90 * KIB}))
    report = back_up(repository, cache)
    assert (report.exit_code, report.data.damaged) == (Exit.OK, [])


def test_new_content_with_a_new_time_is_a_new_version(cache: Path, repository: Path, target: Path) -> None:
    make_model(cache)
    back_up(repository, cache)
    path = cache / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    report = back_up(repository, cache, reread=1.0)
    assert (report.exit_code, report.data.suspect) == (Exit.OK, False)
    bring_back(repository, target)
    require_same(cache, target)


def test_a_second_flip_in_a_damaged_file_is_still_damage(cache: Path, repository: Path) -> None:
    make_model(cache)
    first = back_up(repository, cache)
    for offset in (1000, 2000, 1000):
        flip(cache / "model.safetensors", offset)
        assert back_up(repository, cache).exit_code is Exit.DAMAGE
    flip(cache / "model.safetensors", 2000)
    assert back_up(repository, cache).exit_code is Exit.OK
    assert snapshots_in(repository)[0].id == first.data.snapshot_id


def test_damage_is_not_forgotten_when_the_file_cannot_be_read_one_night(
    cache: Path, repository: Path, target: Path
) -> None:
    make_model(cache)
    original = cache.with_name("original")
    shutil.copytree(cache, original)
    back_up(repository, cache)
    flip(cache / "model.safetensors")
    back_up(repository, cache)

    def touch(path: str) -> None:
        if path.endswith("model.safetensors"):
            times = os.stat(path)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # changes nothing but ctime

    settle(cache)
    night = back_up(repository, cache, Watching(on_file=touch))
    assert (night.exit_code, night.data.suspect) == (Exit.DAMAGE, True)
    assert night.data.left_out == night.data.damaged == ["model.safetensors"]
    assert back_up(repository, cache).exit_code is Exit.DAMAGE
    bring_back(repository, target)
    assert (target / "model.safetensors").read_bytes() == (original / "model.safetensors").read_bytes()


def test_damage_is_seen_where_no_snapshot_is_complete(cache: Path, repository: Path) -> None:
    """A link out of the cache keeps every snapshot partial; rot is told from change all the same."""
    make_model(cache)
    back_up(repository, cache)
    (cache / "escapes").symlink_to("/etc/hosts")
    (cache / "model.safetensors").write_bytes(weights({"second version": 64 * KIB}))
    assert back_up(repository, cache).exit_code is Exit.PARTIAL
    flip(cache / "model.safetensors")
    for _ in range(3):
        report = back_up(repository, cache)
        assert (report.exit_code, report.data.damaged) == (Exit.DAMAGE, ["model.safetensors"])
    flip(cache / "model.safetensors")
    assert back_up(repository, cache).exit_code is Exit.PARTIAL
    settle(cache)
    back_up(repository, cache)
    assert back_up(repository, cache).data.bytes_read == 0


def test_a_model_that_was_complete_and_is_not_any_more_is_suspect(
    cache: Path, repository: Path, target: Path
) -> None:
    make_sample(cache)
    good = back_up(repository, cache)
    shard = next(cache.rglob("model-00002-of-00003.safetensors"))
    os.truncate(shard, 1000)
    report = back_up(repository, cache)
    assert (report.exit_code, report.data.suspect) == (Exit.DAMAGE, True)
    assert "Tongyi-MAI/Z-Image-Turbo" in next(w.message for w in report.warnings if w.code == "suspect")
    assert bring_back(repository, target).data.snapshot_id == good.data.snapshot_id
    shard.unlink()
    assert back_up(repository, cache).exit_code is Exit.DAMAGE


def test_a_download_that_goes_on_is_not_damage(cache: Path, repository: Path) -> None:
    """The same model in the older layout, incomplete from the start, beside the complete one."""
    make_sample(cache)
    legacy = cache / "models" / "Tongyi-MAI" / "Z-Image-Turbo"
    legacy.mkdir(parents=True)
    (legacy / "model_index.json").write_bytes(next(cache.rglob("model_index.json")).read_bytes())
    (legacy / ".mv").write_text("Revision:master,CreatedAt:1718850541")
    for _ in range(2):
        report = back_up(repository, cache)
        assert (report.exit_code, report.data.suspect) == (Exit.OK, False)
        assert "model-incomplete" in codes(report)
    complete = {model.layout: model.complete for model in snapshots_in(repository)[-1].record.models}
    assert complete == {"modelscope": True, "modelscope-legacy": False}


def test_a_model_that_was_removed_on_purpose_is_not_damage(cache: Path, repository: Path) -> None:
    make_sample(cache)
    make_model(cache / "models" / "other--model" / "snapshots" / "master")
    back_up(repository, cache)
    shutil.rmtree(cache / "models" / "other--model")
    assert back_up(repository, cache).exit_code is Exit.OK


@pytest.mark.root
def test_bits_that_rot_on_the_disk_are_found_by_reading_again(
    tmp_path: Path, repository: Path, target: Path
) -> None:
    """True rot: the file system knows nothing of it, so inode, size and all times are what they were."""
    disk = tmp_path / "disk"
    marker = noise(4 * KIB, "where the bit rots")
    with ext4(disk, size=24 * MIB, keep_image=True) as mount_point:
        cache = make_model(mount_point / "cache", {"pytorch_model.bin": noise(3 * MIB) + marker})
        settle(cache)
        good = back_up(repository, cache)
        before = describe(cache)
    image = disk.with_name(disk.name + ".img")
    with image.open("r+b") as file:
        position = file.read().index(marker) + 77
        file.seek(position)
        file.write(bytes([marker[77] ^ 16]))
    with mounted(["-o", "loop", str(image)], disk):
        shallow = back_up(repository, cache)
        assert (shallow.exit_code, shallow.data.bytes_read) == (Exit.OK, 0)
        deep = back_up(repository, cache, reread=1.0)
        assert (deep.exit_code, deep.data.damaged) == (Exit.DAMAGE, ["pytorch_model.bin"])
        for _ in range(2):
            assert back_up(repository, cache).data.damaged == ["pytorch_model.bin"]
        restored = bring_back(repository, target)
    assert restored.data.snapshot_id == shallow.data.snapshot_id != good.data.snapshot_id
    assert describe(target) == before


def test_reread_takes_the_longest_unread_first_and_remembers(
    cache: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model(cache, {f"part{number}.bin": noise(100 * KIB + number) for number in range(10)})
    settle(cache)
    night = [time.time_ns()]
    monkeypatch.setattr(time, "time_ns", lambda: night[0])
    back_up(repository, cache)
    read: list[set[str]] = []
    for _ in range(10):
        night[0] += 86400 * 10**9
        report = back_up(repository, cache, reread=0.1)
        assert report.exit_code is Exit.OK
        now = night[0] // 10**9
        read.append({path for path, entry in entries_in(repository).items() if entry.read_at == now})
        assert report.data.size_bytes * 0.1 <= report.data.bytes_read <= report.data.size_bytes * 0.2 + 200
        assert report.data.bytes_new_stored < 16 * KIB
    # Ten nights of a tenth each: every file was read, and none twice before all were.
    assert set.union(*read[:9]) >= {f"part{number}.bin" for number in range(9)}
    weights_read = [path for night_read in read for path in night_read if path.startswith("part")]
    assert len(set(weights_read)) == 10
    assert max(weights_read.count(path) for path in weights_read) <= 2


def test_reread_by_the_command(cache: Path, repository: Path) -> None:
    make_sample(cache, SampleLayout.HUGGINGFACE)
    settle(cache)
    zitcache("backup", "--init", "-r", repository, "--cache", cache)
    flip(max(cache.rglob("blobs/*"), key=lambda path: path.stat().st_size))
    done = zitcache("backup", "--json", "--reread", "100%", "-r", repository, "--cache", cache)
    assert done.returncode == 1
    data = data_of(done)
    assert data["suspect"] is True
    assert data["bytes_read"] == data["size_bytes"]
    assert len(data["damaged"]) == 1
    said = zitcache("backup", "-r", repository, "--cache", cache)
    assert said.returncode == 1
    assert data["damaged"][0] in said.stderr + said.stdout


def test_a_damaged_file_whose_name_is_no_text(cache: Path, repository: Path) -> None:
    """The reason names it, and the snapshot that holds the reason is JSON."""
    model = make_model(cache / "models/a--b/snapshots/master", {"plain.bin": noise(MIB)})
    bad = model / os.fsdecode(b"shard-\xff.bin")
    bad.write_bytes(noise(MIB, "bad"))
    settle(cache)
    assert back_up(repository, cache, init=True).exit_code is Exit.OK
    flip(bad)
    report = back_up(repository, cache, reread=1.0)
    assert report.exit_code is Exit.DAMAGE and report.data.damaged == [str(bad.relative_to(cache))]
    assert "shard-" in snapshots_in(repository)[-1].suspect_reasons[0]
