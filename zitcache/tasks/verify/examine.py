"""Read every content once, hash it as far as the sources need it, and compare.

BLAKE3 is always computed; SHA-256 only for files for which a source has nothing else. Files whose size
already proves damage are not read here. A file that only the snapshot accuses, and whose own name might
acquit it, is read a second time: a rare case, and never a good file.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from zitcache.cache.cutting import Piece
from zitcache.cache.tree import TreeItem
from zitcache.errors import NotFound, ZitcacheError
from zitcache.events import Session
from zitcache.tasks.digesting import PIECE_BYTES, digest_files
from zitcache.tasks.reading import FileRead, Wanted
from zitcache.tasks.verify.claims import (
    Claim,
    Found,
    Origin,
    Verdict,
    is_settled_by_size,
    judge,
    needs_sha256,
)
from zitcache.tasks.verify.live import identity_of

_STEP_BYTES = 1 << 20


@dataclass(slots=True)
class Looked:
    """One content, the claims about it, what was found and how they compare.

    ``problem``: "changed", "gone", or why it could not be read; then there is no verdict on its content.
    """

    item: TreeItem
    claims: list[Claim]
    found: Found
    verdict: Verdict
    problem: str | None = None


def look_at_sizes(contents: Sequence[tuple[TreeItem, list[Claim]]]) -> list[Looked]:
    """Compare sizes only."""
    return [_looked(item, claims, Found(item.size)) for item, claims in contents]


def look_at_bytes(
    root: str,
    contents: Sequence[tuple[TreeItem, list[Claim]]],
    session: Session,
    on_read: Callable[[str, str], None] | None = None,
) -> tuple[list[Looked], int]:
    """Read the contents; returns what was found, and the bytes that were read.

    ``on_read``: told in threads the path and the BLAKE3 of each that was read; then all stays in the page
    cache.
    """
    reader = _Reader(root, session, on_read)
    by_size = [pair for pair in contents if is_settled_by_size(pair[1], pair[0].size)]
    sizes = {item.path for item, _ in by_size}
    fast = [pair for pair in contents if pair[0].path not in sizes and not needs_sha256(pair[1])]
    slow = [pair for pair in contents if pair[0].path not in sizes and needs_sha256(pair[1])]
    session.progress.stage("Verifying", sum(item.size for item, _ in [*fast, *slow]))
    looked = look_at_sizes(by_size) + reader.read(fast, sha256=False) + reader.read(slow, sha256=True)
    accused = [one for one in looked if one.problem is None and one.verdict.may_be_acquitted]
    if accused:
        again = reader.read([(one.item, one.claims) for one in accused], sha256=True)
        second = {one.item.path: one for one in again}
        looked = [second.get(one.item.path, one) for one in looked]
    return sorted(looked, key=lambda one: os.fsencode(one.item.path)), reader.bytes_read


def _looked(item: TreeItem, claims: list[Claim], found: Found, problem: str | None = None) -> Looked:
    verdict = Verdict() if problem else judge(claims, found)
    return Looked(item, claims, found, verdict, problem)


class _Reader:
    """Reads groups of files and counts."""

    def __init__(self, root: str, session: Session, on_read: Callable[[str, str], None] | None) -> None:
        self._root = root
        self._session = session
        self._on_read = on_read
        self._lock = threading.Lock()
        self.bytes_read = 0

    def read(self, contents: Sequence[tuple[TreeItem, list[Claim]]], *, sha256: bool) -> list[Looked]:
        """Hash each of these files in one pass."""
        results: list[Looked] = []
        claims_of = {item.path: claims for item, claims in contents}
        wants_git = {path for path, claims in claims_of.items() if any(claim.git_sha1 for claim in claims)}

        def on_piece(item: TreeItem, piece: Piece, data: memoryview) -> str | None:
            # Files with Git digests are small, nearly all of one piece: hash them while they are at hand.
            whole = item.path in wants_git and piece.offset == 0 and piece.length == item.size
            return _git_sha1(data) if whole else None

        def on_file(read: FileRead[TreeItem]) -> None:
            looked = self._conclude(read, claims_of[read.key.path])
            with self._lock:
                results.append(looked)
                self.bytes_read += read.identity.size if read.identity and read.digests else 0
            if self._on_read is not None and read.digests is not None:
                self._on_read(read.path, read.digests.blake3)

        wanted = [
            Wanted(item, os.path.join(self._root, item.path), identity_of(item)) for item, _ in contents
        ]
        digest_files(
            wanted,
            self._session,
            sha256=sha256,
            on_file=on_file,
            on_piece=on_piece,
            keep_cached=self._on_read is not None,
        )
        return [self._with_git_sha1(one) for one in results]

    def _conclude(self, read: FileRead[TreeItem], claims: list[Claim]) -> Looked:
        item = read.key
        if read.digests is None or read.identity is None:
            return _looked(item, claims, Found(item.size), _problem(read))
        git = next((str(result) for result in read.results if result is not None), None)
        found = Found(read.identity.size, read.digests.blake3, read.digests.sha256, git)
        return _looked(item, claims, found)

    def _with_git_sha1(self, one: Looked) -> Looked:
        """Compute the Git digest of a file of several pieces, if nothing else vouches for it."""
        wanted = any(claim.git_sha1 for claim in one.verdict.silent)
        if not wanted or one.problem or any(claim.origin is Origin.SNAPSHOT for claim in one.verdict.agree):
            return one
        try:
            git = _git_sha1_of_file(os.path.join(self._root, one.item.path), one.item.size)
        except OSError as error:
            return _looked(one.item, one.claims, one.found, error.strerror or str(error))
        self.bytes_read += one.item.size if one.item.size > PIECE_BYTES else 0
        return _looked(one.item, one.claims, replace(one.found, git_sha1=git))


def _problem(read: FileRead[TreeItem]) -> str:
    if isinstance(read.error, NotFound):
        return "gone"
    if read.problem == "unreadable" and isinstance(read.error, ZitcacheError):
        return read.error.message
    return read.problem or "unreadable"


def _git_sha1(data: memoryview) -> str:
    """The name Git gives to a file of these bytes."""
    hasher = hashlib.sha1(b"blob %d\0" % len(data), usedforsecurity=False)
    hasher.update(data)
    return hasher.hexdigest()


def _git_sha1_of_file(path: str, size: int) -> str:
    hasher = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with open(path, "rb", buffering=0) as file:
        while data := file.read(_STEP_BYTES):
            hasher.update(data)
    return hasher.hexdigest()
