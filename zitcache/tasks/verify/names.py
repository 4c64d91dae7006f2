"""Compare names with a snapshot: what is missing, what is something else, what is there beside it."""

from __future__ import annotations

import os
from collections import defaultdict

from zitcache.cache.damage import DamageKind
from zitcache.cache.tree import Kind
from zitcache.events import Session
from zitcache.repository.records import TreeEntry
from zitcache.tasks.verify.claims import Claim, Origin
from zitcache.tasks.verify.findings import Findings, Wrong
from zitcache.tasks.verify.live import Live
from zitcache.tasks.verify.reference import Reference

Claims = defaultdict[str, list[Claim]]
"""By the path of the regular file that holds the content."""

_KINDS = {
    Kind.FILE: "a file",
    Kind.HARDLINK: "a file",
    Kind.DIRECTORY: "a directory",
    Kind.SYMLINK: "a link",
}


def compare_with_snapshot(reference: Reference, live: Live, claims: Claims, findings: Findings) -> None:
    """Add to ``claims`` what the snapshot says of contents; to ``findings``, what is wrong with names."""
    for entry in reference.wanted_in(live.scope):
        if entry.kind == "directory":
            continue
        findings.used(reference.name)
        if entry.kind == "symlink":
            _compare_link(entry, reference, live, findings)
            continue
        content = live.content_of(entry.real_path)
        if content is None:
            _explain_absence(entry, reference, live, findings)
            continue
        held = reference.content_entry(entry.real_path)
        if held is not None and held.blake3 is not None and not reference.is_doubtful(held):
            claims[content.path].append(
                Claim(
                    Origin.SNAPSHOT,
                    reference.name,
                    entry.real_path,
                    size=held.size,
                    blake3=held.blake3,
                    sha256=reference.sha256_of(held),
                    entry=held,
                )
            )


def _compare_link(entry: TreeEntry, reference: Reference, live: Live, findings: Findings) -> None:
    path = entry.real_path
    item = live.by_path.get(path)
    if item is None or item.kind is not Kind.SYMLINK:
        _explain_absence(entry, reference, live, findings)
    elif os.fsencode(item.target or "") != os.fsencode(entry.real_target):
        detail = f"it points to {item.target} instead of {entry.target}"
        _add(entry, DamageKind.DIFFERS, detail, reference, findings)


def _explain_absence(entry: TreeEntry, reference: Reference, live: Live, findings: Findings) -> None:
    """``entry`` is not on the disk as what it should be: missing, something else, or out of sight."""
    path = entry.real_path
    item = live.by_path.get(path)
    expected = "a link" if entry.kind == "symlink" else "a file"
    if item is not None and not (item.kind is Kind.SYMLINK and expected == "a file"):
        detail = f"it is {_KINDS[item.kind]} where the snapshot has {expected}"
        blocked = "move that directory away first" if item.kind is Kind.DIRECTORY else None
        _add(entry, DamageKind.DIFFERS, detail, reference, findings, blocked)
        return
    left_out = live.left_out_above(path)
    if left_out is None or (left_out.path == path and not os.path.exists(live.full_path(path))):
        # A dangling link in the place of a file counts as missing, too.
        findings.missing.add(path)
    elif left_out.path == path and left_out.code == "unreadable":
        _add(entry, DamageKind.UNREADABLE, _clause(left_out.reason), reference, findings)
    elif left_out.path == path and left_out.code == "special-file":
        detail = f"{_clause(left_out.reason)}, where the snapshot has {expected}"
        _add(entry, DamageKind.DIFFERS, detail, reference, findings)
    else:
        # What lies behind a link out of the cache may be good: it is not ours to judge or replace.
        findings.unverified.add(path)


def _add(
    entry: TreeEntry,
    kind: DamageKind,
    detail: str,
    reference: Reference,
    findings: Findings,
    blocked: str | None = None,
) -> None:
    why_not = blocked or reference.why_not(entry.real_path)
    findings.add(Wrong(entry.real_path, None, kind, detail, repairable=why_not is None, why_not=why_not))


def report_left_out(live: Live, findings: Findings, session: Session) -> None:
    """Say what of the scope could not be looked at, and is not explained by the snapshot already."""
    for path, left_out in live.left_out.items():
        if left_out.is_problem and live.scope.covers(path) and not findings.is_wrong(path):
            findings.partial = True
            findings.unverified.add(path)
            session.warn(left_out.code, f"Not verified: {path}: {left_out.reason}")


def list_extra(live: Live, known: set[str], *, models_only: bool) -> list[str]:
    """The names in the scope, or of models in it, that no list that was compared with has."""
    names = {item.path for item in live.items if item.kind is not Kind.DIRECTORY}
    if models_only:
        names &= {file.path for model in live.models for file in model.files}
    return sorted(names - known, key=os.fsencode)


def _clause(sentence: str) -> str:
    """A sentence as it follows a colon."""
    return sentence[:1].lower() + sentence[1:].rstrip(".")
