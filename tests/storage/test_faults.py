"""The fault injector itself: other tests prove nothing if it does not bite."""

from __future__ import annotations

import contextlib
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.storage.disks import names_under
from tests.storage.faults import FaultyStorage, Killed, Plan, count_operations, every_error, every_stop, plans
from zitcache.errors import NoSpace, ObjectTruncated, ZitcacheError
from zitcache.storage.local import LocalStorage
from zitcache.storage.protocol import Storage

CONTENT = {"packs/aa": b"a" * 1000, "packs/bb": b"b" * 1000, "snapshots/cc": b"c"}


def run(storage: Storage) -> None:
    """A small backup: two packs, the second read back, then what makes them count."""
    storage.store("packs/aa", CONTENT["packs/aa"])
    with storage.writer() as writer:
        writer.write(CONTENT["packs/bb"][:500])
        writer.write(CONTENT["packs/bb"][500:])
        writer.commit("packs/bb")
    storage.load("packs/bb")
    storage.create("snapshots/cc", CONTENT["snapshots/cc"])


def test_every_stop_is_reached_and_leaves_whole_objects_in_order(tmp_path: Path) -> None:
    places = (LocalStorage(tmp_path / str(number)) for number in count())
    seen: list[list[str]] = []
    for plan in every_stop(run, lambda: next(places)):
        inner = next(places)
        storage = FaultyStorage(inner, plan)
        with pytest.raises(Killed):
            run(storage)
        with pytest.raises(Killed):
            storage.load("packs/aa")
        found = [info.name for folder in ("packs", "snapshots") for info in inner.list(folder)]
        assert all(inner.load(name) == CONTENT[name] for name in found)
        seen.append(sorted(found))
        # The next run, on what is left, completes.
        run(inner)
        assert {name: inner.load(name) for name in CONTENT} == CONTENT
    none: list[str] = []
    one, two, three = ["packs/aa"], ["packs/aa", "packs/bb"], sorted(CONTENT)
    #        store      writer    write     write     commit    load      create
    assert seen == [none, one, one, one, one, one, one, one, one, two, two, two, two, three]


def test_a_killed_writer_leaves_its_file_as_a_kill_does(tmp_path: Path) -> None:
    inner = LocalStorage(tmp_path)
    with pytest.raises(Killed):
        run(FaultyStorage(inner, Plan(stop_after=3)))
    assert len(inner.stale_temporaries(0)) == 1


def test_every_error_is_met_once_and_leaves_no_trace(tmp_path: Path) -> None:
    places = (LocalStorage(tmp_path / str(number)) for number in count())
    met = 0
    for plan in every_error(run, lambda: next(places), NoSpace("full")):
        inner = next(places)
        with pytest.raises(NoSpace):
            run(FaultyStorage(inner, plan))
        assert inner.stale_temporaries(0) == ()
        assert set(names_under(inner.directory)) <= set(CONTENT)
        met += 1
    assert met == count_operations(run, next(places)) == 7


def test_reads_are_cut_short_and_bits_flipped(tmp_path: Path) -> None:
    inner = LocalStorage(tmp_path)
    inner.store("packs/aa", b"\0" * 100)
    storage = FaultyStorage(inner, Plan(short_reads={1: 10, 3: 1}, flips={2: 9, 4: 800 + 7}))
    assert storage.load("packs/aa") == b"\0" * 90
    assert storage.load("packs/aa") == b"\0\2" + b"\0" * 98
    buffer = bytearray(100)
    with pytest.raises(ObjectTruncated):
        storage.load_into("packs/aa", 0, memoryview(buffer))
    storage.load_into("packs/aa", 0, memoryview(buffer))
    assert buffer == b"\x80" + b"\0" * 99
    assert storage.load("packs/aa") == b"\0" * 100
    assert [operation.verb for operation in storage.operations] == [
        "load",
        "load",
        *["load_into"] * 2,
        "load",
    ]
    assert storage.count("load") == 3


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(plan=plans(max_operations=8))
def test_any_mixture_of_faults_leaves_whole_objects(tmp_path: Path, plan: Plan) -> None:
    inner = LocalStorage(tmp_path / str(len(list(tmp_path.iterdir()))))
    with contextlib.suppress(Killed, ZitcacheError):
        run(FaultyStorage(inner, plan))
    for folder in ("packs", "snapshots"):
        for info in inner.list(folder):
            assert inner.load(info.name) == CONTENT[info.name]
