"""What can be told without knowing the bytes: headers, completeness, pointers, web pages, lost tails.

It is all there is for files that no source knows, and all that ``--quick`` looks at beside sizes. Where a
source vouches for the bytes, they are right however odd they look.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from zitcache.cache.damage import DamageKind, Diagnosis, classify
from zitcache.cache.inventory import Model, Problem
from zitcache.cache.layouts import WEIGHT_SUFFIXES
from zitcache.cache.published import read_tree_listing
from zitcache.codec.blob import blob_id
from zitcache.errors import IntegrityError
from zitcache.events import Session
from zitcache.tasks.verify.claims import Origin
from zitcache.tasks.verify.conclude import set_cure
from zitcache.tasks.verify.examine import Looked
from zitcache.tasks.verify.findings import Findings, Wrong
from zitcache.tasks.verify.live import Live
from zitcache.tasks.verify.messages import describe
from zitcache.tasks.verify.reference import Reference

_KIND_OF: Mapping[str, DamageKind] = {
    "truncated": DamageKind.TRUNCATED,
    "empty-file": DamageKind.TRUNCATED,
    "extended": DamageKind.EXTENDED,
    "lfs-pointer": DamageKind.LFS_POINTER,
    "html-page": DamageKind.HTML_PAGE,
    "bad-header": DamageKind.DIFFERS,
    "bad-index": DamageKind.DIFFERS,
    "bad-config": DamageKind.DIFFERS,
    "wrong-shard": DamageKind.DIFFERS,
}
_ABSENT = frozenset({"missing-shard", "missing-file", "missing-component", "no-weights", "dangling-link"})
_LOST_TAIL_BYTES = 1 << 20
"""So many zeros at the end are no tensor by chance; fewer may be, and need a source to tell."""


def check_structure(
    looked: Sequence[Looked],
    live: Live,
    reference: Reference | None,
    listed: set[str],
    findings: Findings,
    session: Session,
    *,
    quick: bool,
) -> None:
    """Add what the structure of models tells to ``findings``. ``listed``: every name that a source lists."""
    by_path = {one.item.path: one for one in looked}
    for content in looked:
        if _is_open(content, findings) and (quick or not content.verdict.agree):
            _check_ends(content, live, reference, findings, session)
    for model in live.models:
        problems = [problem for problem in model.problems if problem.makes_incomplete]
        folder = live.relative(model.path)
        is_listed = any(_is_below(path, folder) for path in listed)
        unexplained = []
        for problem in problems:
            item = live.content_of(_join(folder, problem.path)) if problem.path else None
            one = by_path.get(item.path) if item is not None else None
            if problem.code in _KIND_OF and one is not None:
                if one.verdict.is_vouched_for:
                    unexplained.append(problem)
                elif _is_open(one, findings):
                    _add(one, _KIND_OF[problem.code], _clause(problem.message), reference, findings)
            elif is_listed or problem.code not in _ABSENT:
                unexplained.append(problem)
            else:
                _add_absent(model, problem, live, findings)
        if unexplained and not _has_findings(folder, model, live, findings):
            _warn_incomplete(model, unexplained[0], session)


def _is_open(one: Looked, findings: Findings) -> bool:
    """Whether nothing was said about this content yet."""
    return one.problem is None and not findings.is_wrong(one.item.path)


# -- one file -------------------------------------------------------------------------------------------


def _check_ends(
    one: Looked, live: Live, reference: Reference | None, findings: Findings, session: Session
) -> None:
    """Look for a pointer or page in the place of the content, and for a tail that was never written."""
    path, size = one.item.path, one.item.size
    if not size:
        return
    diagnosis = classify(Path(live.full_path(path)), None, None)
    if not _is_telling(diagnosis, live.short_name(path)):
        return
    claim = next((claim for claim in one.claims if claim.origin is Origin.SNAPSHOT), None)
    if claim is not None and claim.entry is not None and reference is not None:
        if _last_piece_is_good(one, reference, live):
            return
    elif diagnosis.kind is DamageKind.ZERO_FILLED and not _is_lost_tail(diagnosis, size):
        tail = sum(end - start for start, end in diagnosis.ranges)
        session.warn(
            "zero-tail",
            f"{live.short_name(path)} ends with {tail:,} zero bytes; nothing is known that could tell "
            "whether that is so by right.",
            "Compare with files that you know to be good: zitcache verify --against FILE",
        )
        return
    _add(one, diagnosis.kind, describe(diagnosis, size, None), reference, findings, diagnosis)


def _is_telling(diagnosis: Diagnosis, name: str) -> bool:
    if diagnosis.kind is DamageKind.HTML_PAGE:
        return name.endswith((*WEIGHT_SUFFIXES, ".json"))  # a README may well begin like a web page
    return diagnosis.kind in {DamageKind.LFS_POINTER, DamageKind.ZERO_FILLED, DamageKind.UNREADABLE}


def _is_lost_tail(diagnosis: Diagnosis, size: int) -> bool:
    tail = sum(end - start for start, end in diagnosis.ranges)
    return tail >= min(size, _LOST_TAIL_BYTES)


def _last_piece_is_good(one: Looked, reference: Reference, live: Live) -> bool:
    """Whether the end of the file is that of the snapshot: one read of at most a piece."""
    entry = next(claim.entry for claim in one.claims if claim.entry is not None)
    try:
        length, identity = reference.repository.piece_list(entry)[-1]
        with open(live.full_path(one.item.path), "rb", buffering=0) as file:
            data = os.pread(file.fileno(), length, entry.size - length)
    except (IntegrityError, IndexError, OSError):
        return False
    return blob_id(data).hex() == identity


def _add(
    one: Looked,
    kind: DamageKind,
    detail: str,
    reference: Reference | None,
    findings: Findings,
    diagnosis: Diagnosis | None = None,
) -> None:
    claims = [claim for claim in one.claims if claim.origin is Origin.SNAPSHOT]
    names = [claim.path for claim in claims] or [one.item.path]
    ranges = diagnosis.ranges if diagnosis is not None else ()
    wrong = Wrong(names[0], one.item.path, kind, detail, ranges=ranges, others=tuple(names[1:]))
    set_cure(wrong, claims, one, reference)
    findings.add(wrong)
    findings.unverified.discard(one.item.path)


# -- what is not there ----------------------------------------------------------------------------------


def _add_absent(model: Model, problem: Problem, live: Live, findings: Findings) -> None:
    """A file that the model itself says it needs, and no list of files says otherwise."""
    folder = live.relative(model.path)
    for name in _absent_names(model, problem, live):
        path = _join(folder, name)
        if live.scope.covers(path) and not _shows_missing(path, live, findings):
            findings.missing.add(path)


def _absent_names(model: Model, problem: Problem, live: Live) -> Iterator[str]:
    if problem.path is not None or problem.code != "missing-file":
        yield problem.path or ""
        return
    here = {live.relative(live.full_path(file.path)) for file in model.files}
    folder = live.relative(model.path)
    yield from (name for name in read_tree_listing(model.location) or {} if _join(folder, name) not in here)


def _shows_missing(path: str, live: Live, findings: Findings) -> bool:
    """Whether this is a link to something that is known to be missing."""
    target = live.relative(os.path.realpath(live.full_path(path)))
    return target != path and target in findings.missing


def _has_findings(folder: str, model: Model, live: Live, findings: Findings) -> bool:
    """Whether damage in the model explains why it is not complete."""
    root = live.relative(model.root)
    paths = [*findings.missing, *(wrong.path for wrong in findings.wrong)]
    return any(_is_below(path, folder) or _is_below(path, root) for path in paths)


def _warn_incomplete(model: Model, problem: Problem, session: Session) -> None:
    session.warn("model-incomplete", f"{model.id} is not complete: {problem}", "See: zitcache models")


def _is_below(path: str, folder: str) -> bool:
    return not folder or path.startswith(folder + "/")


def _join(folder: str, name: str | None) -> str:
    return "/".join(part for part in (folder, name) if part)


def _clause(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".")
