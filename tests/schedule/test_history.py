"""The history: bounded, in the repository when it can be, and robust against everything that lies there."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import msgspec
import pytest

from tests.backup.world import flip
from zitcache.errors import NotFound
from zitcache.repository.repository import Repository
from zitcache.schedule import history
from zitcache.schedule.history import (
    Run,
    RunRecord,
    StepRecord,
    find_run,
    last_with_step,
    own_runs,
    recent_runs,
    remember,
    state_directory,
)
from zitcache.storage.local import LocalStorage


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(LocalStorage(tmp_path / "repository"))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def record(number: int, **changes: object) -> RunRecord:
    made = RunRecord(
        command="night",
        host=os.uname().nodename,
        program="zitcache",
        started=1_700_000_000.0 + number * 86_400,
        ended=1_700_000_060.0 + number * 86_400,
        exit_code=0,
        steps=[StepRecord(name="backup", exit_code=0, seconds=1.0)],
        log=f"night {number}\n",
    )
    return msgspec.structs.replace(made, **changes)


def numbers(runs: list[Run]) -> list[str]:
    return [run.record.log.split()[1] for run in runs]


def test_the_newest_come_first_and_no_more_than_asked_for(repository: Repository, state: Path) -> None:
    for number in range(5):
        assert remember(record(number), repository, state) == []
    assert numbers(recent_runs(repository, state)) == ["4", "3", "2", "1", "0"]
    assert numbers(recent_runs(repository, state, 2)) == ["4", "3"]
    assert not (state / "runs").exists()


def test_the_repository_keeps_a_bounded_number(
    repository: Repository, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "KEEP", 5)
    for number in range(12):
        remember(record(number), repository, state)
        time.sleep(0.002)
    assert numbers(recent_runs(repository, state)) == ["11", "10", "9", "8", "7"]
    assert len(list(repository.storage.list("runs"))) == 5


def test_without_a_repository_a_bounded_number_waits(state: Path) -> None:
    for number in range(130):
        assert remember(record(number), None, state) == []
    waiting = recent_runs(None, state)
    assert len(waiting) == 100 and waiting[0].pending and numbers(waiting)[0] == "129"
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in (state / "runs").iterdir())


def test_what_waited_moves_over_and_the_newest_is_found_among_many(
    repository: Repository, state: Path
) -> None:
    for number in range(60):
        remember(record(number), None, state)
    remember(record(60), repository, state)
    assert list((state / "runs").iterdir()) == []
    assert numbers(recent_runs(repository, state, 1)) == ["60"]
    assert len(recent_runs(repository, state)) == 61 and not any(
        run.pending for run in recent_runs(repository, state)
    )


@pytest.mark.parametrize("damage", ["flipped", "empty", "foreign", "huge number", "snapshot"])
def test_a_damaged_record_is_passed_over(repository: Repository, state: Path, damage: str) -> None:
    for number in range(3):
        remember(record(number), repository, state)
    folder = Path(repository.storage.location) / "runs"
    victim = next(iter(folder.iterdir()))
    lost = 1
    if damage == "flipped":
        flip(victim)
    elif damage == "empty":
        victim.chmod(0o600)
        victim.write_bytes(b"")
    elif damage == "foreign":
        (folder / "notes.txt").write_text("hello")
        lost = 0
    elif damage == "huge number":
        repository.store_record("runs", _Wrong(exit_code=10**30))
        lost = 0
    else:
        repository.store_record("runs", _Wrong(exit_code=0))
        lost = 0
    assert len(recent_runs(repository, state)) == 3 - lost


class _Wrong(msgspec.Struct):
    exit_code: int


@pytest.mark.parametrize("content", [b"", b"{", b'{"command": 5}', b"\xff" * 1000, b"[" * 100_000])
def test_nonsense_that_waits_is_passed_over(state: Path, content: bytes) -> None:
    remember(record(0), None, state)
    (state / "runs/000000000000001-aaaa.json").write_bytes(content)
    assert numbers(recent_runs(None, state)) == ["0"]


def test_a_state_directory_that_cannot_be_made_is_a_notice(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (notice,) = remember(record(0), None, tmp_path / "file/state")
    assert notice.code == "history-not-written"


def test_a_run_is_found_by_the_beginning_of_its_id(repository: Repository, state: Path) -> None:
    with pytest.raises(NotFound, match="No run is recorded yet"):
        find_run([], "latest")
    for number in range(20):
        remember(record(number), repository, state)
    runs = recent_runs(repository, state)
    assert find_run(runs, "latest") is runs[0]
    assert find_run(runs, runs[7].id[:12].upper()) is runs[7]
    for selector in ("zz", "", "0" * 64):
        with pytest.raises(NotFound):
            find_run(runs, selector)
    shared = next(run.id[0] for run in runs if sum(other.id[0] == run.id[0] for other in runs) > 1)
    with pytest.raises(NotFound, match="give more digits"):
        find_run(runs, shared)


def test_a_step_that_was_skipped_was_not_done() -> None:
    skipped = StepRecord(name="drill", exit_code=0, seconds=0.0, skipped=True)
    failed = StepRecord(name="drill", exit_code=1, seconds=1.0)
    good = StepRecord(name="drill", exit_code=0, seconds=1.0)
    runs = [Run("c" * 64, record(3, steps=[skipped])), Run("b" * 64, record(2, steps=[failed]))]
    runs.append(Run("a" * 64, record(1, steps=[good])))
    found = last_with_step(runs, "drill")
    assert found is not None and found[0].id[0] == "b"
    found = last_with_step(runs, "drill", succeeded=True)
    assert found is not None and found[0].id[0] == "a"
    assert last_with_step(runs, "prune") is None


def test_the_runs_of_this_machine_or_of_all_when_it_has_none() -> None:
    mine, other = Run("a" * 64, record(1)), Run("b" * 64, record(2, host="another"))
    assert own_runs([other, mine]) == [mine]
    assert own_runs([other]) == [other]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"STATE_DIRECTORY": "/var/lib/zitcache", "HOME": "/h"}, "/var/lib/zitcache"),
        ({"STATE_DIRECTORY": "/a:/b", "HOME": "/h"}, "/a"),
        ({"STATE_DIRECTORY": "relative", "HOME": "/h"}, "/h/.local/state/zitcache"),
        ({"XDG_STATE_HOME": "/state", "HOME": "/h"}, "/state/zitcache"),
        ({"XDG_STATE_HOME": "state", "HOME": "/h"}, "/h/.local/state/zitcache"),
        ({"HOME": "/h"}, "/h/.local/state/zitcache"),
    ],
)
def test_where_small_things_are_kept(tmp_path: Path, environ: dict[str, str], expected: str) -> None:
    assert str(state_directory({"ZITCACHE_SYSTEM_ROOT": str(tmp_path), **environ})) == expected


def test_root_uses_the_directory_that_systemd_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A night of a unit and a command that is typed must see the same lock."""
    (tmp_path / "var/lib/zitcache").mkdir(parents=True)
    environ = {"ZITCACHE_SYSTEM_ROOT": str(tmp_path), "HOME": "/h"}
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert state_directory(environ) == tmp_path / "var/lib/zitcache"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert str(state_directory(environ)) == "/h/.local/state/zitcache"
