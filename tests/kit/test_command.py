"""``zitcache kit`` makes one where it is told, and ``--check`` proves that it works or says why not."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.backup.world import back_up, flip, make_sample
from tests.kit.conftest import own
from zitcache.cache.marker import KIT_NAME, MigrationMarker, marker_paths, write_marker
from zitcache.errors import Exit, NotFound, RepositoryNotFound, UsageError
from zitcache.events import Session
from zitcache.tasks.kit import KitReport
from zitcache.tasks.kit.command import KitRequest, kit
from zitcache.tasks.kit.layout import is_kit, python_tag


def checked(place: Path) -> tuple[KitReport, dict[str, str]]:
    """The report, and what failed."""
    outcome = kit(KitRequest(str(place), check=True), Session())
    failed = {step.name: step.detail for step in outcome.data.steps if not step.ok}
    assert outcome.exit_code == (Exit.DAMAGE if failed else Exit.OK)
    return outcome.data, failed


def details(report: KitReport) -> dict[str, str]:
    return {step.name: step.detail for step in report.steps}


def test_one_by_hand(tmp_path: Path) -> None:
    cache = make_sample(tmp_path / "cache")
    place = tmp_path / "new/kit"
    session = Session()
    outcome = kit(KitRequest(str(place)), session)
    assert outcome.data.action == "made" and is_kit(place)
    assert [notice.code for notice in session.warnings] == ["no-cache"]
    assert kit(KitRequest(str(place)), Session()).data.action == "updated", "by hand it is always made anew"
    assert cache.is_dir()


def test_a_repository_and_a_migrated_cache_have_it_at_a_fixed_place(tmp_path: Path) -> None:
    cache, repository = make_sample(tmp_path / "cache"), tmp_path / "repository"
    back_up(repository, cache)
    assert kit(KitRequest(str(repository)), Session()).data.path == str(repository / "kit")
    assert kit(KitRequest(repository=str(repository)), Session()).data.path == str(repository / "kit")
    write_marker(cache, marker(tmp_path / "old", cache))
    assert kit(KitRequest(str(cache)), Session()).data.path == str(cache / KIT_NAME)


def marker(source: Path, target: Path) -> MigrationMarker:
    return MigrationMarker(
        id="a" * 32,
        host="box",
        time="2026-01-01T00:00:00Z",
        program="zitcache test",
        method="copy",
        files=1,
        bytes=1,
        linked=True,
        **marker_paths(str(source), str(target)),  # type: ignore[arg-type]
    )


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").write_text("x")
    with pytest.raises(UsageError, match=r"not empty \(it holds 'cat.jpg'\)"):
        kit(KitRequest(str(tmp_path / "photos")), Session())
    assert list((tmp_path / "photos").iterdir()) == [tmp_path / "photos/cat.jpg"]
    with pytest.raises(UsageError):
        kit(KitRequest(""), Session())
    with pytest.raises(UsageError, match="no directory"):
        kit(KitRequest(repository="s3://bucket/prefix"), Session())
    with pytest.raises(RepositoryNotFound):
        kit(KitRequest(), Session())


def test_no_kit_to_check(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="There is no kit") as caught:
        kit(KitRequest(str(tmp_path), check=True), Session())
    assert caught.value.hint == f"Make one: zitcache kit {tmp_path}"


def test_check_runs_it_like_a_bare_machine(made: Path) -> None:
    report, failed = checked(made)
    assert not failed
    assert list(details(report)) == ["files", "start", "rehearsal"]
    assert "no network" in details(report)["start"]
    assert "was saved, lost and restored" in details(report)["rehearsal"]


def test_check_reads_from_the_repository(kit: Path, tmp_path: Path) -> None:
    back_up(tmp_path / "repository", make_sample(tmp_path / "cache"))
    shutil.move(kit, tmp_path / "repository/kit")
    report, failed = checked(tmp_path / "repository")
    assert not failed and "came back from snapshot" in details(report)["snapshots"]
    for pack in (tmp_path / "repository/packs").iterdir():
        pack.chmod(0o600)
        pack.write_bytes(b"\0" * pack.stat().st_size)
    report, failed = checked(tmp_path / "repository")
    assert list(failed) == ["snapshots"]


def test_check_reads_from_the_migrated_cache(kit: Path, tmp_path: Path) -> None:
    cache = make_sample(tmp_path / "cache")
    write_marker(cache, marker(tmp_path / "old/cache", cache))
    shutil.move(kit, cache / KIT_NAME)
    report, failed = checked(cache)
    assert not failed, failed
    assert details(report)["migrated cache"].endswith(f"would be linked at {tmp_path}/old/cache")
    assert not (tmp_path / "old").exists()
    next(cache.rglob("*.safetensors")).unlink()
    report, failed = checked(cache)
    assert "not complete" in failed["migrated cache"]


def _flip_numpy(kit: Path) -> None:
    flip(own(next(kit.glob("*/lib/numpy/__init__.py"))))


def _remove_one(kit: Path) -> None:
    next(kit.glob("*/lib/zitcache/codec/blob.py")).unlink()


def _truncate_one(kit: Path) -> None:
    path = own(next(kit.glob("*/lib/msgspec/*.so")))
    path.write_bytes(path.read_bytes()[:-1])


def _add_one(kit: Path) -> None:
    (next(kit.glob("*/lib")) / "torch.py").write_text("")


def _change_script(kit: Path) -> None:
    (kit / "recover.sh").write_text("#!/bin/sh\nexit 0\n")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_flip_numpy, "numpy/__init__.py is damaged"),
        (_remove_one, "codec/blob.py cannot be read (No such file or directory)"),
        (_truncate_one, "bytes instead of"),
        (_add_one, "lib/torch.py does not belong there"),
        (_change_script, "recover.sh has 17 bytes instead of"),
    ],
)
def test_check_names_what_is_damaged(kit: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(kit)
    _, failed = checked(kit)
    assert said in failed["files"], failed


def test_check_says_that_no_python_fits(kit: Path) -> None:
    (kit / python_tag()).rename(kit / "cp36-riscv64")
    _, failed = checked(kit)
    assert "no Python on this machine fits" in failed["start"]


def test_check_with_nothing_in_it(kit: Path) -> None:
    shutil.rmtree(kit / python_tag())
    _, failed = checked(kit)
    assert failed["files"] == "it holds no zitcache for any Python"


def test_a_kit_that_wants_the_network_is_found_out(kit: Path) -> None:
    part = kit / python_tag()
    start = own(part / "lib/zitcache/cli/main.py")
    start.write_text(
        "import socket\nsocket.create_connection(('127.0.0.1', 9), timeout=1)\n" + start.read_text()
    )
    _, failed = checked(kit)
    assert "start" in failed and "rehearsal" in failed


def test_it_runs_from_a_path_with_odd_characters(kit: Path, tmp_path: Path) -> None:
    odd = tmp_path / 'it\'s a "disk" $HOME'
    odd.mkdir()
    shutil.move(kit, odd / "kit")
    done = subprocess.run(["sh", odd / "kit/zitcache", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("zitcache "), done.stderr
    done = subprocess.run(["sh", "recover.sh", "--help"], cwd=odd / "kit", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
