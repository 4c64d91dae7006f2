"""Copies to, from and between buckets of a real server, and over a line on which everything goes wrong."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.backup.world import KIB, MIB, back_up, bring_back, command, make_repository, noise, require_same
from tests.copy.world import ids, make_source, opened, require_restorable, run_copy, stored_copies
from tests.s3.fixtures import S3Server
from tests.s3.proxy import FaultProxy
from tests.storage.disks import python_environment
from zitcache.errors import Exit, UsageError
from zitcache.repository.repository import REMOTE_PACK_SIZE


def test_from_a_disk_to_a_bucket_to_another_bucket_and_back(
    s3_server: S3Server, s3_location: str, tmp_path: Path
) -> None:
    cache, source = make_source(tmp_path, nights=2)
    first = run_copy(source, s3_location).data
    assert first.to == s3_location and first.created
    assert opened(s3_location).config.pack_size == REMOTE_PACK_SIZE
    other = s3_server.place()
    assert len(run_copy(s3_location, other).data.snapshots_copied) == 2
    back = tmp_path / "back"
    assert len(run_copy(other, back).data.snapshots_copied) == 2
    assert ids(source) == ids(s3_location) == ids(other) == ids(back)
    require_restorable(back, cache, tmp_path / "restored")
    for place in (s3_location, other):
        outcome = bring_back(place, tmp_path / "from-bucket")  # type: ignore[arg-type]
        assert outcome.exit_code is Exit.OK
        require_same(cache, tmp_path / "from-bucket")
    assert set(stored_copies(other).values()) == {1}


def test_one_bucket_twice_is_refused(s3_location: str, tmp_path: Path) -> None:
    _, source = make_source(tmp_path)
    run_copy(source, s3_location)
    for again in (s3_location, s3_location.replace("127.0.0.1", "localhost")):
        with pytest.raises(UsageError) as caught:
            run_copy(s3_location, again)
        assert "same" in caught.value.message


def test_the_second_night_asks_for_next_to_nothing(proxy: FaultProxy, tmp_path: Path) -> None:
    cache, source = make_source(tmp_path, nights=2)
    place = proxy.place()
    run_copy(source, place)
    proxy.clear()
    report = run_copy(source, place).data
    assert report.snapshots_skipped == 2 and report.blobs_copied == 0
    assert proxy.count("PUT") == 0
    assert proxy.count() <= 8, [(each.method, each.target) for each in proxy.requests]
    (cache / "new.bin").write_bytes(noise(64 * KIB, "new"))
    back_up(source, cache)
    proxy.clear()
    assert len(run_copy(source, place).data.snapshots_copied) == 1
    assert 64 * KIB < proxy.bytes_sent() < 128 * KIB


FAULTS: dict[str, Callable[[FaultProxy], object]] = {
    "a storm of 503": lambda proxy: proxy.answer(503, "SlowDown", times=12),
    "500 on every third upload": lambda proxy: proxy.answer(
        500, "InternalError", method="PUT", times=4, skip=2
    ),
    "uploads that break": lambda proxy: proxy.cut_request(
        after=200_000, method="PUT", path="/packs/", times=3
    ),
    "downloads that break": lambda proxy: proxy.cut_response(
        after=50_000, method="GET", path="/packs/", times=5
    ),
    "answers that get lost": lambda proxy: proxy.lose_answer(method="PUT", times=3),
    "bodies with a wrong bit": lambda proxy: proxy.flip_response(at=700, method="GET", times=3),
    "bodies that are too short": lambda proxy: proxy.truncate_response(
        by=9, method="GET", path="/packs/", times=3
    ),
    "an endpoint that is gone for a while": lambda proxy: proxy.refuse(2.0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_goes_wrong_on_the_line_to_the_target_is_overcome(
    proxy: FaultProxy, tmp_path: Path, fault: str
) -> None:
    cache, source = make_source(tmp_path)
    place = proxy.place()
    make = run_copy(source, place, dry_run=True)
    assert len(make.data.snapshots_copied) == 1
    from zitcache.events import Session
    from zitcache.tasks.snapshots import init

    init(place, Session())
    FAULTS[fault](proxy)
    outcome = run_copy(source, place)
    assert outcome.exit_code is Exit.OK
    proxy.clear()
    assert set(stored_copies(place).values()) == {1}
    bring_back(place, tmp_path / "restored")  # type: ignore[arg-type]
    require_same(cache, tmp_path / "restored")


@pytest.mark.parametrize("fault", FAULTS)
def test_what_goes_wrong_on_the_line_from_the_source_is_overcome(
    proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    cache, source = make_source(tmp_path)
    place = proxy.place()
    run_copy(source, place)
    monkeypatch.setenv("ZITCACHE_METADATA_CACHE", "off")
    FAULTS[fault](proxy)
    outcome = run_copy(place, tmp_path / "copy")
    assert outcome.exit_code is Exit.OK, outcome.data.snapshots_failed
    require_restorable(tmp_path / "copy", cache, tmp_path / "restored")


@pytest.mark.parametrize("fault", FAULTS)
def test_what_goes_wrong_while_restoring_is_overcome(
    proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    cache, source = make_source(tmp_path)
    place = proxy.place()
    run_copy(source, place)
    monkeypatch.setenv("ZITCACHE_METADATA_CACHE", "off")
    FAULTS[fault](proxy)
    outcome = bring_back(place, tmp_path / "restored")  # type: ignore[arg-type]
    assert outcome.exit_code is Exit.OK, outcome.data.failed
    require_same(cache, tmp_path / "restored")


def test_kills_on_the_way_to_a_bucket(s3_server: S3Server, s3_location: str, tmp_path: Path) -> None:
    cache, source = make_source(tmp_path, nights=2)
    target = s3_location
    from zitcache.events import Session
    from zitcache.tasks.snapshots import init

    init(target, Session())
    prefix = target.partition("?")[0].rpartition("/")[2]
    for delay in (0.3, 0.6, 0.8, 1.0, 1.2):
        process = subprocess.Popen(
            command("copy", source, target), env=python_environment(), stderr=subprocess.DEVNULL
        )
        time.sleep(delay)
        process.kill()
        process.wait()
        for snapshot in ids(target):
            assert snapshot in ids(source)
    sent = {name for name in s3_server.objects(prefix) if name.startswith("packs/")}
    assert run_copy(source, target).exit_code is Exit.OK
    now = {name for name in s3_server.objects(prefix) if name.startswith("packs/")}
    assert sent <= now
    assert set(stored_copies(target).values()) == {1}
    assert ids(target) == ids(source)
    bring_back(target, tmp_path / "restored")  # type: ignore[arg-type]
    require_same(cache, tmp_path / "restored")


def test_a_bucket_and_a_disk_have_other_rules(s3_location: str, tmp_path: Path) -> None:
    """Pieces of a repository that cuts coarsely, in one that cuts finely, checked to the last byte."""
    from zitcache.events import Session
    from zitcache.tasks.check import CheckRequest, check

    cache, _ = make_source(tmp_path)
    coarse = make_repository(tmp_path / "coarse", piece_size=16 * MIB)
    back_up(coarse, cache)
    run_copy(coarse, s3_location)
    fine = make_repository(tmp_path / "fine", piece_size=64 * KIB, merge_below=0)
    run_copy(s3_location, fine)
    assert check(CheckRequest(repository=str(fine), read_data=True), Session()).exit_code is Exit.OK
    require_restorable(fine, cache, tmp_path / "restored")
