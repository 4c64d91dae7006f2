"""Forget, prune and undelete in a bucket of a real S3 server, and over a line on which things go wrong."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.backup.world import KIB, back_up, bring_back, command, make_model, noise, require_same
from tests.s3.fixtures import S3Server, proxy, s3_keys, s3_location, s3_server
from tests.s3.proxy import FaultProxy
from tests.storage.disks import python_environment
from zitcache.errors import CredentialsError, Exit
from zitcache.events import Session
from zitcache.repository.repository import Repository
from zitcache.storage.opening import open_storage
from zitcache.tasks.check import CheckRequest, check
from zitcache.tasks.forget import ForgetRequest, forget
from zitcache.tasks.prune import PruneReport, PruneRequest, prune
from zitcache.tasks.repair import RepairRequest, repair
from zitcache.tasks.undelete import UndeleteRequest, undelete

__all__ = ["proxy", "s3_keys", "s3_location", "s3_server"]


@pytest.fixture(autouse=True)
def own_metadata_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ZITCACHE_METADATA_CACHE", str(tmp_path / "metadata-cache"))
    yield


def nights(place: str, cache: Path, count: int = 3) -> list[str]:
    """That many snapshots, each with other weights."""
    found = []
    for number in range(count):
        make_model(cache, {"weights.bin": noise(300 * KIB, f"night {number}"), "common.bin": noise(9000)})
        report = back_up(place, cache).data  # type: ignore[arg-type]
        assert report.snapshot_id is not None
        found.append(report.snapshot_id)
    return found


def run_prune(place: str, **options: Any) -> PruneReport:
    return prune(PruneRequest(repository=place, **options), Session()).data


def run_forget(place: str, *ids: str) -> None:
    forget(ForgetRequest(repository=place, ids=ids), Session())


def folder(place: str, name: str) -> set[str]:
    """Names of the objects that lie there, as a process sees them that knows nothing yet."""
    found = Repository.open(open_storage(place))
    return {name for name, _ in found.objects(name)}


def require_sound(place: str, cache: Path, target: Path) -> None:
    assert check(CheckRequest(repository=place, read_data=True), Session()).exit_code is Exit.OK
    assert bring_back(place, target).exit_code is Exit.OK  # type: ignore[arg-type]
    require_same(cache, target)


def test_forgetting_pruning_and_coming_back_in_a_bucket(s3_location: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first, second, _ = nights(s3_location, cache)
    run_forget(s3_location, first, second)
    report = run_prune(s3_location)
    assert report.packs_marked >= 2 and report.packs_deleted == 0 and report.snapshots_held == 2
    back = undelete(UndeleteRequest(repository=s3_location, ids=(second,)), Session()).data
    assert back.restored == 1
    report = run_prune(s3_location, grace_seconds=0)
    assert report.snapshots_gone == [first] and report.packs_deleted >= 1
    assert not folder(s3_location, "sweeps") and not folder(s3_location, "claims")
    require_sound(s3_location, cache, tmp_path / "back")
    assert bring_back(s3_location, tmp_path / "second", snapshot=second).exit_code is Exit.OK  # type: ignore[arg-type]


def test_two_prunes_at_once_in_processes_of_their_own(s3_location: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    ids = nights(s3_location, cache, 4)
    run_forget(s3_location, *ids[:3])
    arguments = command("prune", "-r", s3_location, "--grace", "0", "--max-unused", "0%")
    running = [
        subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=python_environment())
        for _ in range(3)
    ]
    ends = [(process.communicate(timeout=120), process.returncode) for process in running]
    codes = sorted(code for _, code in ends)
    assert codes[0] == 0 and set(codes) <= {0, int(Exit.LOCKED)}, ends
    run_prune(s3_location, grace_seconds=0)
    assert not folder(s3_location, "locks") and not folder(s3_location, "sweeps")
    require_sound(s3_location, cache, tmp_path / "back")


def test_keys_that_may_not_delete(proxy: FaultProxy, tmp_path: Path) -> None:
    """Backup does its work; forget and prune say what is wrong, and nothing is half done."""
    place, cache = proxy.place(), tmp_path / "cache"
    first, *_ = nights(place, cache, 2)
    proxy.answer(403, "AccessDenied", method="DELETE")
    nights(place, cache, 3)
    assert folder(place, "claims"), "which nobody may take back"
    before = {each: folder(place, each) for each in ("snapshots", "packs", "forgotten", "marks", "sweeps")}
    for work in (lambda: run_forget(place, first), lambda: run_prune(place, grace_seconds=0)):
        with pytest.raises(CredentialsError) as denied:
            work()
        assert "does not allow to delete" in denied.value.message
        assert "Nothing is half done" in str(denied.value.hint)
    assert before == {each: folder(place, each) for each in before}
    proxy.clear()
    run_forget(place, first)
    assert run_prune(place, grace_seconds=0).snapshots_gone == [first]
    assert not folder(place, "claims") and not folder(place, "locks")
    require_sound(place, cache, tmp_path / "back")


def test_a_prune_over_a_bad_line(proxy: FaultProxy, tmp_path: Path) -> None:
    place, cache = proxy.place(), tmp_path / "cache"
    first, *_ = nights(place, cache)
    run_forget(place, first)
    proxy.answer(503, "SlowDown", times=6)
    proxy.cut_response(after=20, method="GET", times=3)
    proxy.lose_answer(method="DELETE", times=2)
    proxy.lose_answer(method="PUT", times=2)
    report = run_prune(place, grace_seconds=0, max_unused=0)
    assert report.packs_deleted >= 1 and report.snapshots_gone == [first]
    proxy.clear()
    assert not folder(place, "sweeps") and not folder(place, "locks")
    require_sound(place, cache, tmp_path / "back")


def test_repair_in_a_bucket(s3_server: S3Server, s3_location: str, tmp_path: Path) -> None:
    """What lies in the bucket counts, not what this machine remembers of it."""
    cache = tmp_path / "cache"
    nights(s3_location, cache, 2)
    for name in folder(s3_location, "index"):
        open_storage(s3_location).delete(name)
    (broken, *_) = sorted(folder(s3_location, "snapshots"))
    storage = open_storage(s3_location)
    data = bytearray(storage.load(broken))
    data[-1] ^= 1
    storage.delete(broken)
    storage.store(broken, bytes(data))
    report = repair(RepairRequest(repository=s3_location, cache=str(cache)), Session()).data
    assert [item.name for item in report.set_aside] == [broken]
    assert report.packs_indexed >= 2 and not report.snapshots_damaged
    assert len(folder(s3_location, "snapshots")) == 1 and len(folder(s3_location, "index")) == 1
