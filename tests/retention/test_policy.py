"""What a policy keeps, and what it may never take away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.retention.snapshots import MODEL, NOW, model, nightly, taken
from zitcache.repository.retention import (
    DEFAULT_POLICY,
    Policy,
    Span,
    apply_policy,
    protections,
)
from zitcache.repository.selection import Snapshot


@pytest.fixture(autouse=True)
def time_zone(request: pytest.FixtureRequest) -> Iterator[None]:
    """UTC, or the one of the marker ``usefixtures("berlin")``."""
    zone = "Europe/Berlin" if "berlin" in request.fixturenames else "UTC"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def berlin() -> None:
    """Asked for by name: see ``time_zone``."""


def kept(snapshots: list[Snapshot], policy: Policy, now: datetime = NOW) -> list[str]:
    """The times of what stays, newest first."""
    decisions = apply_policy(snapshots, policy, now)
    assert len(decisions) == len(snapshots)
    return [each.snapshot.record.time for each in decisions if each.keep]


def days(snapshots: list[Snapshot], policy: Policy) -> list[str]:
    return [text[:10] for text in kept(snapshots, policy)]


def test_keep_last_counts_from_the_newest() -> None:
    assert days(nightly(10), Policy(last=3)) == ["2026-06-30", "2026-06-29", "2026-06-28"]


def test_the_newest_of_each_day_stays() -> None:
    hours = [taken(NOW - timedelta(hours=number)) for number in range(60)]
    assert kept(hours, Policy(daily=2)) == [
        "2026-06-30T12:00:00.000000Z",
        "2026-06-29T23:00:00.000000Z",
    ]


def test_days_without_a_snapshot_do_not_count() -> None:
    snapshots = [taken(NOW - timedelta(days=number)) for number in (0, 10, 20, 30)]
    assert len(kept(snapshots, Policy(daily=3))) == 3


def test_weeks_months_and_years() -> None:
    year = nightly(800)
    assert len(kept(year, Policy(weekly=4))) == 4
    assert [text[:7] for text in kept(year, Policy(monthly=3))] == ["2026-06", "2026-05", "2026-04"]
    assert [text[:4] for text in kept(year, Policy(yearly=9))] == ["2026", "2025", "2024"]


def test_the_default_keeps_a_week_a_month_and_half_a_year() -> None:
    found = days(nightly(400), DEFAULT_POLICY)
    assert found[:7] == [f"2026-06-{day}" for day in range(30, 23, -1)]
    assert found[-1][:7] == "2026-01"
    assert 11 <= len(found) <= 16


def test_unlimited_keeps_one_of_every_day() -> None:
    twice_a_day = [taken(NOW - timedelta(hours=12 * number)) for number in range(40)]
    assert len({text[:10] for text in kept(twice_a_day, Policy(daily=-1))}) >= 20


def test_rules_add_up() -> None:
    snapshots = nightly(100)
    both = set(kept(snapshots, Policy(daily=5, monthly=3)))
    assert both == set(kept(snapshots, Policy(daily=5))) | set(kept(snapshots, Policy(monthly=3)))


@pytest.mark.parametrize(
    ("span", "count"), [(Span(days=7), 8), (Span(hours=25), 2), (Span(months=1), 32), (Span(years=1), 366)]
)
def test_keep_within_counts_back_from_the_newest_and_not_from_the_clock(span: Span, count: int) -> None:
    resting = nightly(400, last=NOW - timedelta(days=300))
    assert len(kept(resting, Policy(within=span))) == count


def test_a_span_of_months_ends_on_a_day_that_exists() -> None:
    assert Span(months=1).before(datetime(2026, 3, 31, tzinfo=timezone.utc)).day == 28
    assert Span(years=1).before(datetime(2028, 2, 29, tzinfo=timezone.utc)).day == 28
    assert Span(years=9000).before(NOW).year == 1
    assert Span(days=999_999).before(NOW).year == 1


def test_keep_tag_keeps_those_with_all_tags_of_a_group() -> None:
    one, both = taken(NOW - timedelta(days=9), tags=("a",)), taken(NOW - timedelta(days=8), tags=("a", "b"))
    policy = Policy(tags=(frozenset({"a", "b"}),))
    assert kept([one, both, taken(NOW)], policy) == [both.record.time]


# -- suspect and partial ones ---------------------------------------------------------------------------


def test_suspect_snapshots_never_push_good_ones_out() -> None:
    good = nightly(5, last=NOW - timedelta(days=40))
    suspect = nightly(40, suspect=True)
    for policy in (Policy(last=3), Policy(daily=3), DEFAULT_POLICY, Policy(within=Span(days=2))):
        assert set(kept(good, policy)) <= set(kept([*good, *suspect], policy))


def test_partial_snapshots_do_not_count_either() -> None:
    good, partial = nightly(2, last=NOW - timedelta(days=5)), nightly(4, left_out=("a",))
    found = kept([*good, *partial], Policy(last=2))
    assert {each.record.time for each in good} <= set(found)
    assert len(found) == 4


def test_a_cache_without_a_good_snapshot_is_tidied_too() -> None:
    assert len(kept(nightly(100, left_out=("a",)), Policy(last=3))) == 3


def test_snapshots_that_lost_blobs_count_as_not_good() -> None:
    lost, good = taken(NOW, lost=True), taken(NOW - timedelta(days=1))
    assert set(kept([lost, good], Policy(last=1))) == {lost.record.time, good.record.time}


# -- clocks ---------------------------------------------------------------------------------------------


def test_snapshots_from_the_future_stay_and_push_nothing_out() -> None:
    future = [taken(NOW + timedelta(days=365 * number)) for number in range(1, 11)]
    good = nightly(5)
    found = kept([*future, *good], Policy(last=2))
    assert {each.record.time for each in future} <= set(found)
    assert {each.record.time for each in good[-2:]} <= set(found)


def test_a_clock_that_was_set_back_loses_nothing() -> None:
    snapshots = nightly(30)
    assert len(kept(snapshots, Policy(last=1), now=NOW - timedelta(days=3650))) == 30


def test_a_clock_that_was_set_forward_changes_nothing() -> None:
    snapshots = nightly(30)
    for policy in (DEFAULT_POLICY, Policy(within=Span(days=3))):
        assert kept(snapshots, policy) == kept(snapshots, policy, now=NOW + timedelta(days=36500))


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-45T99:00:00Z", "2026-06-30T12:00:00", "9" * 40])
def test_a_snapshot_whose_time_cannot_be_read_stays(text: str) -> None:
    assert text in kept([taken(text), *nightly(3)], Policy(last=1))


@pytest.mark.usefixtures("berlin")
def test_the_hour_that_is_repeated_in_autumn_is_two_hours() -> None:
    first = datetime(2025, 10, 26, 0, 30, tzinfo=timezone.utc)  # 02:30 in summer time
    second = first + timedelta(hours=1)  # 02:30 again
    assert len(kept([taken(first), taken(second)], Policy(hourly=2))) == 2


@pytest.mark.usefixtures("berlin")
def test_a_day_is_a_day_of_the_local_calendar() -> None:
    late = datetime(2026, 6, 29, 22, 30, tzinfo=timezone.utc)  # half past midnight on the 30th
    early = datetime(2026, 6, 29, 21, 30, tzinfo=timezone.utc)  # half past eleven on the 29th
    assert len(kept([taken(late), taken(early)], Policy(daily=2))) == 2
    noon = datetime(2026, 6, 30, 10, 0, tzinfo=timezone.utc)
    assert len(kept([taken(late), taken(noon)], Policy(daily=2))) == 1


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize("change", [datetime(2026, 3, 29), datetime(2025, 10, 26)], ids=["spring", "autumn"])
def test_nights_round_a_change_of_the_clocks_are_each_a_day(change: datetime) -> None:
    """A cron job at two in the local night: that hour does not exist, or twice."""
    nights = [
        taken((change + timedelta(days=number, hours=2)).astimezone(timezone.utc)) for number in range(-4, 5)
    ]
    assert len(kept(nights, Policy(daily=9), now=NOW)) == 9


# -- what is never forgotten ----------------------------------------------------------------------------


def protected(snapshots: list[Snapshot], now: datetime = NOW) -> dict[str, list[str]]:
    return protections(snapshots, now)


def test_the_last_good_snapshot_of_each_model_is_protected() -> None:
    other = "Qwen/Qwen3"
    old = taken(NOW - timedelta(days=500), models=(model(), model(other)))
    new = taken(NOW)
    found = protected([old, new])
    assert found[new.id] == ["last good snapshot of the cache", f"last good snapshot of {MODEL}"]
    assert found[old.id] == [f"last good snapshot of {other}"]


def test_a_suspect_or_partial_or_lossy_or_incomplete_one_is_not_the_last_good_one() -> None:
    good = taken(NOW - timedelta(days=100))
    worse = [
        taken(NOW, suspect=True),
        taken(NOW, left_out=("a",)),
        taken(NOW, lost=True),
        taken(NOW, models=(model(complete=False),), tags=("x",)),
    ]
    found = protected([good, *worse])
    assert f"last good snapshot of {MODEL}" in found[good.id]


def test_if_none_is_good_the_best_there_is_stays() -> None:
    suspect = nightly(5, suspect=True)
    found = protected(suspect)
    assert list(found) == [suspect[-1].id]
    assert "last usable snapshot" in found[suspect[-1].id][0]


def test_a_good_one_from_the_future_does_not_stand_in_for_the_real_one() -> None:
    future, real = taken(NOW + timedelta(days=9999)), taken(NOW)
    assert set(protected([future, real])) == {future.id, real.id}


def test_caches_are_apart_and_machines_are_not() -> None:
    """A rented machine comes back under another name; its old snapshots must not stay for ever."""
    old = taken(NOW - timedelta(days=1), host="container-1")
    new = taken(NOW, host="container-2")
    elsewhere = taken(NOW - timedelta(days=9), cache="/other")
    assert set(protected([old, new, elsewhere])) == {new.id, elsewhere.id}


def test_pinned_ones_are_protected() -> None:
    pinned = taken(NOW - timedelta(days=999), pinned=True)
    assert protected([pinned, taken(NOW)])[pinned.id] == ["pinned"]


moments = st.datetimes(
    min_value=datetime(2020, 1, 1), max_value=datetime(2030, 1, 1), timezones=st.just(timezone.utc)
)
some_snapshots = st.lists(
    st.builds(
        taken,
        moments,
        suspect=st.booleans(),
        left_out=st.sampled_from([(), ("a",)]),
        lost=st.booleans(),
        models=st.sampled_from([(), (model(),), (model("b/b"),), (model(complete=False), model("b/b"))]),
    ),
    min_size=1,
    max_size=30,
    unique_by=lambda snapshot: snapshot.id,
)
counts = st.sampled_from([0, 0, 1, 2, 5, -1])
policies = st.builds(
    Policy,
    last=counts,
    hourly=counts,
    daily=counts,
    weekly=counts,
    monthly=counts,
    yearly=counts,
    within=st.sampled_from([None, None, Span(days=30), Span(years=2)]),
)


@settings(max_examples=300, deadline=None)
@given(some_snapshots, policies, moments)
def test_whatever_the_policy_the_last_good_of_each_model_stays(
    snapshots: list[Snapshot], policy: Policy, now: datetime
) -> None:
    held = protections(snapshots, now)
    stays = {each.snapshot.id for each in apply_policy(snapshots, policy, now) if each.keep} | set(held)
    names = {entry.id for snapshot in snapshots for entry in snapshot.record.models}
    for name in names:
        good = [
            snapshot
            for snapshot in snapshots
            if snapshot.is_good and any(each.id == name and each.complete for each in snapshot.record.models)
        ]
        for group in (good, [each for each in good if each.record.time <= now.strftime("%Y-%m-%dT%H:%M:%S")]):
            if group:
                assert max(group, key=lambda each: (each.record.time, each.id)).id in stays


@settings(max_examples=300, deadline=None)
@given(some_snapshots, policies)
def test_snapshots_that_are_not_good_change_nothing_for_good_ones(
    snapshots: list[Snapshot], policy: Policy
) -> None:
    now = datetime(2031, 1, 1, tzinfo=timezone.utc)
    good = [snapshot for snapshot in snapshots if snapshot.is_good]
    alone = {each.snapshot.id: each.keep for each in apply_policy(good, policy, now)}
    together = {
        each.snapshot.id: each.keep for each in apply_policy(snapshots, policy, now) if each.snapshot.is_good
    }
    assert alone == together


@settings(max_examples=200, deadline=None)
@given(some_snapshots, policies)
def test_forgetting_twice_forgets_nothing_more(snapshots: list[Snapshot], policy: Policy) -> None:
    now = datetime(2031, 1, 1, tzinfo=timezone.utc)
    first = [each.snapshot for each in apply_policy(snapshots, policy, now) if each.keep]
    second = [each.snapshot for each in apply_policy(first, policy, now) if each.keep]
    assert {each.id for each in first} == {each.id for each in second}
