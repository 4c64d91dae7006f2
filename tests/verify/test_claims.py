"""What sources say is believed as far as they say it, and the slow hash is computed only where it must be."""

from __future__ import annotations

import pytest

from zitcache.tasks.verify.claims import (
    Answer,
    Claim,
    Found,
    Origin,
    answer,
    is_settled_by_size,
    judge,
    needs_sha256,
)

B, OTHER_B = "b" * 64, "c" * 64
S, OTHER_S = "1" * 64, "2" * 64


def claim(origin: Origin, **said: object) -> Claim:
    return Claim(origin, origin.value, "path", **said)  # type: ignore[arg-type]


SNAPSHOT = claim(Origin.SNAPSHOT, size=5, blake3=B)
SNAPSHOT_BOTH = claim(Origin.SNAPSHOT, size=5, blake3=B, sha256=S)
NAME = claim(Origin.NAME, sha256=S)
GIT = claim(Origin.NAME, git_sha1="3" * 40)
SUMS = claim(Origin.AGAINST, sha256=S)
FINGERPRINT = claim(Origin.AGAINST, size=5, blake3=B, sha256=S)
PUBLISHED = claim(Origin.PUBLISHED, size=5, sha256=S)


def test_a_size_contradicts_but_never_confirms() -> None:
    assert answer(SNAPSHOT, Found(4)) is Answer.DIFFERS
    assert answer(SNAPSHOT, Found(5)) is Answer.SILENT


@pytest.mark.parametrize(
    ("claims", "needed"),
    [
        ([], False),
        ([SNAPSHOT], False),
        ([FINGERPRINT], False),
        ([GIT], False),
        ([NAME], True),
        ([SUMS], True),
        ([PUBLISHED], True),
        ([SNAPSHOT, NAME], False),
        ([SNAPSHOT_BOTH, NAME], False),
        ([SNAPSHOT_BOTH, SUMS], False),
        ([SNAPSHOT, SUMS], True),
        ([SNAPSHOT, PUBLISHED], False),
        ([claim(Origin.SNAPSHOT, size=5, blake3=B, sha256=OTHER_S), NAME], True),
        ([GIT, PUBLISHED], False),
    ],
)
def test_sha256_is_computed_only_where_a_source_has_nothing_else(claims: list[Claim], needed: bool) -> None:
    assert needs_sha256(claims) is needed


def test_a_source_that_knows_both_teaches_the_sha256() -> None:
    verdict = judge([SNAPSHOT_BOTH, NAME, PUBLISHED], Found(5, B))
    assert verdict.agree == [SNAPSHOT_BOTH, NAME, PUBLISHED]
    assert judge([SNAPSHOT_BOTH, NAME], Found(5, OTHER_B)).silent == [NAME]


def test_the_name_of_a_blob_outweighs_the_snapshot() -> None:
    verdict = judge([SNAPSHOT, NAME], Found(5, OTHER_B, S))
    assert (verdict.wrong, verdict.outdated, verdict.is_vouched_for) == ([], [SNAPSHOT], True)
    assert judge([SNAPSHOT, NAME], Found(5, OTHER_B)).may_be_acquitted
    assert judge([SNAPSHOT, NAME], Found(5, OTHER_B, OTHER_S)).wrong == [SNAPSHOT, NAME]


def test_a_file_that_was_given_outweighs_nothing_and_is_outweighed_by_nothing() -> None:
    assert judge([NAME, FINGERPRINT], Found(5, OTHER_B, S)).wrong == [FINGERPRINT]
    assert judge([SNAPSHOT, SUMS], Found(5, B, OTHER_S)).wrong == [SUMS]


def test_published_digests_prove_no_damage() -> None:
    verdict = judge([PUBLISHED], Found(5, B, OTHER_S))
    assert (verdict.wrong, verdict.differ, verdict.is_vouched_for) == ([], [PUBLISHED], False)


@pytest.mark.parametrize(
    ("claims", "settled"),
    [
        ([SNAPSHOT], True),
        ([SNAPSHOT, SUMS], True),
        ([SNAPSHOT, NAME], False),
        ([PUBLISHED], True),
        ([SUMS], False),
    ],
)
def test_a_wrong_size_settles_what_no_digest_could_acquit(claims: list[Claim], settled: bool) -> None:
    assert is_settled_by_size(claims, 4) is settled
