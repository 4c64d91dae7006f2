"""Fill in the SHA-256 of contents that were backed up where it is slow to compute.

Reads those files once more, piece by piece in their own order, which packs do not keep; in return the digest
of each whole file is proved as well.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator

from blake3 import blake3

from zitcache.codec.frame import HEADER_SIZE, FrameKind
from zitcache.errors import IntegrityError, ObjectNotFound
from zitcache.events import Session
from zitcache.repository.records import MAX_PIECE_SIZE, TreeEntry
from zitcache.repository.repository import Repository
from zitcache.tasks.check.data import buffer_workers
from zitcache.tasks.check.findings import Blob, Findings, Problem
from zitcache.tasks.workers import Stop, run_threads


def compute_sha256(
    repository: Repository, entries: list[TreeEntry], findings: Findings, session: Session
) -> dict[str, str]:
    """SHA-256 by BLAKE3 of every content of ``entries`` that can be read and is whole."""
    if not entries:
        return {}
    session.progress.stage("Computing SHA-256", sum(entry.size for entry in entries))
    run = _Run(repository, findings, session)
    run.all(entries)
    return run.digests


class _Run:
    def __init__(self, repository: Repository, findings: Findings, session: Session) -> None:
        self._repository = repository
        self._findings = findings
        self._session = session
        self._piece_size = repository.config.cutting.piece_size
        self._stop = Stop()
        self._lock = threading.Lock()
        self.digests: dict[str, str] = {}

    def all(self, entries: list[TreeEntry]) -> None:
        """One file per worker; the largest first, so that none is left for the end."""
        source = iter(sorted(entries, key=lambda entry: -entry.size))
        workers = min(len(entries), buffer_workers(self._piece_size))
        run_threads([lambda: self._work(source)] * workers, self._stop, self._session.cancel)

    @property
    def _must_stop(self) -> bool:
        return self._stop.is_set or bool(self._session.cancel)

    def _work(self, source: Iterator[TreeEntry]) -> None:
        piece = memoryview(bytearray(self._piece_size))
        scratch = memoryview(bytearray(self._piece_size + HEADER_SIZE))
        while not self._must_stop:
            with self._lock:
                entry = next(source, None)
            if entry is None:
                return
            self._session.progress.file(entry.path)
            try:
                self._hash(entry, piece, scratch)
            except (IntegrityError, ObjectNotFound):
                continue  # what cannot be read is among the findings already

    def _hash(self, entry: TreeEntry, piece: memoryview, scratch: memoryview) -> None:
        content, sha256 = blake3(), hashlib.sha256()
        for length, blob in self._repository.piece_list(entry):
            if self._must_stop or length > MAX_PIECE_SIZE:
                return
            if length > len(piece):  # it was copied from a repository with larger pieces
                piece = memoryview(bytearray(length))
            view = piece[:length]
            self._repository.load_blob_into(blob, view, scratch=scratch)
            content.update(view)
            sha256.update(view)
            self._session.progress.advance(length)
        if entry.blake3 is None:
            return
        if content.hexdigest() != entry.blake3:
            message = "The whole file does not match its digest although its pieces do."
            whole = Blob(entry.blake3, FrameKind.DATA)
            self._findings.add_blob(whole, "", Problem(message, tampered=True), final=True)
            return
        with self._lock:
            self.digests[entry.blake3] = sha256.hexdigest()
