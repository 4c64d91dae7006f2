"""SHA-256 of contents, found out after the snapshot that holds them was written.

A backup records SHA-256 where the processor computes it fast; elsewhere ``checksum`` and ``check`` add it
later. Snapshots never change, so what was added lies in records of its own, by BLAKE3.
"""

from __future__ import annotations

from collections.abc import Mapping

from zitcache.repository.records import DigestRecord
from zitcache.repository.repository import Repository

FOLDER = "digests"


def known_sha256(repository: Repository) -> dict[str, str]:
    """BLAKE3 -> SHA-256 (hex), merged over all records. A content with two different ones is left out."""
    merged: dict[str, str] = {}
    doubtful: set[str] = set()
    for record in repository.load_records(FOLDER, DigestRecord):
        for content, sha256 in record.sha256.items():
            if merged.setdefault(content, sha256) != sha256:
                doubtful.add(content)
    return {content: sha256 for content, sha256 in merged.items() if content not in doubtful}


def record_sha256(repository: Repository, digests: Mapping[str, str]) -> None:
    """Remember SHA-256 by BLAKE3 (hex); nothing is written for none. Raises what the storage raises."""
    if digests:
        repository.store_record(FOLDER, DigestRecord(sha256=dict(sorted(digests.items()))))
