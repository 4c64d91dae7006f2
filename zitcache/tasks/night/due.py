"""Which steps of a night it is time for. Decided by what the history says was done, not by the calendar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zitcache.schedule.history import Run, last_with_step, own_runs
from zitcache.tasks.configuration import Config
from zitcache.tasks.night.steps import STEPS

if TYPE_CHECKING:
    from zitcache.tasks.night import NightRequest

_DAY = 86_400.0
_EARLY = 0.2
"""Days. A night may begin some hours earlier than the one a month ago: no reason to wait another day."""


def due_steps(request: NightRequest, config: Config, runs: Sequence[Run], now: float) -> dict[str, str]:
    """The steps that do not run, each with the reason."""
    skipped: dict[str, str] = {}
    # One prune serves all machines; that another one can restore and draw says nothing about this one.
    every = {
        "prune": (config.night.prune_days, runs),
        "drill": (config.night.drill_days, own_runs(runs)),
        "proof": (config.night.proof_days, own_runs(runs)),
    }
    for name in STEPS:
        if name in request.skip:
            skipped[name] = "it was to be skipped"
        elif request.only and name not in request.only:
            skipped[name] = "it was not asked for"
        elif name in every and not request.force:
            reason = _not_yet(name, *every[name], now)
            if reason:
                skipped[name] = reason
    if not config.night.proof and "proof" not in request.only:
        skipped.setdefault("proof", "the configuration says proof = false")
    return skipped


def _not_yet(name: str, days: float, runs: Sequence[Run], now: float) -> str | None:
    """Counted from the last attempt: a drill that fails for want of room must not fill every night."""
    last = last_with_step(runs, name)
    if last is None:
        return None
    age = now - last[0].record.started
    if age < 0 or age >= (days - _EARLY) * _DAY:
        return None
    return f"it is its turn every {days:g} days, and was done {age / _DAY:.1f} days ago"
