"""What the sources say about a content, and whether it is so.

A claim is believed about what it says and nothing more: one that gives only a SHA-256 is silent when only the
BLAKE3 of a file is known. But a source that gives both teaches the SHA-256 of whatever has that BLAKE3, and
that is what spares ``verify`` the four times slower hash.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from zitcache.repository.records import TreeEntry


class Origin(str, Enum):
    """Where a claim comes from. All but ``PUBLISHED`` are proof of damage when a file differs."""

    SNAPSHOT = "snapshot"
    AGAINST = "against"
    NAME = "name"
    PUBLISHED = "published"


@dataclass(frozen=True, slots=True)
class Claim:
    """What one source says about the content shown at ``path`` (relative to the cache). Digests in hex.

    ``source``: how a person calls it. ``entry``: the snapshot's file entry with this content.
    """

    origin: Origin
    source: str
    path: str
    size: int | None = None
    blake3: str | None = None
    sha256: str | None = None
    git_sha1: str | None = None
    entry: TreeEntry | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What is known about a content on the disk; digests as far as they were computed."""

    size: int
    blake3: str | None = None
    sha256: str | None = None
    git_sha1: str | None = None


class Answer(Enum):
    """Whether a claim is true of a content."""

    AGREES = "agrees"
    DIFFERS = "differs"
    SILENT = "silent"


def answer(claim: Claim, found: Found) -> Answer:
    """Compare one claim with what is known. A size alone can contradict, but never confirm."""
    if claim.size is not None and claim.size != found.size:
        return Answer.DIFFERS
    for said, is_so in (
        (claim.blake3, found.blake3),
        (claim.sha256, found.sha256),
        (claim.git_sha1, found.git_sha1),
    ):
        if said is not None and is_so is not None:
            return Answer.AGREES if said == is_so else Answer.DIFFERS
    return Answer.SILENT


@dataclass(slots=True)
class Verdict:
    """The claims about one content by their answer."""

    agree: list[Claim] = field(default_factory=list)
    differ: list[Claim] = field(default_factory=list)
    silent: list[Claim] = field(default_factory=list)

    @property
    def wrong(self) -> list[Claim]:
        """The claims that prove damage.

        A blob that is what its name says is good even where the snapshot holds something else: then it is
        the snapshot that was taken of a damaged cache.
        """
        proven = any(claim.origin is Origin.NAME for claim in self.agree)
        return [
            claim
            for claim in self.differ
            if claim.origin is not Origin.PUBLISHED and not (proven and claim.origin is Origin.SNAPSHOT)
        ]

    @property
    def outdated(self) -> list[Claim]:
        """Claims of the snapshot that the content's own name refutes."""
        wrong = self.wrong
        return [claim for claim in self.differ if claim.origin is Origin.SNAPSHOT and claim not in wrong]

    @property
    def is_vouched_for(self) -> bool:
        """Whether a source knows this content and nothing speaks against it."""
        return bool(self.agree) and not self.wrong

    @property
    def may_be_acquitted(self) -> bool:
        """Whether computing more digests could show that the snapshot is wrong, not the file."""
        return any(claim.origin is Origin.SNAPSHOT for claim in self.wrong) and any(
            claim.origin is Origin.NAME for claim in self.silent
        )


def judge(claims: Sequence[Claim], found: Found) -> Verdict:
    """Compare all claims about one content with what is known about it."""
    if found.sha256 is None and found.blake3 is not None:
        known = (claim.sha256 for claim in claims if claim.sha256 and claim.blake3 == found.blake3)
        found = replace(found, sha256=next(known, None))
    verdict = Verdict()
    lists = {Answer.AGREES: verdict.agree, Answer.DIFFERS: verdict.differ, Answer.SILENT: verdict.silent}
    for claim in claims:
        lists[answer(claim, found)].append(claim)
    return verdict


def is_settled_by_size(claims: Sequence[Claim], size: int) -> bool:
    """Whether hashing would tell nothing more: the size alone proves damage, or contradicts every claim."""
    opposed = [claim for claim in claims if claim.size is not None and claim.size != size]
    if len(opposed) == len(claims):
        return True
    proof = any(claim.origin is not Origin.PUBLISHED for claim in opposed)
    return proof and not any(claim.origin is Origin.NAME for claim in claims)


def needs_sha256(claims: Sequence[Claim]) -> bool:
    """Whether SHA-256 has to be computed: not where a BLAKE3 from a source that knows both will do."""
    learnt = {claim.sha256 for claim in claims if claim.blake3 and claim.sha256}
    has_blake3 = any(claim.blake3 for claim in claims)
    for claim in claims:
        if claim.blake3 or claim.sha256 is None or claim.sha256 in learnt:
            continue
        if claim.origin is Origin.PUBLISHED and len(claims) > 1:
            continue
        # BLAKE3 is enough, unless its source is known to hold other bytes than the name says.
        if claim.origin is Origin.NAME and has_blake3 and not learnt:
            continue
        return True
    return False


def contradicts(claim: Claim, entry: TreeEntry, entry_sha256: str | None) -> bool:
    """Whether the content of ``entry`` would be wrong by ``claim``, too."""
    held = Found(entry.size, entry.blake3, entry_sha256)
    return claim.origin is not Origin.PUBLISHED and answer(claim, held) is Answer.DIFFERS
