"""From what was found to what is wrong: which kind of damage, where, and whether it can be repaired."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from zitcache.cache.damage import ByteRange, DamageKind, Diagnosis, classify
from zitcache.events import Session
from zitcache.tasks.verify.claims import Claim, Origin, Verdict, contradicts
from zitcache.tasks.verify.examine import Looked
from zitcache.tasks.verify.findings import Findings, Wrong
from zitcache.tasks.verify.live import Live, identity_of
from zitcache.tasks.verify.localise import Localised, localise
from zitcache.tasks.verify.messages import describe
from zitcache.tasks.verify.reference import Reference

_MARKUP = (".md", ".html", ".htm", ".xml", ".svg")
"""Files that may begin like a web page by right."""


def conclude(
    looked: Sequence[Looked],
    live: Live,
    reference: Reference | None,
    findings: Findings,
    session: Session,
    *,
    quick: bool,
) -> None:
    """Sort contents into good, unverified, changed and wrong. Unless ``quick``, read wrong files again for
    the ranges that differ."""
    accused: list[Looked] = []
    for one in looked:
        spoke = [*one.verdict.agree, *one.verdict.differ]
        if quick:
            # A size that is right confirms little, but the file is not unknown either.
            spoke += [claim for claim in one.verdict.silent if claim.size is not None]
        for claim in spoke:
            findings.used(claim.source)
        if one.problem is not None:
            _problem(one, live, reference, findings, session)
        elif one.verdict.wrong:
            # A file in the place of a link is wrong whatever it holds; once is enough.
            if not findings.is_wrong(one.item.path):
                accused.append(one)
        elif not any(quick or claim in one.verdict.agree for claim in spoke):
            findings.unverified.add(one.item.path)
    places = {} if quick else _places(accused, live, reference, session)
    for one in accused:
        _accuse(one, live, reference, places.get(one.item.path), findings, session)
    _warn_outdated(looked, live, session)
    _warn_published(looked, live, session)


def _problem(
    one: Looked, live: Live, reference: Reference | None, findings: Findings, session: Session
) -> None:
    path = one.item.path
    snapshot_claims = [claim for claim in one.claims if claim.origin is Origin.SNAPSHOT]
    if one.problem == "gone":
        for claim in one.claims:
            findings.missing.add(claim.path)
        return
    if one.problem == "changed":
        findings.partial = True
        findings.unverified.add(path)
        session.warn(
            "changed-while-read",
            f"{live.short_name(path)} changed while it was read, so nothing can be said about it.",
            "Verify again when nothing writes to the cache.",
        )
        return
    reason = str(one.problem).rstrip(".")
    names = [claim.path for claim in snapshot_claims] or [path]
    detail = f"it cannot be read: {reason}"
    wrong = Wrong(names[0], path, DamageKind.UNREADABLE, detail, others=tuple(names[1:]))
    set_cure(wrong, snapshot_claims, one, reference)
    findings.add(wrong)


def _places(
    accused: Sequence[Looked], live: Live, reference: Reference | None, session: Session
) -> dict[str, Localised]:
    if reference is None:
        return {}
    suspects = [
        (one.item, claims[0].entry)
        for one in accused
        if (claims := _from_snapshot(one.verdict)) and claims[0].entry is not None
    ]
    return localise(reference.repository, str(live.scope.root), suspects, session)


def _from_snapshot(verdict: Verdict) -> list[Claim]:
    return [claim for claim in verdict.wrong if claim.origin is Origin.SNAPSHOT]


def _accuse(
    one: Looked,
    live: Live,
    reference: Reference | None,
    place: Localised | None,
    findings: Findings,
    session: Session,
) -> None:
    path = one.item.path
    if place is not None and place.problem == "changed":
        restless = replace(one, verdict=Verdict(), problem="changed")
        _problem(restless, live, reference, findings, session)
        return
    wrong_claims = one.verdict.wrong
    snapshot_claims = _from_snapshot(one.verdict)
    expected = next((claim.size for claim in wrong_claims if claim.size is not None), None)
    if place is not None and not place.ranges and place.problem is None and expected == one.item.size:
        findings.partial = True
        findings.unverified.add(path)
        session.warn(
            "unstable-reads",
            f"{live.short_name(path)} gave other bytes when it was read again: the file may be good, "
            "and the disk, its cable or the memory not.",
            "Look at `dmesg` for errors, then verify again.",
        )
        return
    diagnosis = _diagnose(live, one, expected, place)
    entry = snapshot_claims[0].entry if snapshot_claims else None
    written_after = entry is not None and one.item.mtime_ns > entry.mtime_ns
    if written_after and _is_ordinary_change(diagnosis) and not live.is_model_file(path) and one.item.size:
        findings.changed.append(path)
        return
    name = snapshot_claims[0].path if snapshot_claims else path
    wrong = Wrong(
        name,
        path,
        diagnosis.kind,
        describe(diagnosis, one.item.size, expected),
        ranges=diagnosis.ranges,
        others=tuple(claim.path for claim in snapshot_claims[1:]),
        written_after=written_after and diagnosis.kind is DamageKind.DIFFERS,
    )
    set_cure(wrong, snapshot_claims, one, reference)
    findings.add(wrong)


def _diagnose(live: Live, one: Looked, expected: int | None, place: Localised | None) -> Diagnosis:
    path, size = one.item.path, one.item.size
    ranges = place.ranges if place is not None else ()
    if place is not None and place.problem is not None:
        return Diagnosis(DamageKind.UNREADABLE, f"It cannot be read: {place.problem}.", ranges)
    diagnosis = classify(Path(live.full_path(path)), expected, ranges)
    if diagnosis.kind is DamageKind.HTML_PAGE and live.short_name(path).endswith(_MARKUP):
        return _diagnose_markup(size, expected, ranges)
    if diagnosis.kind is DamageKind.BIT_FLIPS and place is not None and 2 * place.bytes_differing > size:
        # Random bytes are equal here and there; a file that is mostly other bytes is another file.
        return Diagnosis(DamageKind.DIFFERS, "Its content is another one.", diagnosis.ranges)
    return diagnosis


def _diagnose_markup(size: int, expected: int | None, ranges: tuple[ByteRange, ...]) -> Diagnosis:
    """A file that looks like a web page by right: its size and ranges tell."""
    if expected is None or size == expected:
        kind = DamageKind.BIT_FLIPS if ranges else DamageKind.DIFFERS
        return Diagnosis(kind, "Its content is another one.", ranges)
    if size < expected:
        return Diagnosis(DamageKind.TRUNCATED, "It is cut short.", (*ranges, (size, expected)))
    kind = DamageKind.DIFFERS if ranges else DamageKind.EXTENDED
    return Diagnosis(kind, "It is longer than it should be.", ranges or ((expected, size),))


def _is_ordinary_change(diagnosis: Diagnosis) -> bool:
    """Whether this is what writing a small file anew looks like, too."""
    return diagnosis.kind in {
        DamageKind.DIFFERS,
        DamageKind.BIT_FLIPS,
        DamageKind.TRUNCATED,
        DamageKind.EXTENDED,
    }


# -- can it be repaired ---------------------------------------------------------------------------------


def set_cure(
    wrong: Wrong, snapshot_claims: Sequence[Claim], one: Looked, reference: Reference | None
) -> None:
    """Decide whether the snapshot's content may replace the file."""
    wrong.identity = identity_of(one.item)
    entry = snapshot_claims[0].entry if snapshot_claims else None
    if entry is None:
        agrees = any(claim.origin is Origin.SNAPSHOT for claim in one.verdict.agree)
        wrong.why_not = "the snapshot holds the same bytes" if agrees else "no snapshot has it"
        return
    sha256 = snapshot_claims[0].sha256
    opposed = next((claim for claim in one.claims if contradicts(claim, entry, sha256)), None)
    if opposed is not None:
        wrong.why_not = f"what the snapshot holds is not what {opposed.source} asks for, either"
        return
    if sha256 is None:
        names = (claim.sha256 for claim in one.claims if claim.origin is Origin.NAME)
        wrong.sha256 = next((digest for digest in names if digest is not None), None)
    if reference is not None:
        wrong.why_not = reference.why_not(wrong.path)
        wrong.repairable = wrong.why_not is None


# -- warnings -------------------------------------------------------------------------------------------


def _warn_outdated(looked: Sequence[Looked], live: Live, session: Session) -> None:
    for one in looked:
        for claim in one.verdict.outdated:
            session.warn(
                "snapshot-differs",
                f"{live.short_name(one.item.path)} is what its name says, but {claim.source} holds other "
                "bytes: that snapshot was taken while the file was damaged.",
                "Take a new one: zitcache backup",
            )


def _warn_published(looked: Sequence[Looked], live: Live, session: Session) -> None:
    by_source: dict[str, list[str]] = {}
    for one in looked:
        for claim in one.verdict.differ:
            if claim.origin is Origin.PUBLISHED:
                by_source.setdefault(claim.source, []).append(live.short_name(one.item.path))
    for source, names in sorted(by_source.items()):
        some = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
        session.warn(
            "differs-from-published",
            f"{len(names)} file(s) differ from {source}: {some}. That is no proof of damage: another "
            "revision or a conversion differs, too.",
            "Compare with files that you know to be good: zitcache verify --against FILE",
        )
