"""``verify``: is the live cache what it should be, and which file is not.

Data flows one way. ``reference`` and ``scope``: what is compared, and with which snapshot · ``live``: what
lies on the disk · ``names``, ``sources``, ``against``: what each source says (``claims``) · ``examine``: read
every content once · ``localise``, ``conclude``: what is wrong, and where · ``structure``: what headers and
indexes tell · ``repair_plan``, ``repair``: put it right · ``proof``: draw. Here: their order, and the report.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from zitcache.cache.layouts import is_directory
from zitcache.cache.tree import Kind
from zitcache.errors import CacheNotFound, Exit, NotFound, UsageError
from zitcache.events import Outcome, Session
from zitcache.tasks.locations import live_cache
from zitcache.tasks.verify.against import compare_with_file
from zitcache.tasks.verify.conclude import conclude
from zitcache.tasks.verify.examine import look_at_bytes, look_at_sizes
from zitcache.tasks.verify.findings import Findings, Wrong
from zitcache.tasks.verify.live import Live
from zitcache.tasks.verify.messages import message_of, repair_command
from zitcache.tasks.verify.names import Claims, compare_with_snapshot, list_extra, report_left_out
from zitcache.tasks.verify.reference import Lookup, Reference, find_reference
from zitcache.tasks.verify.repair import Repair
from zitcache.tasks.verify.report import DamagedFile, VerifyReport, VerifyRequest
from zitcache.tasks.verify.scope import Scope, guess_scope, real_place
from zitcache.tasks.verify.sources import claim_names, claim_published
from zitcache.tasks.verify.structure import check_structure

if TYPE_CHECKING:
    from zitcache.tasks.verify.proof import VerifyProof

__all__ = ["DamagedFile", "VerifyReport", "VerifyRequest", "verify"]


def verify(request: VerifyRequest, session: Session) -> Outcome[VerifyReport]:
    """Verify a cache, a folder in it or one file, and repair it if asked to.

    Exit codes: 0; 1 if something is damaged or missing in the end; 3 if something could not be looked at,
    or changed while it was read; 6 if there is nothing to compare with; 9 if all is well but for the
    picture. Raises ``CacheNotFound``, ``NotFound``, ``UsageError``, with ``repair`` also
    ``RepositoryNotFound``, ``NoSpace``, ``Locked``, …, with ``proof`` what :meth:`ProofRun.begin
    <zitcache.tasks.prove.run.ProofRun.begin>` raises.
    """
    started = time.monotonic()
    if request.repair and request.quick:
        raise UsageError(
            "--repair needs to know the bytes; --quick does not read them.", hint="zitcache verify --repair"
        )
    if request.proof is not None and request.quick:
        raise UsageError(
            "--generate draws with verified bytes; --quick does not read them.",
            hint="zitcache verify --generate",
        )
    place = live_cache(None, session) if request.path is None else real_place(request.path)
    session.progress.stage("Looking at the cache")
    lookup = find_reference(request, place, session)
    reference = lookup.reference
    if reference is None and request.repair:
        raise lookup.problem or NotFound(f"No snapshot holds {place}.")
    scope = lookup.scope or guess_scope(place)
    _require_something(scope, place, reference)
    live = Live(scope)
    findings = Findings()
    proof = None
    if request.proof is not None:
        from zitcache.tasks.verify.proof import VerifyProof

        proof = VerifyProof(request, request.proof, live, reference, session)
    with proof or nullcontext():
        run = _Run(request, session, live, reference, findings, proof)
        run.compare()
        repair = run.repair() if request.repair and reference is not None else None
        outcome = run.outcome(place, lookup, repair, started)
        return outcome if proof is None else proof.add_to(outcome, findings)


def _require_something(scope: Scope, place: Path, reference: Reference | None) -> None:
    if not is_directory(scope.root):
        if reference is not None:
            raise CacheNotFound(
                f"The cache {scope.root} is gone; {reference.name} has it.",
                hint="Bring it back: zitcache restore",
            )
        raise NotFound(f"{place} does not exist.", hint="List what is there with: zitcache models")
    if os.path.lexists(place):
        return
    if reference is None or not any(scope.covers(path) for path in reference.entries):
        raise NotFound(f"{place} does not exist.", hint="List what is there with: zitcache models")


class _Run:
    """Everything one verification knows."""

    def __init__(
        self,
        request: VerifyRequest,
        session: Session,
        live: Live,
        reference: Reference | None,
        findings: Findings,
        proof: VerifyProof | None,
    ) -> None:
        self._proof = proof
        self._request = request
        self._session = session
        self._live = live
        self._reference = reference
        self._findings = findings

    def compare(self) -> None:
        """Ask every source about every name and content in the scope."""
        live, reference, findings, session = self._live, self._reference, self._findings, self._session
        claims: Claims = defaultdict(list)
        listed: set[str] = set()
        if reference is not None:
            compare_with_snapshot(reference, live, claims, findings)
            listed |= {path for path in reference.entries if live.scope.covers(path)}
            listed |= set(reference.snapshot.record.left_out)
        if self._request.against is not None:
            listed |= compare_with_file(self._request.against, live, claims, findings, session)
        contents = live.contents(claims)
        wanted = {item.path for item in contents}
        claim_names(live, wanted, claims)
        claim_published(live, wanted, claims)
        # What a tool noted for itself is nobody's loss; it counts where a source lists it.
        pairs = [
            (item, claims.get(item.path, []))
            for item in contents
            if item.path in claims or not live.models or live.is_model_file(item.path)
        ]
        if self._proof is not None:
            # Components in the order in which they will be loaded, also where blobs have other names.
            pairs.sort(key=lambda pair: os.fsencode(next(iter(live.names_of(pair[0].path)), pair[0].path)))
        findings.files_checked = len(pairs)
        known = [pair for pair in pairs if pair[1]]
        if self._request.quick:
            looked = look_at_sizes(pairs)
        else:
            on_read = self._proof.file_read if self._proof is not None else None
            looked, findings.bytes_read = look_at_bytes(str(live.scope.root), known, session, on_read)
            looked += look_at_sizes([pair for pair in pairs if not pair[1]])
        conclude(looked, live, reference, findings, session, quick=self._request.quick)
        check_structure(looked, live, reference, listed, findings, session, quick=self._request.quick)
        report_left_out(live, findings, session)
        if listed:
            # A file of digests lists what models have; a snapshot lists everything.
            findings.extra = list_extra(live, listed, models_only=reference is None)

    def repair(self) -> Repair:
        """Put right what can be, or with ``dry_run`` only say what would be."""
        assert self._reference is not None
        repair = Repair(self._reference, self._live, self._findings, self._session)
        if self._request.dry_run:
            self._findings.would_repair = repair.plan.paths
        else:
            repair.run()
        for path, reason in sorted(repair.failed.items()):
            self._session.warn(
                "not-repaired", f"{path} was not repaired: {reason}.", "zitcache check --read-data"
            )
        return repair

    def outcome(
        self, place: Path, lookup: Lookup, repair: Repair | None, started: float
    ) -> Outcome[VerifyReport]:
        """The report and the exit code."""
        findings = self._findings
        exit_code = self._exit_code()
        wrong = sorted(findings.wrong, key=lambda one: os.fsencode(one.path))
        self._say_more(lookup)
        report = VerifyReport(
            path=str(place),
            cache=str(self._live.scope.root),
            sources=findings.sources,
            files_checked=findings.files_checked,
            bytes_read=findings.bytes_read,
            seconds=time.monotonic() - started,
            damaged=[self._damaged(one, repair) for one in wrong],
            missing=sorted(findings.missing, key=os.fsencode),
            extra=findings.extra,
            unverified=sorted(findings.unverified, key=os.fsencode),
            repaired=sum(1 for one in wrong if one.repaired) + len(findings.restored),
            quick=self._request.quick,
            restored=findings.restored,
            changed=sorted(findings.changed, key=os.fsencode),
            would_repair=findings.would_repair,
            snapshot_id=self._reference.snapshot.id if self._reference else None,
            dry_run=self._request.dry_run,
        )
        return Outcome(data=report, warnings=self._session.warnings, exit_code=exit_code)

    def _damaged(self, wrong: Wrong, repair: Repair | None) -> DamagedFile:
        names = [] if wrong.content is None else self._live.names_of(wrong.content)
        failure = repair.failed.get(wrong.path) if repair is not None else None
        name = self._live.short_name(wrong.content or wrong.path)
        return DamagedFile(
            path=wrong.path,
            kind=wrong.kind.value,
            ranges=list(wrong.ranges),
            message=message_of(wrong, name, failure, self._request),
            repaired=wrong.repaired,
            names=[name for name in names if name != wrong.path],
            repairable=wrong.repairable,
        )

    def _exit_code(self) -> Exit:
        findings = self._findings
        if findings.missing or any(not wrong.repaired for wrong in findings.wrong):
            return Exit.DAMAGE
        if not findings.sources and not self._request.quick:
            return Exit.NOT_FOUND
        return Exit.PARTIAL if findings.partial else Exit.OK

    def _say_more(self, lookup: Lookup) -> None:
        """What the lists of the report do not say by themselves."""
        findings, session = self._findings, self._session
        if not findings.sources:
            why = f" ({lookup.problem.message})" if lookup.problem is not None else ""
            session.warn(
                "nothing-to-compare",
                f"There is nothing to compare {self._live.scope.path} with{why}: only sizes, headers and "
                "completeness were looked at, so nobody knows whether the bytes are right.",
                "From now on: zitcache backup, or zitcache checksum -o FILE",
            )
        if findings.changed:
            session.warn(
                "changed-since-snapshot",
                f"{len(findings.changed)} of the tools' own notes were written anew since the snapshot "
                f"({findings.changed[0]}), which is what an update does.",
                "Put the new state into a snapshot: zitcache backup",
            )
        if findings.missing and self._reference is not None:
            self._name_missing_blobs()

    def _name_missing_blobs(self) -> None:
        """In a Hugging Face cache the name that is missing is a digest: say of which file."""
        lost: dict[str, list[str]] = {}
        for item in self._live.items:
            if item.kind is Kind.SYMLINK:
                target = self._live.relative(os.path.realpath(self._live.full_path(item.path)))
                if target in self._findings.missing:
                    lost.setdefault(target, []).append(item.path)
        for blob, names in lost.items():
            self._session.warn(
                "missing-blob",
                f"{', '.join(names)}: the blob it points to, {blob}, is missing.",
                f"Repair with: {repair_command(self._request)}",
            )
