"""When what was last done: the last good backup, check, drill and proof, and whether that is too long ago."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timezone

import msgspec

from zitcache.proof.goldens import load_goldens
from zitcache.repository.checks import verified_packs
from zitcache.repository.repository import Repository
from zitcache.repository.selection import Snapshot
from zitcache.schedule.history import Run, last_with_step
from zitcache.schedule.sections import StatusConfig

HOUR, DAY = 3600.0, 86400.0
PROOF_STEPS = ("proof", "drill")


class Moment(msgspec.Struct, kw_only=True):
    """``what``: "backup", "check", "drill" or "proof". ``time``: ISO 8601 UTC of the last good one, or None.

    ``stale``: it is older than ``limit_seconds``, or (a backup) never happened. Checks, drills and proofs
    count as stale only once there has been one, or a backup for that long: a new repository is not late.
    ``last_exit_code``: of the last attempt in the history, if one is newer than the last good one.
    """

    what: str
    time: str | None
    age_seconds: float | None
    limit_seconds: float
    stale: bool
    detail: str = ""
    last_exit_code: int | None = None


def moments(
    repository: Repository,
    snapshots: Sequence[Snapshot],
    runs: Sequence[Run],
    limits: StatusConfig,
    now: float,
) -> list[Moment]:
    """The four of them, from what is really there, and from the history where nothing else tells."""
    good = [epoch_of(snapshot.record.time) for snapshot in snapshots if snapshot.is_good]
    backups = [moment for moment in good if moment is not None]
    verified = verified_packs(repository)
    unread = sum(1 for pack in repository.index.packs if pack not in verified)
    drawn = [
        moment for golden in load_goldens(repository) if (moment := epoch_of(golden.record.time)) is not None
    ]
    since = min(backups, default=None)
    return [
        _moment("backup", backups, limits.backup_hours * HOUR, runs, now, since, must=True),
        # The pack that was read longest ago decides: a check is as old as its oldest part.
        _moment(
            "check",
            [float(min(verified.values()))] if verified and not unread else [],
            limits.check_days * DAY,
            runs,
            now,
            since,
            detail=f"{unread} of {len(repository.index.packs)} packs were never read back" if unread else "",
        ),
        _moment("drill", [], limits.drill_days * DAY, runs, now, since),
        _moment("proof", drawn, limits.proof_days * DAY, runs, now, since),
    ]


def epoch_of(iso: str) -> float | None:
    """Seconds since the epoch of an ISO 8601 time in UTC; None for what is none."""
    try:
        moment = datetime.fromisoformat(iso.replace("Z", "+00:00"))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def iso_of(moment: float) -> str:
    """The inverse of :func:`epoch_of`, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def _moment(
    what: str,
    known: Sequence[float],
    limit_seconds: float,
    runs: Sequence[Run],
    now: float,
    since: float | None,
    *,
    must: bool = False,
    detail: str = "",
) -> Moment:
    times = list(known)
    if what != "check":
        for step in PROOF_STEPS if what == "proof" else (what,):
            done = last_with_step(runs, step, succeeded=True)
            if done is not None and not (what == "proof" and not has_drawn(done[1].data)):
                times.append(done[0].record.ended)
    # A time ahead of the clock is no proof of youth; it counts as now.
    last = min(max(times), now) if times else None
    tried = last_with_step(runs, what)
    failed = tried is not None and tried[1].exit_code != 0 and (last is None or tried[0].record.ended > last)
    late_since = last if last is not None else (None if must else since)
    never = must and last is None
    stale = never or (late_since is not None and now - late_since > limit_seconds)
    return Moment(
        what=what,
        time=None if last is None else iso_of(last),
        age_seconds=None if last is None else now - last,
        limit_seconds=limit_seconds,
        stale=stale,
        detail=detail,
        last_exit_code=tried[1].exit_code if failed and tried is not None else None,
    )


class _Proof(msgspec.Struct):
    verdict: str = ""


class _WithProof(msgspec.Struct):
    proof: _Proof | None = None


def has_drawn(data: msgspec.Raw) -> bool:
    """Whether a step's report says that a picture was drawn and found right; "skipped" is no proof."""
    try:
        found = msgspec.json.decode(data, type=_WithProof)
    except msgspec.MsgspecError:
        return False
    return found.proof is not None and found.proof.verdict in {"passed", "warned"}
