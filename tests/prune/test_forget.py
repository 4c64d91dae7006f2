"""Forgetting, pinning and bringing back, on a real repository."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.backup.world import (
    back_up,
    bring_back,
    data_of,
    flip,
    make_sample,
    require_same,
    require_sound,
    zitcache,
)
from tests.prune.world import (
    DAY,
    big,
    everything,
    names,
    new_repository,
    opened,
    pass_time,
    run_forget,
    run_prune,
    run_undelete,
    snapshot,
    write,
)
from zitcache.errors import Exit, SnapshotNotFound, UsageError
from zitcache.events import Session
from zitcache.repository.retention import Policy
from zitcache.repository.selection import list_snapshots
from zitcache.tasks.prune import PruneRequest
from zitcache.tasks.tag import TagRequest, tag


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return make_sample(tmp_path / "cache")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return new_repository(tmp_path / "repository")


@pytest.fixture
def nights(repository: Path, cache: Path) -> list[str]:
    """Four snapshots, oldest first."""
    found = []
    for number in range(4):
        (cache / "note").write_text(str(number))
        found.append(snapshot(repository, cache))
    return found


def listed(repository: Path) -> list[str]:
    return [each.id for each in list_snapshots(opened(repository))[0]]


def test_the_policy_decides_and_says_why(repository: Path, nights: list[str]) -> None:
    report = run_forget(repository, policy=Policy(last=2)).data
    assert (report.kept, report.forgotten) == (2, 2) and report.until is not None
    assert [item.action for item in report.snapshots] == ["keep", "keep", "forget", "forget"]
    assert report.snapshots[0].reasons[0] == "last snapshot"
    assert any("last good snapshot of Tongyi-MAI" in reason for reason in report.snapshots[0].reasons)
    assert listed(repository) == nights[2:]
    assert names(repository, "snapshots") == set(nights[2:])


def test_a_dry_run_changes_nothing(repository: Path, nights: list[str]) -> None:
    before = everything(repository)
    report = run_forget(repository, policy=Policy(last=1), dry_run=True).data
    assert report.forgotten == 3 and report.dry_run
    assert everything(repository) == before


def test_exactly_these(repository: Path, nights: list[str]) -> None:
    run_forget(repository, nights[0][:10], nights[2])
    assert listed(repository) == [nights[1], nights[3]]
    with pytest.raises(SnapshotNotFound):
        run_forget(repository, "ffff")


def test_the_last_good_one_is_not_forgotten_by_name_either(repository: Path, nights: list[str]) -> None:
    with pytest.raises(UsageError, match="last good snapshot") as refused:
        run_forget(repository, *nights)
    assert "Nothing was forgotten" in refused.value.message and "zitcache backup" in str(refused.value.hint)
    assert listed(repository) == nights


def test_suspect_snapshots_do_not_take_the_place_of_the_last_good_one(
    repository: Path, cache: Path, nights: list[str], tmp_path: Path
) -> None:
    weights = max(cache.rglob("*.safetensors"), key=lambda path: path.stat().st_size)
    good = cache.rename(tmp_path / "good")
    import shutil

    shutil.copytree(good, cache, symlinks=True)
    snapshot(repository, cache)
    weights = cache / weights.relative_to(cache)
    for number in range(3):
        flip(weights, 5000 + number)
        assert back_up(repository, cache, reread=1.0).data.suspect
    run_forget(repository, policy=Policy(last=1))
    kept = list_snapshots(opened(repository))[0]
    assert [each.is_suspect for each in kept] == [False, True]
    bring_back(repository, tmp_path / "back")
    require_same(good, tmp_path / "back")


def test_filters_and_groups(repository: Path, cache: Path, nights: list[str], tmp_path: Path) -> None:
    other = make_sample(tmp_path / "other")
    others = []
    for number in range(2):
        (other / "note").write_text(str(number))
        others.append(snapshot(repository, other, tags=("weekly",)))
    assert run_forget(repository, policy=Policy(last=1), hosts=("nowhere",)).data.snapshots == []
    report = run_forget(repository, policy=Policy(last=1), caches=(str(other),)).data
    assert {item.id for item in report.snapshots} == set(others) and report.forgotten == 1
    assert run_forget(repository, policy=Policy(last=9), tags=(frozenset({"weekly"}),)).data.kept == 1
    report = run_forget(repository, policy=Policy(last=1)).data
    assert {item.id for item in report.snapshots if item.action == "keep"} == {nights[-1], others[-1]}


def test_without_groups_each_cache_still_keeps_its_last_good_one(
    repository: Path, nights: list[str], tmp_path: Path
) -> None:
    other = snapshot(repository, make_sample(tmp_path / "other"))
    run_forget(repository, policy=Policy(last=1), group_by=())
    assert set(listed(repository)) == {nights[-1], other}


@pytest.mark.parametrize(
    "options",
    [
        {"policy": Policy()},
        {"group_by": ("model",)},
        {"ids": ("ab",), "policy": Policy(last=1)},
        {"ids": ("ab",), "hosts": ("box",)},
    ],
)
def test_requests_that_make_no_sense(repository: Path, nights: list[str], options: dict[str, object]) -> None:
    ids = options.pop("ids", ())
    with pytest.raises(UsageError):
        run_forget(repository, *ids, **options)  # type: ignore[misc]
    assert listed(repository) == nights


def test_a_snapshot_that_cannot_be_read_is_left_and_said(repository: Path, nights: list[str]) -> None:
    flip(repository / "snapshots" / nights[0])
    outcome = run_forget(repository, policy=Policy(last=1))
    assert outcome.exit_code is Exit.DAMAGE
    assert nights[0] in names(repository, "snapshots")
    assert "snapshot-unreadable" in [warning.code for warning in outcome.warnings]


def test_forget_and_prune_in_one_go(repository: Path, nights: list[str]) -> None:
    outcome = run_forget(repository, policy=Policy(last=1), prune=PruneRequest(grace_seconds=0))
    assert outcome.data.prune is not None and len(outcome.data.prune.snapshots_gone) == 3
    require_sound(repository)
    assert names(repository, "forgotten") == set()


# -- pins and tags --------------------------------------------------------------------------------------


def run_tag(repository: Path, *ids: str, **options: object) -> object:
    return tag(TagRequest(ids=ids, repository=str(repository), **options), Session()).data  # type: ignore[arg-type]


def test_a_pin_holds_against_policy_and_id(repository: Path, nights: list[str]) -> None:
    assert run_tag(repository, nights[0][:8], pin=True).changed == 1  # type: ignore[attr-defined]
    assert run_tag(repository, nights[0], pin=True).changed == 0  # type: ignore[attr-defined]
    report = run_forget(repository, policy=Policy(last=1)).data
    assert {item.id: item.reasons for item in report.snapshots}[nights[0]] == ["pinned"]
    with pytest.raises(UsageError, match="pinned") as refused:
        run_forget(repository, nights[0])
    assert f"zitcache tag {nights[0][:8]} --unpin" in str(refused.value.hint)
    run_tag(repository, nights[0], pin=False)
    run_forget(repository, nights[0])
    assert listed(repository) == [nights[-1]]


def test_tags_come_and_go(repository: Path, cache: Path, nights: list[str]) -> None:
    run_tag(repository, nights[1], add=("before-tuning", "keep"))
    assert {each.id: each.tags for each in list_snapshots(opened(repository))[0]}[nights[1]] == [
        "before-tuning",
        "keep",
    ]
    report = run_forget(
        repository, policy=Policy(last=1, tags=(frozenset({"keep", "before-tuning"}),)), dry_run=True
    ).data
    assert {item.id for item in report.snapshots if item.action == "keep"} == {nights[1], nights[3]}
    run_tag(repository, nights[1], remove=("keep",))
    shown = json.loads(zitcache("snapshots", "-r", repository, "--json").stdout)["data"]
    assert [item["tags"] for item in shown] == [[], ["before-tuning"], [], []]
    given = snapshot(repository, cache, tags=("nightly",))
    with pytest.raises(UsageError, match="a part of the snapshot"):
        run_tag(repository, given, remove=("nightly",))
    for bad in ("", "a,b", "x" * 500):
        with pytest.raises(UsageError):
            run_tag(repository, given, add=(bad,))


# -- coming back ----------------------------------------------------------------------------------------


def test_what_was_forgotten_comes_back_with_its_id(
    repository: Path, cache: Path, nights: list[str], tmp_path: Path
) -> None:
    run_forget(repository, policy=Policy(last=1))
    report = run_undelete(repository).data
    assert [item.id for item in report.snapshots] == list(reversed(nights[:3]))
    assert {item.state for item in report.snapshots} == {"forgotten"} and report.restored == 0
    assert run_undelete(repository, nights[1][:8], dry_run=True).data.restored == 1
    assert listed(repository) == [nights[3]]
    assert run_undelete(repository, nights[1][:8]).data.restored == 1
    assert listed(repository) == [nights[1], nights[3]]
    bring_back(repository, tmp_path / "back", snapshot=nights[1])
    assert (tmp_path / "back" / "note").read_text() == "1"
    assert run_undelete(repository, everything=True).data.restored == 2
    assert listed(repository) == nights and names(repository, "forgotten") == set()
    require_sound(repository)


def test_what_is_swept_is_gone_for_good_and_said_so(repository: Path, cache: Path) -> None:
    write(cache, a_bin=big("a"))
    first = snapshot(repository, cache)
    write(cache, a_bin=big("b"))
    snapshot(repository, cache)
    run_forget(repository, first)
    run_prune(repository)
    pass_time(repository, 2 * DAY)
    run_prune(repository)
    with pytest.raises(SnapshotNotFound, match="gone for good"):
        run_undelete(repository, first)
    assert run_undelete(repository).data.snapshots == []


def test_a_forgotten_snapshot_whose_packs_are_gone_is_told_from_one_that_comes_back(
    repository: Path, cache: Path, nights: list[str]
) -> None:
    write(cache, a_bin=big("a"))
    lost = snapshot(repository, cache)
    packs = names(repository, "packs")
    write(cache, a_bin=big("b"))
    snapshot(repository, cache)
    run_forget(repository, lost, nights[0])
    index = opened(repository).index
    from zitcache.codec.blob import blob_id

    (at,) = index.locations(blob_id(big("a")[: 64 * 1024]).hex())
    assert at.pack in packs
    (repository / "packs" / at.pack).unlink()
    states = {item.id: item.state for item in run_undelete(repository).data.snapshots}
    assert states == {lost: "gone", nights[0]: "forgotten"}
    with pytest.raises(SnapshotNotFound, match="gone for good"):
        run_undelete(repository, lost)
    outcome = run_undelete(repository, everything=True)
    assert (outcome.exit_code, outcome.data.restored, outcome.data.gone) == (Exit.PARTIAL, 1, 1)


def test_ids_that_are_not_forgotten(repository: Path, nights: list[str]) -> None:
    with pytest.raises(SnapshotNotFound, match="it is in the list"):
        run_undelete(repository, nights[0])
    with pytest.raises(SnapshotNotFound):
        run_undelete(repository, "")
    with pytest.raises(UsageError):
        run_undelete(repository, nights[0], everything=True)


def test_forget_undelete_and_tag_on_the_command_line(repository: Path, nights: list[str]) -> None:
    done = zitcache("forget", "-r", repository, "--keep-last", "1", "--json")
    assert data_of(done)["forgotten"] == 3
    assert data_of(zitcache("undelete", "-r", repository, "--json"))["snapshots"][0]["id"] == nights[2]
    assert data_of(zitcache("undelete", nights[2][:8], "-r", repository, "--json"))["restored"] == 1
    assert data_of(zitcache("tag", nights[2], "--pin", "-r", repository, "--json"))["changed"] == 1
    assert zitcache("forget", nights[2], "-r", repository).returncode == 2
    assert zitcache("forget", nights[3], "-r", repository).returncode == 2
    assert zitcache("forget", "feed", "-r", repository).returncode == 6
    for option, value in (
        ("--keep-daily", "many"),
        ("--keep-daily", "-3"),
        ("--keep-within", "soon"),
        ("--keep-within", ""),
        ("--keep-tag", "a,,b"),
        ("--keep-last", "0"),
        ("--group-by", "weather"),
    ):
        assert zitcache("forget", "-r", repository, option, value).returncode == 2, option
    assert zitcache("tag", nights[2], "-r", repository, "--pin", "--unpin").returncode == 2
