"""A cron expression means the same in a crontab, in a systemd timer and in our daemon."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.storage.disks import python_environment
from zitcache.errors import UsageError
from zitcache.schedule.times import CronTimes, parse_times

MONDAY = datetime(2026, 11, 23, 12, 0).astimezone()


def brute_force_next(times: CronTimes, moment: datetime) -> datetime:
    """The definition of crontab(5), a day and then a minute at a time."""
    at = moment.replace(second=0, microsecond=0) + timedelta(minutes=1)
    while True:
        by_date, by_weekday = at.day in times.days, (at.weekday() + 1) % 7 in times.weekdays
        day = by_date or by_weekday if times.either_day else by_date and by_weekday
        if day and at.month in times.months:
            today = at.day
            while at.day == today:
                if at.hour in times.hours and at.minute in times.minutes:
                    return at
                at += timedelta(minutes=1)
        else:
            at = at.replace(hour=0, minute=0) + timedelta(days=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 2 * * *", datetime(2026, 11, 24, 2, 0)),
        ("02:30", datetime(2026, 11, 24, 2, 30)),
        ("@daily", datetime(2026, 11, 24, 0, 0)),
        ("0 2 * * 0", datetime(2026, 11, 29, 2, 0)),
        ("0 2 * * 7", datetime(2026, 11, 29, 2, 0)),
        ("0 2 * * sun", datetime(2026, 11, 29, 2, 0)),
        ("0 2 * * 1-5", datetime(2026, 11, 24, 2, 0)),
        ("*/20 * * * *", datetime(2026, 11, 23, 12, 20)),
        ("5/15 * * * *", datetime(2026, 11, 23, 12, 5)),
        ("0 2 1 * *", datetime(2026, 12, 1, 2, 0)),
        ("0 2 1 * wed", datetime(2026, 11, 25, 2, 0)),
        ("0 2 */2 * sat", datetime(2026, 12, 5, 2, 0)),
        ("0 2 29 feb *", datetime(2028, 2, 29, 2, 0)),
    ],
)
def test_the_next_time(text: str, expected: datetime) -> None:
    assert parse_times(text).next_after(MONDAY) == expected.astimezone()


def test_the_next_time_is_never_now() -> None:
    now = datetime(2026, 11, 24, 2, 0).astimezone()
    assert parse_times("0 2 * * *").next_after(now) == datetime(2026, 11, 25, 2, 0).astimezone()


def sequence(zone: str, text: str, begin: str, count: int = 5) -> list[str]:
    """The next times in another time zone."""
    script = (
        "import sys; from datetime import datetime; from zitcache.schedule.times import parse_times\n"
        "times, moment = parse_times(sys.argv[1]), datetime.fromisoformat(sys.argv[2]).astimezone()\n"
        "trigger, previous = times.trigger(), None\n"
        "for _ in range(int(sys.argv[3])):\n"
        "    after = times.next_after(moment)\n"
        "    previous = trigger.get_next_fire_time(previous, moment)\n"
        "    assert after == previous and after > moment\n"
        "    moment = after; print(moment.isoformat(timespec='minutes'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, text, begin, str(count)],
        capture_output=True,
        text=True,
        check=True,
        env={**python_environment(), "TZ": zone},
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("zone", "text", "begin", "expected"),
    [
        ("Europe/Berlin", "30 2 * * *", "2026-03-28T12:00", ["03-29T03:30+02:00", "03-30T02:30+02:00"]),
        ("Europe/Berlin", "30 2 * * *", "2026-10-24T12:00", ["10-25T02:30+02:00", "10-26T02:30+01:00"]),
        ("Europe/Berlin", "0 2 * * *", "2026-10-24T12:00", ["10-25T02:00+02:00", "10-26T02:00+01:00"]),
        ("Europe/Berlin", "0 3 * * *", "2026-03-28T12:00", ["03-29T03:00+02:00", "03-30T03:00+02:00"]),
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04T12:00", ["04-05T01:45+11:00", "04-06T01:45+10:30"]),
        ("America/New_York", "30 1,2 * * *", "2026-11-01T00:00", ["11-01T01:30-04:00", "11-01T02:30-05:00"]),
        ("America/Santiago", "0 0 * * *", "2026-09-05T12:00", ["09-06T01:00-03:00", "09-07T00:00-03:00"]),
        ("Pacific/Apia", "0 2 * * *", "2011-12-29T12:00", ["12-31T02:00+14:00", "01-01T02:00+14:00"]),
        ("Asia/Shanghai", "0 2 * * *", "2026-03-28T12:00", ["03-29T02:00+08:00", "03-30T02:00+08:00"]),
    ],
)
def test_summer_time_comes_and_goes(zone: str, text: str, begin: str, expected: list[str]) -> None:
    found = sequence(zone, text, begin)
    assert [moment[5:] for moment in found[: len(expected)]] == expected
    assert len(set(found)) == len(found), "never twice"


def test_every_night_of_a_year_comes_once() -> None:
    found = sequence("Europe/Berlin", "30 2 * * *", "2025-12-31T12:00", 365)
    assert len({moment[:10] for moment in found}) == 365


def fields(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    ranges = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    part = st.one_of(number.map(str), ranges, st.just("*"), st.integers(1, 20).map(lambda n: f"*/{n}"))
    return st.lists(part, min_size=1, max_size=3).map(",".join)


@settings(deadline=None, max_examples=50)
@given(fields(0, 59), fields(0, 23), fields(1, 28), fields(1, 12), fields(0, 7))
def test_the_next_time_is_what_crontab_means(m: str, h: str, day: str, month: str, weekday: str) -> None:
    times = parse_times(f"{m} {h} {day} * {weekday}")
    assert times.next_after(MONDAY) == brute_force_next(times, MONDAY)
    assert parse_times(f"{m} {h} {day} {month} {weekday}").months


@pytest.mark.parametrize(
    "text",
    [
        "0 2 * * *",
        "0 2 1 * wed",
        "*/20 * * * *",
        "30 4 1,15 jan-jun *",
        "0 0 * * 0",
        "0 3 * * 6,0",
        "0 2 */2 * sat",
    ],
)
def test_systemd_means_what_crontab_means(text: str) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze (package systemd)")
    times = parse_times(text)
    base = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)
    found = []
    for line in times.on_calendar():
        done = subprocess.run(
            ["systemd-analyze", "calendar", "--base-time=2026-11-23 12:00:00 UTC", line],
            capture_output=True,
            text=True,
            check=True,
            env={"TZ": "UTC", "LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        )
        row = next(row for row in done.stdout.splitlines() if "Next elapse" in row)
        stamp = " ".join(row.partition(":")[2].split()[1:3])
        found.append(datetime.fromisoformat(stamp).replace(tzinfo=timezone.utc))
    assert min(found) == brute_force_next(times, base)


@pytest.mark.parametrize(
    "text",
    ["", "2", "0 2 * *", "0 2 * * * *", "60 2 * * *", "0 24 * * *", "0 2 0 * *", "0 2 * 13 *", "0 2 * * 8",
     "0 2 * * funday", "5-1 * * * *", "*/0 * * * *", "*-5 * * * *", "@reboot", "25:00", "0 2 30 2 *",
     "a b c d e",
     "0 2 * * *; rm -rf /", "0,,1 2 * * *", "-1 2 * * *"],
)  # fmt: skip
def test_nonsense_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_times(text)
    assert caught.value.hint is not None and "0 2 * * *" in caught.value.hint
