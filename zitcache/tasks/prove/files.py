"""The files of the model that is proved: which were read, and what their digests are."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from zitcache.cache.fingerprint import FileFingerprint
from zitcache.cache.inventory import Model
from zitcache.errors import ZitcacheError
from zitcache.events import Session
from zitcache.proof.errors import DrawingFailed
from zitcache.tasks.digesting import digest_files
from zitcache.tasks.reading import FileRead, Wanted

_EARLY_SHARE = 0.25


class ProvedFiles:
    """Collects digests while ``verify`` reads, and says when a component may be loaded.

    A component may be loaded when all but a quarter of its bytes were read: by the time the loading comes
    to the rest, that is in the page cache as well; and if not, the loading reads it, which is no loss
    either.
    """

    def __init__(self, model: Model, cache: Path, on_ready: Callable[[str], None]) -> None:
        self._cache = cache
        self._on_ready = on_ready
        self._lock = threading.Lock()
        self._digests: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        self._names: dict[str, list[str]] = {}
        self._unread: Counter[str] = Counter()
        for file in model.files:
            name = os.path.relpath(cache / file.path, model.path)
            content = os.path.realpath(cache / file.content_path)
            self._names.setdefault(content, []).append(name)
            self._sizes[content] = file.size
            self._unread[_component(name)] += file.size
        self._total = Counter(self._unread)
        self._ready: set[str] = set()

    def read(self, path: str | os.PathLike[str], blake3: str) -> None:
        """The content at ``path`` was read and is in the page cache. May be called by any thread."""
        content = os.path.realpath(path)
        ready = []
        with self._lock:
            if content not in self._names or content in self._digests:
                return
            self._digests[content] = blake3
            for name in self._names[content]:
                part = _component(name)
                self._unread[part] -= self._sizes[content]
                if part not in self._ready and self._unread[part] <= self._total[part] * _EARLY_SHARE:
                    self._ready.add(part)
                    ready.append(part)
        for part in ready:
            if part:
                self._on_ready(part)

    def forget(self, path: str | os.PathLike[str]) -> None:
        """The content at ``path`` is another one now."""
        with self._lock:
            self._digests.pop(os.path.realpath(path), None)

    def fingerprints(self, session: Session) -> list[FileFingerprint]:
        """All files with their digests; those that nobody has read yet are read now.

        Raises ``DrawingFailed`` when one cannot be read.
        """
        missing = [content for content in self._names if content not in self._digests]
        if missing:
            session.progress.stage("Reading", sum(self._sizes[content] for content in missing))
            wanted = [Wanted(content, content) for content in missing]
            digest_files(wanted, session, sha256=False, on_file=self._take, keep_cached=True)
        return [
            FileFingerprint(name, self._sizes[content], self._digests[content])
            for content, names in self._names.items()
            for name in names
        ]

    def _take(self, read: FileRead[str]) -> None:
        if read.digests is None:
            why = read.error.message if isinstance(read.error, ZitcacheError) else read.problem
            raise DrawingFailed(f"{read.path} cannot be read: {why}.")
        self.read(read.path, read.digests.blake3)


def _component(name: str) -> str:
    return name.partition("/")[0] if "/" in name else ""
