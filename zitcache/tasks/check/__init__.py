"""``check``: is the repository sound, down to every blob if asked.

``structure``: snapshots, index, packs · ``trees``: what the snapshots need · ``subset`` and ``data``: reading
packs · ``sha256``: digests that backups left out · ``findings``, ``frames``, ``affected``: what is wrong, how
one tells, and which files it costs. Here: their order and the report.

The rule for the exit code: 1 when something is damaged (missing, cut short, check bytes or ids that do not
fit), 10 when something is well-formed and yet not what its name, the index or the format says: an object
whose good bytes have another name, a snapshot with paths outside the cache.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import msgspec

from zitcache.errors import Exit, UsageError, ZitcacheError
from zitcache.events import Outcome, Session
from zitcache.repository.checks import FOLDER as CHECK_FOLDER
from zitcache.repository.checks import record_verified, verified_packs
from zitcache.repository.digests import FOLDER as DIGEST_FOLDER
from zitcache.repository.digests import known_sha256, record_sha256
from zitcache.repository.notes import record_bad_copies
from zitcache.repository.records import CheckRecord, DigestRecord
from zitcache.repository.repository import Repository
from zitcache.storage.local import LocalStorage
from zitcache.tasks.check.affected import report_damage
from zitcache.tasks.check.data import DataRead, PackCheck
from zitcache.tasks.check.findings import DamagedBlob, Findings
from zitcache.tasks.check.sha256 import compute_sha256
from zitcache.tasks.check.structure import Structure, check_structure, unreadable_records
from zitcache.tasks.check.subset import Part, Share, choose_packs, parse_subset
from zitcache.tasks.check.trees import Needs, check_trees
from zitcache.tasks.locations import open_repository

STALE_AFTER_SECONDS = 86400
"""An unfinished write that nobody has written to for a day belongs to no living backup."""


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """``read_data``: every blob. ``subset``: "5%" (what was read longest ago first) or "1/7" (a part)."""

    repository: str | None = None
    read_data: bool = False
    subset: str | None = None


class CheckReport(msgspec.Struct, kw_only=True):
    """``blobs_checked``/``bytes_read``: copies of blobs read back from packs; 0 if only the structure was.

    ``oldest_check``: ISO time of the least recently read pack, None if one was never read.
    ``packs_checked``: packs read from front to back.
    """

    repository: str
    snapshots: int
    packs: int
    blobs: int
    blobs_checked: int
    bytes_read: int
    seconds: float
    damaged: list[DamagedBlob]
    unindexed_packs: int
    leftovers: int
    sha256_filled_in: int
    oldest_check: str | None
    packs_checked: int = 0


def check(request: CheckRequest, session: Session) -> Outcome[CheckReport]:
    """Check a repository; nothing in it is changed but what is remembered about this check.

    Exit codes: 0; 1 if something is damaged; 10 if something was tampered with (see the module). Raises
    ``RepositoryNotFound``, ``UnsupportedFormat``, ``UsageError`` for a wrong subset, ``Unreachable``, …
    """
    if request.read_data and request.subset is not None:
        raise UsageError(
            "Reading all data and reading a part of it exclude each other.", hint="Give one of the two."
        )
    subset = None if request.subset is None else parse_subset(request.subset)
    started = time.monotonic()
    repository = open_repository(request.repository, session)
    findings = Findings()
    structure = check_structure(repository, findings, session)
    needs = check_trees(repository, structure.snapshots, findings, session)
    _warn_about(repository, structure, session)
    read, filled_in = DataRead(), 0
    verified = verified_packs(repository)
    if request.read_data or subset is not None:
        read = _read_data(repository, structure, subset, verified, findings, session)
    if request.read_data:
        filled_in = _fill_in_sha256(repository, needs, findings, session)
    damaged = report_damage(repository, structure.snapshots, findings, session)
    report = CheckReport(
        repository=repository.storage.location,
        snapshots=structure.snapshot_count,
        packs=len(structure.sizes),
        blobs=len(repository.index),
        blobs_checked=read.blobs,
        bytes_read=read.bytes_read,
        seconds=time.monotonic() - started,
        damaged=damaged,
        unindexed_packs=len(structure.unindexed),
        leftovers=_leftovers(repository),
        sha256_filled_in=filled_in,
        oldest_check=_oldest(structure, verified),
        packs_checked=read.packs,
    )
    tampered = any(finding.tampered for finding in damaged)
    exit_code = Exit.TAMPERED if tampered else Exit.DAMAGE if damaged else Exit.OK
    return Outcome(data=report, warnings=session.warnings, exit_code=exit_code)


def _read_data(
    repository: Repository,
    structure: Structure,
    subset: Share | Part | None,
    verified: dict[str, int],
    findings: Findings,
    session: Session,
) -> DataRead:
    """Read the chosen packs; ``verified`` learns which are sound, and the repository remembers it."""
    sizes = {pack_id: structure.sizes[pack_id] for pack_id in structure.packs if pack_id in structure.sizes}
    chosen = choose_packs(sizes, verified, subset)
    session.progress.stage("Reading packs", sum(sizes[pack_id] for pack_id in chosen))
    check = PackCheck(repository, findings, session)
    moment = int(time.time())
    try:
        check.run((structure.packs[pack_id] for pack_id in chosen), sizes)
    finally:
        # A check that is interrupted has proved something, too: the next one starts with the rest.
        if check.result.sound:
            _remember(repository, check.result.sound, moment, session)
        _remember_bad_copies(repository, findings, session)
    verified.update(dict.fromkeys(check.result.sound, moment))
    return check.result


def _remember(repository: Repository, sound: list[str], moment: int, session: Session) -> None:
    try:
        record_verified(repository, sound, moment)
    except ZitcacheError as error:
        session.warn("check-not-recorded", f"It cannot be recorded what was checked: {error.message}")


def _remember_bad_copies(repository: Repository, findings: Findings, session: Session) -> None:
    """So that the next backup stores anew what it can, instead of counting on what is damaged."""
    try:
        record_bad_copies(repository, findings.bad_copies())
    except ZitcacheError as error:
        session.warn("check-not-recorded", f"It cannot be recorded what is damaged: {error.message}")


def _fill_in_sha256(repository: Repository, needs: Needs, findings: Findings, session: Session) -> int:
    """Compute what is missing and record it; returns how many were added."""
    known = known_sha256(repository)
    entries = [entry for content, entry in needs.without_sha256.items() if content not in known]
    if not entries:
        return 0
    digests = compute_sha256(repository, entries, findings, session)
    try:
        record_sha256(repository, digests)
    except ZitcacheError as error:
        session.warn("check-not-recorded", f"SHA-256 digests cannot be recorded: {error.message}")
        return 0
    return len(digests)


def _warn_about(repository: Repository, structure: Structure, session: Session) -> None:
    """What is no damage and yet should be known."""
    if structure.foreign:
        names = ", ".join(structure.foreign[:3]) + (", …" if len(structure.foreign) > 3 else "")
        session.warn(
            "foreign-files",
            f"There are {len(structure.foreign)} files in the repository that are not of zitcache: {names}.",
            "They do no harm; remove them by hand if you know them.",
        )
    if any(
        location.pack in structure.unindexed
        for snapshot in structure.snapshots
        for tree in snapshot.record.trees
        for location in repository.index.locations(tree)
    ):
        session.warn(
            "index-lost",
            "Snapshots need packs that no index object names: a part of the index is gone. Nothing is lost, "
            "the packs themselves are read for it; the next backup writes it anew.",
            "zitcache backup",
        )
    broken = unreadable_records(repository, CHECK_FOLDER, CheckRecord)
    broken += unreadable_records(repository, DIGEST_FOLDER, DigestRecord)
    if broken:
        session.warn(
            "record-unreadable",
            f"{broken} objects in {CHECK_FOLDER}/ and {DIGEST_FOLDER}/ are damaged. They only remember "
            "earlier checks and SHA-256 digests, but a disk that damages them may damage more.",
            "zitcache check --read-data",
        )


def _leftovers(repository: Repository) -> int:
    storage = repository.storage
    return len(storage.stale_temporaries(STALE_AFTER_SECONDS)) if isinstance(storage, LocalStorage) else 0


def _oldest(structure: Structure, verified: dict[str, int]) -> str | None:
    moments = [verified.get(pack_id) for pack_id in structure.sizes]
    if not moments or None in moments:
        return None
    oldest = min(moment for moment in moments if moment is not None)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(oldest))
