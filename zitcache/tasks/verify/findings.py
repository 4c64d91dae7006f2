"""What was found so far: filled by the comparisons, read by repair and report."""

from __future__ import annotations

from dataclasses import dataclass, field

from zitcache.cache.damage import ByteRange, DamageKind
from zitcache.tasks.reading import Identity


@dataclass(slots=True)
class Wrong:
    """A name that is not what it should be.

    ``content``: path of the regular file with the bytes, None where there is none. ``others``: further names
    of the same content that should be the same. ``detail``: what is wrong, to follow the name and a colon.
    ``identity``: of the file when it was looked at. ``repairable``: the snapshot has ``path`` whole;
    ``why_not``: why it cannot be repaired. ``sha256``: what the repaired content must have, if known.
    """

    path: str
    content: str | None
    kind: DamageKind
    detail: str
    ranges: tuple[ByteRange, ...] = ()
    others: tuple[str, ...] = ()
    identity: Identity | None = None
    repairable: bool = False
    why_not: str | None = None
    sha256: str | None = None
    written_after: bool = False
    repaired: bool = False


@dataclass(slots=True)
class Findings:
    """``partial``: something could not be looked at in peace, which makes exit code 3."""

    wrong: list[Wrong] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    restored: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    unverified: set[str] = field(default_factory=set)
    changed: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    would_repair: list[str] = field(default_factory=list)
    partial: bool = False
    files_checked: int = 0
    bytes_read: int = 0
    _wrong_paths: set[str] = field(default_factory=set)

    def used(self, source: str) -> None:
        """Remember that ``source`` had something to say."""
        if source not in self.sources:
            self.sources.append(source)

    def add(self, wrong: Wrong) -> None:
        """Add something that is wrong."""
        self.wrong.append(wrong)
        self._wrong_paths.update({wrong.path, *wrong.others})
        if wrong.content is not None:
            self._wrong_paths.add(wrong.content)

    def is_wrong(self, path: str) -> bool:
        """Whether something is wrong with this name already."""
        return path in self._wrong_paths
