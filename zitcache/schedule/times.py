"""Cron expressions, read once and used everywhere: in a crontab, in a systemd timer, in our own daemon.

The meaning is that of ``crontab(5)``: five fields, names and steps allowed, Sunday is 0 or 7, and when both
the day of the month and the day of the week are restricted, either is enough. systemd means "both" there, so
it gets the values spelled out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from zitcache.errors import UsageError

if TYPE_CHECKING:
    from apscheduler.triggers.base import BaseTrigger

_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _DAYS),
)
_PART = re.compile(
    r"(?P<low>\*|[0-9]{1,2}|[a-z]{3})(?:-(?P<high>[0-9]{1,2}|[a-z]{3}))?(?:/(?P<step>[0-9]{1,2}))?"
)
_CLOCK = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")
_LAST_DAY = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}
_SEARCHED_DAYS = 8 * 366 + 2
"""Leap days are eight years apart around 2100."""

EXAMPLE = '"0 2 * * *" (every night at two)'


@dataclass(frozen=True, slots=True)
class CronTimes:
    """A cron expression as sorted values. ``weekdays``: 0 is Sunday. ``text``: the five fields as written.

    ``either_day``: a matching day of the month or a matching day of the week is enough; else both must match.
    """

    text: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    either_day: bool

    def on_calendar(self) -> list[str]:
        """The same times for ``OnCalendar=`` of a systemd timer: one line, or two where either day counts.

        Source: ``systemd.time(7)``.
        """
        clock = f"{_joined(self.hours, 24)}:{_joined(self.minutes, 60)}:00"
        month = _joined(self.months, 12)
        return [
            f"{weekdays}*-{month}-{days} {clock}"
            for days, weekdays in self._day_rules(
                lambda days: _joined(days, 31),
                lambda weekdays: ",".join(_DAYS[value].capitalize() for value in weekdays) + " ",
                ("*", ""),
            )
        ]

    def trigger(self) -> BaseTrigger:
        """The same times for APScheduler, in the machine's time zone."""
        from apscheduler.triggers.base import BaseTrigger

        class Trigger(BaseTrigger):  # type: ignore[misc]
            """APScheduler's own comes back to the repeated hour for ever when summer time ends."""

            def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime | None:
                return times.next_after(now if previous is None else max(previous, now))

        times = self
        return Trigger()

    def _day_rules(
        self,
        say_days: Callable[[Sequence[int]], str],
        say_weekdays: Callable[[Sequence[int]], str],
        every: tuple[str, str],
    ) -> list[tuple[str, str]]:
        """Pairs of a day and a weekday rule, both of which must hold; any of the pairs is enough."""
        days = say_days(self.days) if len(self.days) < 31 else every[0]
        weekdays = say_weekdays(self.weekdays) if len(self.weekdays) < 7 else every[1]
        return [(days, every[1]), (every[0], weekdays)] if self.either_day else [(days, weekdays)]

    def next_after(self, moment: datetime) -> datetime | None:
        """The first time strictly after ``moment`` (which has a time zone); None if there never is one.

        In the machine's time zone. An hour that summer time skips comes at the same distance from the one
        before it (half past two is half past three then); one that comes twice counts once.
        """
        after = moment.timestamp()
        day = datetime.fromtimestamp(after).date() - timedelta(days=1)
        for _ in range(_SEARCHED_DAYS):
            if self._is_on(day):
                found = min((time for time in self._moments(day) if time > after), default=None)
                if found is not None:
                    return datetime.fromtimestamp(found).astimezone()
            day += timedelta(days=1)
        return None

    def _is_on(self, day: date) -> bool:
        by_date, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        fits = by_date or by_weekday if self.either_day else by_date and by_weekday
        return fits and day.month in self.months

    def _moments(self, day: date) -> Iterator[float]:
        """The times of one day, as seconds since the epoch."""
        for hour in self.hours:
            for minute in self.minutes:
                # `fold` is 0: the first of two equal times, and in a gap the offset from before it (PEP 495).
                yield datetime(day.year, day.month, day.day, hour, minute).timestamp()


def parse_times(text: str) -> CronTimes:
    """Read a cron expression, an alias such as ``@daily``, or a time of day such as ``02:30``.

    Raises ``UsageError`` that names the field which makes no sense.
    """
    typed = " ".join(text.strip().lower().split())
    clock = _CLOCK.fullmatch(typed)
    if clock:
        typed = f"{int(clock[2])} {int(clock[1])} * * *"
    typed = _ALIASES.get(typed, typed)
    fields = typed.split(" ")
    if typed.startswith("@") or len(fields) != len(_FIELDS):
        raise UsageError(
            f"{text!r} is no time to run at: a cron expression has five fields.",
            hint=f"Write it as {EXAMPLE}, or as a time of day: 02:30",
        )
    values = [_values(text, field, *meaning) for field, meaning in zip(fields, _FIELDS, strict=True)]
    weekdays = tuple(sorted({value % 7 for value in values[4]}))
    found = CronTimes(
        text=typed,
        minutes=values[0],
        hours=values[1],
        days=values[2],
        months=values[3],
        weekdays=weekdays,
        # The first character decides, as in cron's own code: "*/2" counts as a star.
        either_day=not fields[2].startswith("*") and not fields[4].startswith("*"),
    )
    if not found.either_day:
        _require_possible(text, found.days, found.months)
    return found


def _values(text: str, field: str, name: str, low: int, high: int, words: Sequence[str]) -> tuple[int, ...]:
    chosen: set[int] = set()
    for part in field.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise _bad(text, field, name, low, high)
        step = int(match["step"]) if match["step"] else 1
        if match["low"] == "*":
            if match["high"]:
                raise _bad(text, field, name, low, high)
            # 7 is a second name of Sunday, not an eighth day.
            first, last = low, 6 if name == "day of the week" else high
        else:
            first = _number(match["low"], low, words)
            # "5/15" without a range means from 5 to the end, in steps.
            given_end = match["high"] or (None if match["step"] else match["low"])
            last = high if given_end is None else _number(given_end, low, words)
        if not low <= first <= last <= high or step < 1:
            raise _bad(text, field, name, low, high)
        chosen.update(range(first, last + 1, step))
    return tuple(sorted(chosen))


def _number(text: str, low: int, words: Sequence[str]) -> int:
    """The value of a number or a name; -1 for a name that is none."""
    if text.isdigit():
        return int(text)
    return words.index(text) + low if text in words else -1


def _require_possible(text: str, days: Sequence[int], months: Sequence[int]) -> None:
    if all(min(days) > _LAST_DAY.get(month, 31) for month in months):
        raise UsageError(f"{text!r} never happens: no such day in that month.", hint=f"Write it as {EXAMPLE}")


def _bad(text: str, field: str, name: str, low: int, high: int) -> UsageError:
    return UsageError(
        f"{text!r} is no time to run at: {field!r} is no {name} ({low} to {high}).",
        hint=f"Write it as {EXAMPLE}, or as a time of day: 02:30",
    )


def _listed(values: Sequence[int]) -> str:
    return ",".join(map(str, values))


def _joined(values: Sequence[int], count: int) -> str:
    return "*" if len(values) == count else ",".join(f"{value:02d}" for value in values)
