"""Nights of a repository in a bucket: on a real server, without the right to delete, without an answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.night.world import World, steps
from tests.s3.fixtures import S3Server, proxy, s3_keys, s3_location, s3_server
from tests.s3.proxy import FaultProxy
from zitcache.errors import Exit
from zitcache.repository.repository import Repository
from zitcache.repository.selection import list_snapshots
from zitcache.schedule.history import Run, recent_runs, state_directory
from zitcache.storage.opening import open_storage

__all__ = ["proxy", "s3_keys", "s3_location", "s3_server"]


def make(place: str) -> None:
    Repository.create(open_storage(place))


def runs(place: str) -> list[Run]:
    return recent_runs(Repository.open(open_storage(place)), state_directory())


def test_a_whole_night_on_a_bucket(world: World, s3_location: str, tmp_path: Path) -> None:
    make(s3_location)
    world.configure(f'[metrics]\ntextfile = "{tmp_path}/zitcache.prom"\n')
    before = set(tmp_path.iterdir())
    report, code, session = world.night(repository=s3_location, skip=("proof",))
    assert code == 0, [(step.name, step.message) for step in report.steps]
    assert list(steps(report)) == ["backup", "forget", "prune", "check", "drill", "report"]
    assert report.told and {notice.code for notice in session.warnings} <= {"system-disk"}
    (run,) = runs(s3_location)
    assert run.record.exit_code == 0 and not run.pending
    assert (state_directory() / "report.html").is_file(), "there is no folder of the repository to put it in"
    assert (
        'zitcache_model_protected{model="a/b",revision="master"} 1'
        in (tmp_path / "zitcache.prom").read_text()
    )
    made = {path.name for path in set(tmp_path.iterdir()) - before}
    assert made <= {"zitcache.prom", "metadata-cache"}, "no drill, no proofs in the working directory"
    report, code, _ = world.night(repository=s3_location)
    assert code == 0 and "drill" not in steps(report), "the history in the bucket knows"


def test_the_place_of_the_environment_is_used_for_every_step(
    world: World, s3_location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drill with a repository of its own would not try the one that matters."""
    make(s3_location)
    monkeypatch.setenv("ZITCACHE_REPO", s3_location)
    _, code, _ = world.night(repository=None, only=("backup", "drill"))
    assert code == 0
    (run,) = runs(s3_location)
    snapshots = list_snapshots(Repository.open(open_storage(s3_location)))[0]
    assert [snapshot.tags for snapshot in snapshots][-1] == ["drill"]
    assert run.record.step("drill") is not None


def test_keys_that_may_only_add_make_a_good_night(proxy: FaultProxy, world: World) -> None:
    place = proxy.place()
    make(place)
    proxy.answer(403, "AccessDenied", method="DELETE")
    for _ in range(2):
        report, code, _ = world.night(repository=place, skip=("proof", "drill"))
        told = {step.name: step.message for step in report.steps if step.skipped is None}
        assert code == 0, told
        assert "may not delete" in told["forget"]
        assert told["check"].startswith(("1 snapshots", "2 snapshots"))
    assert [run.record.exit_code for run in runs(place)] == [0, 0]


def test_a_server_that_refuses_is_remembered_here_until_it_does_not(proxy: FaultProxy, world: World) -> None:
    place = proxy.place()
    make(place)
    proxy.answer(403, "AccessDenied")
    report, code, _ = world.night(repository=place)
    assert code == Exit.CREDENTIALS and list(steps(report)) == ["backup"]
    waiting = recent_runs(None, state_directory())
    assert [run.record.exit_code for run in waiting] == [Exit.CREDENTIALS]
    proxy.clear()
    assert world.night(repository=place, only=("backup",))[1] == 0
    assert [(run.record.exit_code, run.pending) for run in runs(place)] == [(0, False), (4, False)]


def test_the_server_counts_a_quiet_night_in_few_requests(
    proxy: FaultProxy, world: World, s3_server: S3Server
) -> None:
    place = proxy.place()
    make(place)
    for _ in range(5):
        world.night(repository=place, only=("backup",))
    proxy.clear()
    world.night(repository=place, only=("backup",))
    print(proxy.count(), proxy.count("GET", "/runs/"))
    assert proxy.count() < 80
