"""What a repair would write: files, then hard links to them, then symlinks."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from blake3 import blake3

from zitcache.cache.exclusions import OWN_PREFIX
from zitcache.repository.records import TreeEntry
from zitcache.tasks.reading import Identity
from zitcache.tasks.verify.findings import Findings, Wrong
from zitcache.tasks.verify.live import Live
from zitcache.tasks.verify.reference import Reference

PREFIX = OWN_PREFIX + "repair-"
"""What the copies begin with that a repair builds beside files; a scan of a cache leaves such names out."""


@dataclass(slots=True)
class FileRepair:
    """Build ``entry`` as ``copy``, then rename it to ``target`` (absolute paths).

    ``candidate``: the damaged file, most of whose pieces are good; ``old``: its identity, None if there is
    none. ``sha256``: what the content must have beside the BLAKE3 of its entry, if that is not known yet.
    """

    entry: TreeEntry
    copy: str
    target: str
    old: Identity | None = None
    candidate: str | None = None
    sha256: str | None = None
    was_missing: bool = False


@dataclass(slots=True)
class RepairPlan:
    """``impossible``: by path, why something cannot be brought back."""

    files: list[FileRepair] = field(default_factory=list)
    hard_links: list[TreeEntry] = field(default_factory=list)
    symlinks: list[TreeEntry] = field(default_factory=list)
    impossible: dict[str, str] = field(default_factory=dict)

    @property
    def paths(self) -> list[str]:
        """Every name that would be written, relative to the cache, sorted."""
        names = [repair.entry.real_path for repair in self.files]
        names += [entry.real_path for entry in (*self.hard_links, *self.symlinks)]
        return sorted(names, key=os.fsencode)


def plan_repair(reference: Reference, live: Live, findings: Findings) -> RepairPlan:
    """Everything damaged or missing that the snapshot can bring back."""
    plan = RepairPlan()
    planned: set[str] = set()
    wanted: list[tuple[str, Wrong | None]] = [(path, None) for path in findings.missing]
    for wrong in findings.wrong:
        if wrong.repairable:
            wanted += [(path, wrong) for path in (wrong.path, *wrong.others)]
    for path, damage in sorted(wanted, key=lambda pair: os.fsencode(pair[0])):
        why_not = reference.why_not(path)
        if why_not is not None:
            plan.impossible[path] = why_not
        if why_not is not None or path in planned:
            continue
        planned.add(path)
        entry = reference.entries[path]
        if entry.kind == "symlink":
            plan.symlinks.append(entry)
        elif entry.kind == "hardlink":
            plan.hard_links.append(entry)
        elif entry.kind == "file":
            plan.files.append(_file_repair(entry, damage, live))
    _add_names_of_replaced_files(plan, planned, reference, live)
    return plan


def _file_repair(entry: TreeEntry, wrong: Wrong | None, live: Live) -> FileRepair:
    path = entry.real_path
    target = live.full_path(path)
    # The same name in every run, so that the next one finds what this one has fetched.
    tag = blake3(os.fsencode(path) + b"\0" + (entry.blake3 or "").encode()).hexdigest()[:24]
    copy = os.path.join(os.path.dirname(target), PREFIX + tag)
    if wrong is None or wrong.content is None:
        return FileRepair(entry, copy, target, was_missing=wrong is None)
    return FileRepair(entry, copy, target, wrong.identity, live.full_path(wrong.content), wrong.sha256)


def _add_names_of_replaced_files(
    plan: RepairPlan, planned: set[str], reference: Reference, live: Live
) -> None:
    """Renaming over one name of a hard-linked file leaves the other names behind: link them anew."""
    replaced = {repair.entry.real_path for repair in plan.files}
    for path, entry in reference.entries.items():
        if entry.kind != "hardlink" or entry.real_target not in replaced or path in planned:
            continue
        here, first = live.content_of(path), live.content_of(entry.real_target)
        if here is not None and first is not None and here.path == first.path:
            plan.hard_links.append(entry)
