"""What is wrong, as sentences: the same in ``status`` and on the page."""

from __future__ import annotations

from collections.abc import Iterable

from zitcache.tasks.overview import ModelState, Moment, Overview


def problems_of(view: Overview, unreadable: Iterable[str], last_exit_code: int | None) -> list[str]:
    """The gravest first. ``unreadable``: ids of snapshots; ``last_exit_code``: of the last night here."""
    found = [text for model in view.models if (text := _of_model(model)) is not None]
    found += [f"Snapshot {snapshot_id[:8]} cannot be read." for snapshot_id in sorted(unreadable)]
    found += [_too_old(moment) for moment in view.moments if moment.stale]
    found += [
        f"The last {moment.what} failed with exit code {moment.last_exit_code}."
        for moment in view.moments
        if moment.last_exit_code
    ]
    if last_exit_code:
        found.append(f"The last night ended with exit code {last_exit_code}: see zitcache log.")
    return found


def _too_old(moment: Moment) -> str:
    if moment.time is None:
        return f"There has been no good {moment.what} yet."
    return f"The last good {moment.what} is too old."


def _of_model(model: ModelState) -> str | None:
    if model.in_cache == "absent":
        return None  # somebody has deleted it, which is no loss: a snapshot has it
    if model.snapshot_id is None:
        return f"{model.id} is in the cache but in no good snapshot."
    if model.in_cache == "incomplete":
        return f"{model.id} is incomplete in the cache; snapshot {model.snapshot_id[:8]} has it whole."
    return None
