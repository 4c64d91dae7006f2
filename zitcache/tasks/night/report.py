"""What a night reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from zitcache.schedule.history import StepRecord
from zitcache.tasks.night.steps import STEPS


class NightStep(msgspec.Struct, kw_only=True):
    """A step. ``skipped``: why it was not its turn, or None. ``data``: the report of its command."""

    name: str
    exit_code: int
    seconds: float
    message: str
    skipped: str | None = None
    data: object = None


class NightReport(msgspec.Struct, kw_only=True):
    """``steps`` in order. ``told``: whether everybody who was to be told has been.

    ``none_missed``: only a missed night was to be made up for, and there was none.
    """

    repository: str | None
    steps: list[NightStep]
    seconds: float
    told: bool
    dry_run: bool = False
    none_missed: bool = False


def described(
    done: Sequence[StepRecord], skipped: Mapping[str, str], data: Mapping[str, object]
) -> list[NightStep]:
    """Every step in the order of nights: what was done, what was not its turn, and what is still to do.

    ``data``: the reports of those that were done.
    """
    by_name = {step.name: step for step in done}
    steps = []
    for name in dict.fromkeys((*STEPS, *by_name)):
        step = by_name.get(name)
        if step is None:
            reason = skipped.get(name)
            message = "is due" if reason is None else reason
            steps.append(NightStep(name=name, exit_code=0, seconds=0.0, message=message, skipped=reason))
            continue
        steps.append(
            NightStep(
                name=name,
                exit_code=step.exit_code,
                seconds=step.seconds,
                message=step.message,
                data=msgspec.to_builtins(data.get(name)),
            )
        )
    return steps
