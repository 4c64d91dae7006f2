"""Which snapshots to keep: the retention words of the field, and what they may never take away.

Pure decisions about a list of snapshots; nothing is read or deleted here. The rules, in order:

1. A pinned snapshot stays, and so does the last good snapshot of each model in each cache, whatever the
   policy says. If no snapshot of a model is good, the best there is stays.
2. A snapshot from the future, or with a time that nobody can read, stays and counts for nothing: a clock that
   was wrong for a night must not push good snapshots out.
3. Good snapshots are counted by the policy: the newest of each period stays.
4. Suspect and partial ones are counted for themselves. So they never push a good one out, and a cache of
   which no snapshot is good is still tidied.

Periods are those of the local calendar.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from zitcache.repository.selection import Snapshot

UNLIMITED = -1
FUTURE_TOLERANCE = timedelta(days=1)
"""A snapshot this far ahead of the clock may be of another machine; beyond that, a clock was wrong."""

BucketKey = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """A length of time by the calendar: ``1y5m7d2h``."""

    years: int = 0
    months: int = 0
    days: int = 0
    hours: int = 0

    def before(self, moment: datetime) -> datetime:
        """The moment that lies this long before ``moment`` (aware); the first there is, if none does."""
        months = moment.year * 12 + moment.month - 1 - (self.years * 12 + self.months)
        year, month = divmod(months, 12)
        if year < 1:
            return datetime.min.replace(tzinfo=timezone.utc)
        day = min(moment.day, monthrange(year, month + 1)[1])
        try:
            return moment.replace(year=year, month=month + 1, day=day) - timedelta(
                days=self.days, hours=self.hours
            )
        except OverflowError:
            return datetime.min.replace(tzinfo=timezone.utc)


@dataclass(frozen=True, slots=True)
class Policy:
    """How many to keep of what; -1 is "unlimited". ``tags``: a snapshot with all tags of one group stays."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: Span | None = None
    tags: tuple[frozenset[str], ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it keeps nothing."""
        return self == Policy()


DEFAULT_POLICY = Policy(daily=7, weekly=4, monthly=6)


@dataclass(slots=True)
class Decision:
    """``reasons``: why it stays; empty if it goes."""

    snapshot: Snapshot
    reasons: list[str] = field(default_factory=list)

    @property
    def keep(self) -> bool:
        """Whether it stays."""
        return bool(self.reasons)


def moment_of(snapshot: Snapshot) -> datetime | None:
    """When it was taken, with the local time zone; None if its time cannot be read."""
    try:
        taken = datetime.fromisoformat(snapshot.record.time.replace("Z", "+00:00"))
        return taken.astimezone() if taken.tzinfo is not None else None
    except (ValueError, OverflowError, OSError):
        return None


def protections(snapshots: Sequence[Snapshot], now: datetime) -> dict[str, list[str]]:
    """By id, why a snapshot may not be forgotten at all: pinned, or the last good one of something."""
    found: dict[str, list[str]] = {}
    for snapshot in snapshots:
        if snapshot.pinned:
            found.setdefault(snapshot.id, []).append("pinned")
    for snapshot, what in _last_good(snapshots, now):
        word = "good" if snapshot.is_good else "usable"
        found.setdefault(snapshot.id, []).append(f"last {word} snapshot of {what}")
    return found


def apply_policy(snapshots: Iterable[Snapshot], policy: Policy, now: datetime) -> list[Decision]:
    """Decide about one group of snapshots (those of one cache of one host); newest first.

    Protection is not looked at: see :func:`protections`.
    """
    decisions: list[Decision] = []
    dated: list[tuple[datetime, Decision]] = []
    for snapshot in snapshots:
        decision = Decision(snapshot)
        moment = moment_of(snapshot)
        decisions.append(decision)
        if moment is None:
            decision.reasons.append("its time cannot be read")
        elif moment > now + FUTURE_TOLERANCE:
            decision.reasons.append("its time lies in the future")
        else:
            dated.append((moment, decision))
    dated.sort(key=lambda pair: (pair[0], pair[1].snapshot.id), reverse=True)
    good = [pair for pair in dated if pair[1].snapshot.is_good]
    other = [pair for pair in dated if not pair[1].snapshot.is_good]
    for rule in _rules(policy):
        _count(rule, good, "")
        _count(rule, other, ", counted among those that are not good")
    _keep_within(policy, good, dated)
    for _, decision in dated:
        tags = set(decision.snapshot.tags)
        decision.reasons += [f"tag {', '.join(sorted(group))}" for group in policy.tags if group <= tags]
    undated = [decision for decision in decisions if decision.reasons and not _is_in(decision, dated)]
    return [*undated, *(decision for _, decision in dated)]


@dataclass(frozen=True, slots=True)
class _Rule:
    name: str
    count: int
    bucket: Callable[[datetime], BucketKey] | None


def _rules(policy: Policy) -> list[_Rule]:
    rules = [
        _Rule("last", policy.last, None),
        _Rule("hourly", policy.hourly, _hour),
        _Rule("daily", policy.daily, lambda moment: (moment.year, moment.month, moment.day)),
        _Rule("weekly", policy.weekly, lambda moment: tuple(moment.isocalendar())[:2]),
        _Rule("monthly", policy.monthly, lambda moment: (moment.year, moment.month)),
        _Rule("yearly", policy.yearly, lambda moment: (moment.year,)),
    ]
    return [rule for rule in rules if rule.count]


def _hour(moment: datetime) -> BucketKey:
    """The hour that a change of the clocks repeats is two hours: the offset tells them apart."""
    offset = moment.utcoffset() or timedelta()
    return (moment.year, moment.month, moment.day, moment.hour, int(offset.total_seconds()))


def _count(rule: _Rule, newest_first: Sequence[tuple[datetime, Decision]], remark: str) -> None:
    """Keep the newest of each period, as many periods as the rule says; periods without one do not count."""
    left = rule.count
    before: BucketKey | None = None
    for moment, decision in newest_first:
        if left == 0:
            return
        bucket = None if rule.bucket is None else rule.bucket(moment)
        if bucket is not None and bucket == before:
            continue
        before = bucket
        left -= left > 0
        decision.reasons.append(f"{rule.name} snapshot{remark}")


def _keep_within(
    policy: Policy, good: Sequence[tuple[datetime, Decision]], dated: Sequence[tuple[datetime, Decision]]
) -> None:
    """Counted back from the newest snapshot, not from the clock: a repository that rests loses nothing.

    From the newest good one, if there is one: suspect ones of many nights must not push the good ones out.
    """
    if policy.within is None or not dated:
        return
    since = policy.within.before((good or dated)[0][0])
    for moment, decision in dated:
        if moment >= since:
            decision.reasons.append("within the span that is kept")


def _is_in(decision: Decision, dated: Sequence[tuple[datetime, Decision]]) -> bool:
    return any(decision is other for _, other in dated)


def _last_good(snapshots: Sequence[Snapshot], now: datetime) -> list[tuple[Snapshot, str]]:
    """The snapshot to keep for each model of each cache, and for each cache as a whole.

    Of those from the future only if there is no other: else both.
    """
    subjects: dict[tuple[str, str], list[tuple[tuple[bool, ...], Snapshot]]] = {}
    for snapshot in snapshots:
        record = snapshot.record
        subjects.setdefault((record.cache, ""), []).append((_worth(snapshot, True), snapshot))
        for model in record.models:
            key = (record.cache, model.id)
            subjects.setdefault(key, []).append((_worth(snapshot, model.complete), snapshot))
    found: list[tuple[Snapshot, str]] = []
    for (_, model_id), candidates in subjects.items():
        what = model_id or "the cache"
        present = [pair for pair in candidates if not _is_ahead(pair[1], now)]
        chosen = [_best(group) for group in (present, candidates) if group]
        found += [(snapshot, what) for snapshot in {each.id: each for each in chosen}.values()]
    return found


def _worth(snapshot: Snapshot, complete: bool) -> tuple[bool, ...]:
    """What is better comes later: complete, unsuspicious, nothing lost, nothing left out."""
    whole = snapshot.losses is None
    return (complete and whole and not snapshot.record.suspect, complete and whole, snapshot.is_good)


def _best(candidates: Sequence[tuple[tuple[bool, ...], Snapshot]]) -> Snapshot:
    return max(candidates, key=lambda pair: (pair[0], pair[1].record.time, pair[1].id))[1]


def _is_ahead(snapshot: Snapshot, now: datetime) -> bool:
    moment = moment_of(snapshot)
    return moment is None or moment > now + FUTURE_TOLERANCE
