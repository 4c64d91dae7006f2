"""A repository with damage in it: what can be brought back is, and what cannot is named."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.backup.world import (
    KIB,
    MIB,
    back_up,
    bring_back,
    codes,
    command,
    data_of,
    describe,
    entries_in,
    flip,
    make_model,
    make_repository,
    noise,
    opened,
    require_same,
    weights,
    zitcache,
)
from tests.storage.disks import python_environment
from zitcache.codec.blob import encode
from zitcache.errors import Exit, IntegrityError, Unreachable, ZitcacheError, from_os_error
from zitcache.repository.pack import PackWriter
from zitcache.storage.local import LocalStorage


@pytest.fixture
def saved(cache: Path, repository: Path) -> Path:
    make_model(
        cache,
        {
            "a.safetensors": weights({"a": 300 * KIB, "b": 300 * KIB}),
            "b.bin": noise(600 * KIB, "b"),
            "c.bin": noise(5 * KIB, "c"),
        },
    )
    make_repository(repository, piece_size=64 * KIB, merge_below=16 * KIB)
    back_up(repository, cache)
    return repository


def place_of(repository: Path, path: str, number: int = 0) -> tuple[Path, int, int, str]:
    """Pack, offset, length and id of a piece of a file."""
    found = opened(repository)
    _, blob = found.piece_list(entries_in(repository)[path])[number]
    location = found.index.locations(blob)[0]
    return repository / "packs" / location.pack, location.offset, location.length, blob


@pytest.mark.parametrize("where", ["header", "payload", "last byte"])
def test_one_flipped_bit_in_a_pack(where: str, saved: Path, cache: Path, target: Path) -> None:
    pack, offset, length, blob = place_of(saved, "b.bin", 4)
    flip(pack, {"header": offset + 20, "payload": offset + 5000, "last byte": offset + length - 1}[where])
    report = bring_back(saved, target)
    assert (report.exit_code, report.data.failed) == (Exit.DAMAGE, ["b.bin"])
    warning = next(warning for warning in report.warnings if warning.code == "not-restored")
    assert blob[:8] in warning.message
    assert pack.name[:8] in warning.message
    assert "zitcache check --read-data" in (warning.hint or "")
    assert not (target / "b.bin").exists()
    (cache / "b.bin").unlink()
    found = {name: what[:2] for name, what in describe(target).items()}
    assert found == {name: what[:2] for name, what in describe(cache).items()}
    done = zitcache("restore", "--json", "-r", saved, "--to", target.with_name("again"))
    assert done.returncode == 1
    assert data_of(done)["failed"] == ["b.bin"]


def test_a_good_copy_in_another_pack_is_used(saved: Path, cache: Path, target: Path) -> None:
    """Two machines may have stored the same blob at once."""
    pack, offset, _, _ = place_of(saved, "c.bin")
    writer = PackWriter(LocalStorage(saved))
    writer.add(encode((cache / "c.bin").read_bytes()))
    writer.commit()
    flip(pack, offset + 100)
    assert bring_back(saved, target).exit_code is Exit.OK
    require_same(cache, target)


def test_a_pack_that_was_cut_short(saved: Path, cache: Path, target: Path) -> None:
    pack, *_ = place_of(saved, "b.bin")
    with pack.open("r+b") as file:
        file.truncate(pack.stat().st_size // 2)
    try:
        report = bring_back(saved, target)
    except IntegrityError:  # the list of all files was in it, too
        assert not target.exists()
    else:
        assert "b.bin" in report.data.failed
        assert report.exit_code is Exit.DAMAGE
    assert back_up(saved, cache).exit_code is Exit.OK  # which stores again what was lost
    assert bring_back(saved, target).exit_code is Exit.OK
    require_same(cache, target)


def test_damaged_index_and_snapshot_objects(saved: Path, cache: Path, target: Path) -> None:
    (index,) = (saved / "index").iterdir()
    flip(index)
    bring_back(saved, target)
    require_same(cache, target)
    good = back_up(saved, cache)
    newest = saved / "snapshots" / (good.data.snapshot_id or "")
    flip(newest)
    report = bring_back(saved, target)
    assert (report.exit_code, report.data.action) == (Exit.OK, "nothing to do")
    warning = next(warning for warning in report.warnings if warning.code == "snapshot-unreadable")
    assert newest.name[:8] in warning.message
    assert "snapshot-unreadable" in codes(back_up(saved, cache))


def test_foreign_files_in_the_repository_do_not_disturb(saved: Path, cache: Path, target: Path) -> None:
    for folder in ("packs", "index", "snapshots"):
        (saved / folder / "README").write_text("not ours")
        (saved / folder / "0123").write_text("not ours either")
        (saved / folder / ("0" * 64)).write_bytes(noise(500))
        (saved / folder / ("1" * 64)).mkdir()
        (saved / folder / ".zitcache-tmp-1-0").write_bytes(b"half")
    bring_back(saved, target)
    require_same(cache, target)
    assert back_up(saved, cache).exit_code is Exit.OK


def test_any_one_flipped_bit_anywhere_is_never_restored_as_good(
    saved: Path, cache: Path, target: Path, tmp_path: Path
) -> None:
    """Whatever object it is in: the file is right, or it is named and absent; or the command fails."""
    objects = sorted(path for path in saved.rglob("*") if path.is_file())
    wanted = {name: what[0] for name, what in describe(cache).items()}
    dice = random.Random(11)
    for number in range(40):
        victim = dice.choice(objects)
        place = dice.randrange(victim.stat().st_size)
        flip(victim, place)
        to = tmp_path / "to" / str(number)
        try:
            report = bring_back(saved, to)
        except ZitcacheError as error:
            assert error.exit_code is not Exit.BUG, (victim, place)
            assert not to.exists()
        else:
            found = {name: what[0] for name, what in describe(to).items()}
            assert found == {n: w for n, w in wanted.items() if n not in report.data.failed}, (victim, place)
            assert (report.exit_code is Exit.DAMAGE) == bool(report.data.failed)
        flip(victim, place)
    bring_back(saved, target)
    require_same(cache, target)


def test_a_bad_sector_under_a_pack_costs_the_file_that_lies_on_it(
    saved: Path, cache: Path, target: Path, tmp_path: Path
) -> None:
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    pack, *_ = place_of(saved, "b.bin", 4)
    trace = ["strace", "-f", "-qq", "-o", tmp_path / "trace", "-P", pack, "-e", "trace=preadv,preadv2"]
    inject = ["-e", "inject=preadv,preadv2:error=EIO:when=4"]
    done = subprocess.run(
        [*trace, *inject, *command("restore", "--json", "-r", saved, "--to", target)],
        capture_output=True,
        text=True,
        env=python_environment(),
    )
    if "(INJECTED)" not in (tmp_path / "trace").read_text():
        pytest.skip("strace is not allowed here")
    assert done.returncode == Exit.DAMAGE, done.stdout
    failed = data_of(done)["failed"]
    assert len(failed) >= 1
    assert "Input/output error" in done.stdout
    restored = {name: what[0] for name, what in describe(target).items()}
    assert restored == {name: what[0] for name, what in describe(cache).items() if name not in failed}


@pytest.mark.parametrize("after", [3, 8])
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_repository_that_does_not_answer_any_more_ends_the_restore(
    number: int, after: int, saved: Path, cache: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dying(LocalStorage):
        reads = 0

        def load_into(self, name: str, offset: int, buffer: memoryview) -> None:
            self.reads += 1
            if self.reads > after:
                try:
                    raise OSError(number, os.strerror(number))
                except OSError as error:
                    raise from_os_error(error, f"reading {name}") from error
            super().load_into(name, offset, buffer)

    with monkeypatch.context() as patch:
        patch.setattr("zitcache.tasks.locations.open_storage", Dying)
        with pytest.raises(Unreachable):
            bring_back(saved, target)
    assert not target.exists()
    bring_back(saved, target)
    require_same(cache, target)


def test_a_backup_after_damage_stores_again_what_the_damaged_pack_holds(
    saved: Path, cache: Path, target: Path
) -> None:
    """A snapshot that builds on a damaged list of pieces would be one that cannot be restored."""
    found, entry = opened(saved), entries_in(saved)["b.bin"]
    location = found.index.locations(entry.pieces or "")[0]
    flip(saved / "packs" / location.pack, location.offset + location.length - 3)
    report = back_up(saved, cache)
    assert (report.exit_code, "pack-damaged" in codes(report)) == (Exit.OK, True)
    assert bring_back(saved, target).exit_code is Exit.OK
    require_same(cache, target)


def test_pieces_of_the_smallest_and_the_largest_size(cache: Path, tmp_path: Path, target: Path) -> None:
    make_model(cache, {"a.bin": noise(9 * MIB + 1), "b.safetensors": weights({"t": 5 * MIB, "u": 3})})
    for number, size in enumerate((4096, 64 * MIB)):
        repository = make_repository(tmp_path / f"r{number}", piece_size=size, merge_below=size // 2)
        back_up(repository, cache)
        bring_back(repository, target.with_name(str(number)))
        require_same(cache, target.with_name(str(number)))
