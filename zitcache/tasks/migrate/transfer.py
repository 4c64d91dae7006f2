"""Bring one tree to be what another is: copied or cloned, checked, and caught up with while that changes.

The same for a migration (cache to destination) and its undo (destination to the old place).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from zitcache.errors import Exit, IntegrityError, Locked, from_os_error
from zitcache.events import Session
from zitcache.machine.clone import clone_file
from zitcache.tasks.migrate.copying import Copier
from zitcache.tasks.migrate.destination import Destination
from zitcache.tasks.migrate.journal import Done, Journal, done
from zitcache.tasks.migrate.listing import Entry, Kind, Listing, differences, list_everything
from zitcache.tasks.migrate.metadata import Metadata
from zitcache.tasks.migrate.names import LEFTOVERS_NAME, part_name
from zitcache.tasks.migrate.structure import (
    clear_the_way,
    make_directories,
    make_links,
    remove_surplus,
    settle_directories,
)
from zitcache.tasks.migrate.survey import compare_content, known_finished, look_alike
from zitcache.tasks.reading import Identity

ROUNDS = 2
"""How often a tree that changes while it is moved is caught up with."""


class ReadBackDiffers(IntegrityError):
    """What was read back from the target is not what was written there."""

    exit_code = Exit.DAMAGE
    code = "read-back-differs"
    default_hint = "The target's disk, its cable or the memory is bad: check dmesg, use another disk."


class Transfer:
    """``finished``: by path, what is in the target, right and durable. ``resumed_bytes``: not written again.

    ``texts``: symlinks that get another text, by path.
    """

    def __init__(
        self,
        source: Path,
        destination: Destination,
        journal: Journal,
        session: Session,
        *,
        clones: bool,
        texts: Mapping[str, str],
    ) -> None:
        self.source = source
        self.destination = destination
        self.finished: dict[str, Done] = {}
        self.resumed_bytes = 0
        self.verified = 0
        self._journal = journal
        self._session = session
        self._clones = clones
        self._texts = texts
        self._metadata = Metadata(source, session)
        self._from_memory = 0
        self._kept: list[str] = []
        self._placed: set[str] = set()
        self.listing: Listing

    @property
    def target(self) -> Path:
        """The tree that is written."""
        return self.destination.path

    def begin(self, listing: Listing) -> None:
        """Copy all of ``listing`` that is not in the target. Raises what stops it; the next run goes on."""
        self.listing = listing
        self._make_way()
        self.finished = known_finished(listing, self.target, self._journal.done)
        self.resumed_bytes += sum(
            entry.size for entry in listing.of_kind(Kind.FILE) if entry.path in self.finished
        )
        self.verified = sum(1 for line in self.finished.values() if line.blake3)
        alike = look_alike(listing, self.target, self.finished)
        if not self._clones:
            equal = compare_content(self.source, self.target, alike, self._session)
            self._take_over(equal)
        self._bring()

    def settle(self) -> None:
        """Links, what is too much, modes and times; then everything is on the disk."""
        self.destination.check()
        try:
            make_links(self.listing, self.target, self._texts, self._metadata)
            placed = {*self._placed, *self._journal.done, *self.finished}
            self._kept += remove_surplus(self.listing, self.target, placed)
            self._placed.update(self.listing.entries)
            settle_directories(self.listing, self.target, self._metadata)
            self.destination.sync()
        except OSError as error:
            raise from_os_error(error, f"writing to {self.target}") from error
        if self._kept:
            self._session.warn(
                "leftovers",
                f"{len(self._kept)} names in {self.target} were not in the cache; they were moved to "
                f"{self.target / LEFTOVERS_NAME}.",
                f"Look at them, then remove them: rm -r {self.target / LEFTOVERS_NAME}",
            )
            self._kept = []
        if self._from_memory:
            self._session.warn(
                "read-back-from-memory",
                f"The disk of {self.target} keeps {self._from_memory} files in memory: reading them "
                "back does not prove that they are on it.",
            )
            self._from_memory = 0

    def catch_up(self) -> None:
        """Bring over what has changed meanwhile. Raises ``Locked`` when it does not come to rest."""
        for left in reversed(range(ROUNDS + 1)):
            after = list_everything(self.source)
            found = differences(self.listing, after)
            unread = self._pending(after)
            if not found and not unread:
                self.listing = after  # the times of directories may be newer
                return
            if not left:
                raise Locked(
                    f"The cache {self.source} keeps changing: {found.sample() or unread[0].path}. "
                    "Nothing was switched.",
                    hint="Stop what writes there, then run the same command: it goes on.",
                )
            self.listing = after
            self._bring()
            self.settle()

    def bring(self, root: Path, entries: Sequence[Entry]) -> None:
        """Copy these files of ``root``, which stands in for the source. Raises what stops it."""
        waiting = list(entries)
        if self._clones:
            waiting = self._clone(root, waiting)
        metadata = Metadata(root, self._session)
        for _ in range(2):
            if not waiting:
                return
            copied = Copier(root, self.destination, self._journal, metadata, self._session).run(waiting)
            self.finished.update(copied.finished)
            self.verified += len(copied.finished)
            self.resumed_bytes += copied.resumed_bytes
            self._from_memory += copied.from_memory
            waiting = copied.differing
            for entry in waiting:
                self._session.warn(
                    "read-back-differs",
                    f"{self.target / entry.path} was read back otherwise than it was written; "
                    "it is copied once more.",
                )
        if waiting:
            raise ReadBackDiffers(
                f"{self.target / waiting[0].path} was read back otherwise than it was written, twice. "
                f"The cache at {root} is untouched."
            )

    # -- within ---------------------------------------------------------------------------------------

    def _bring(self) -> None:
        self._make_way()
        pending = self._pending(self.listing)
        self._session.progress.stage(
            "Cloning" if self._clones else "Copying", sum(entry.size for entry in pending)
        )
        self.bring(self.source, pending)

    def _make_way(self) -> None:
        """Every directory, and nothing else in the place of a file."""
        self.destination.check()
        make_directories(self.listing, self.target, self.source)
        clear_the_way(self.listing, self.target)

    def _pending(self, listing: Listing) -> list[Entry]:
        """Files that the target does not have as they are now."""
        return [
            entry
            for entry in listing.of_kind(Kind.FILE)
            if entry.path not in self.finished or self.finished[entry.path].identity != entry.identity
        ]

    def _take_over(self, equal: Mapping[str, Done]) -> None:
        """Files that lay in the target already get owner, mode and time, and count as done."""
        updated: dict[str, Done] = {}
        for path, line in equal.items():
            entry = self.listing.entries[path]
            place = os.fspath(self.target / path)
            try:
                self._metadata.copy(entry, place)
                updated[path] = done(entry, line.blake3, os.lstat(place))
            except OSError as error:
                raise from_os_error(error, f"setting mode and time of {place}") from error
        self._journal.record(updated.values())
        self.finished.update(updated)
        self.verified += len(updated)
        self.resumed_bytes += sum(line.size for line in updated.values())

    def _clone(self, root: Path, entries: Sequence[Entry]) -> list[Entry]:
        """Share the blocks of ``entries`` with the target; returns those for which that is not possible."""
        refused: list[Entry] = []
        lines: dict[str, Done] = {}
        metadata = Metadata(root, self._session)
        for entry in entries:
            self._session.cancel.check()
            self._session.progress.file(entry.path)
            final = self.target / entry.path
            part = final.with_name(part_name(entry.path))
            try:
                is_cloned = self._clone_one(root / entry.path, part, entry, metadata)
                if is_cloned is None:
                    continue  # it changed: the next round
                if is_cloned:
                    part.replace(final)
                    lines[entry.path] = done(entry, "", os.lstat(final))
                else:
                    part.unlink()
                    refused.append(entry)
            except OSError as error:
                self.destination.check()
                raise from_os_error(error, f"cloning to {final}") from error
            self._session.progress.advance(entry.size)
        self._journal.record(lines.values())
        self.finished.update(lines)
        return refused

    def _clone_one(self, original: Path, part: Path, entry: Entry, metadata: Metadata) -> bool | None:
        try:
            source = os.open(original, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            if Identity.of(os.fstat(source)) != entry.identity:
                return None
            part.unlink(missing_ok=True)
            target = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                if not clone_file(source, target):
                    return False
                metadata.copy(entry, target)
            finally:
                os.close(target)
            return True if Identity.of(os.fstat(source)) == entry.identity else None
        finally:
            os.close(source)
