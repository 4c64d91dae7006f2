"""Telling damage from change.

A download or a training run that writes new content writes a new time. Content that differs while size and
time are the same was not written by anybody: bits rotted, or a tool wrote through a link. A snapshot of such
a cache is kept, but marked suspect, and the last good one stays what ``restore`` takes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from zitcache.cache.inventory import Inventory, Model, Problem
from zitcache.cache.tree import Tree
from zitcache.repository.records import DamageRecord, TreeEntry, portable
from zitcache.tasks.backup.plan import Plan


@dataclass(frozen=True, slots=True)
class Verdict:
    """``damage``: files that rotted, at ``paths``; ``reasons``: a sentence for each finding, or none."""

    damage: list[DamageRecord]
    paths: list[str]
    reasons: list[str]


def judge(plan: Plan, read: dict[str, TreeEntry], tree: Tree, stock: Inventory) -> Verdict:
    """Compare what was read with the last snapshots of the same cache."""
    damage: dict[str, DamageRecord] = {}
    reasons = []
    for path, entry in read.items():
        expected = _expected(plan, path, entry)
        if expected is not None and entry.blake3 is not None:
            damage[path] = DamageRecord(path=entry.path, expected=expected, found=entry.blake3)
            reasons.append(
                f"{path} is damaged: its content differs from what was backed up before "
                "although its size and time do not."
            )
    present = {item.path for item in tree.items}
    for path, record in plan.doubtful.items():
        # Known as damaged, and not read this time (it changed meanwhile, or could not be read).
        if path in present and path not in read:
            damage[path] = record
            reasons.append(f"{path} was damaged when it was last read, and could not be read this time.")
    reasons.extend(_broken_models(plan, stock))
    paths = sorted(damage, key=os.fsencode)
    return Verdict([damage[path] for path in paths], paths, sorted(reasons))


def _expected(plan: Plan, path: str, entry: TreeEntry) -> str | None:
    """The BLAKE3 that the file would have if it were not damaged; None if nothing says that it is."""
    recent, baseline = plan.recent.get(path), plan.baseline.get(path)
    known = plan.doubtful.get(path)
    if known is not None:
        if entry.blake3 == known.expected:
            return None
        if (entry.blake3 == known.found) if recent is None else _same_stamp(recent, entry):
            return known.expected
        recent = None
    for before in (recent, baseline):
        if before is not None and _same_stamp(before, entry) and before.blake3 != entry.blake3:
            return before.blake3
    return None


def _same_stamp(before: TreeEntry, now: TreeEntry) -> bool:
    return before.kind == "file" and (before.size, before.mtime_ns) == (now.size, now.mtime_ns)


def _broken_models(plan: Plan, stock: Inventory) -> list[str]:
    """Models that the last good snapshot holds complete and the cache now holds broken."""
    if plan.baseline_snapshot is None:
        return []
    whole = {
        (model.id, model.revision, model.path)
        for model in plan.baseline_snapshot.record.models
        if model.complete
    }
    return [
        f"{model.id} was complete in the last good snapshot and is not any more: "
        + (str(_first_problem(model)) if model.problems else "files are missing.")
        for model in stock.models
        if not model.complete
        and (portable(model.id)[0], portable(model.revision)[0], _path_in(stock, model)) in whole
    ]


def _first_problem(model: Model) -> Problem:
    """The first of those that make it incomplete."""
    return next((problem for problem in model.problems if problem.makes_incomplete), model.problems[0])


def _path_in(stock: Inventory, model: Model) -> str:
    relative = os.path.relpath(model.path, stock.root)
    return portable("" if relative == "." else relative)[0]
