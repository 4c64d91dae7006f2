"""The plan of a migration: everything looked at, every reason not to begin found, nothing changed."""

from __future__ import annotations

import os
import time
from pathlib import Path

from zitcache.cache.marker import MigrationMarker, read_marker
from zitcache.errors import ZitcacheError
from zitcache.events import Session
from zitcache.tasks.migrate import preflight
from zitcache.tasks.migrate.choosing import choose_method
from zitcache.tasks.migrate.journal import Journal, Method, Plan
from zitcache.tasks.migrate.listing import (
    Kind,
    Listing,
    escaping_links,
    list_everything,
    require_readable,
)
from zitcache.tasks.migrate.places import Ends, State, kind_at
from zitcache.tasks.migrate.report import MigratePlan, MigrateReport, MigrateRequest
from zitcache.tasks.migrate.steps import make_steps
from zitcache.tasks.migrate.survey import known_finished
from zitcache.tasks.migrate.transfer import Transfer

_BEFORE = {
    "copy": ["prepare", "copy", "settle", "compare", "mark", "link", "latecomers"],
    "reflink": ["prepare", "reflink", "settle", "compare", "mark", "link", "latecomers"],
    "rename": ["rename"],
}


class PlannedMigration:
    """One migration: what it knows, and what it has found out so far."""

    def __init__(self, ends: Ends, request: MigrateRequest, session: Session) -> None:
        self.ends = ends
        self.request = request
        self.session = session
        self.started = time.monotonic()
        self.listing: Listing | None = None
        self.method: Method = ends.plan.method if ends.plan else "copy"
        self.texts: dict[str, str] = {}
        self.is_partial = False
        self.transfer: Transfer | None = None
        self.original = ends.source
        self.files = self.bytes = 0
        self.record: Plan | None = ends.plan

    # -- plan -----------------------------------------------------------------------------------------

    @property
    def is_switched(self) -> bool:
        """Whether the old path is no longer the directory: an earlier run came that far."""
        if self.ends.state is not State.UNFINISHED:
            return False
        kind = kind_at(self.ends.source)
        return self.ends.is_linked or (kind is None and kind_at(self.ends.old) == "directory")

    def plan(self) -> MigratePlan:
        """Look at everything, change nothing. Raises every reason not to begin."""
        ends, request, session = self.ends, self.request, self.session
        left = 0
        if self.is_switched or (self.method == "rename" and ends.plan is not None):
            self._take_numbers(read_marker(ends.target))
        else:
            if ends.state is State.NEW:
                preflight.require_survival(ends.target, force=request.force, session=session)
            listing = list_everything(ends.source)
            require_readable(ends.source, listing)
            self._look_at_links(listing)
            self._take_previous_marker()
            preflight.warn_of_repository(ends.source, session)
            self.listing = listing
            self.files, self.bytes = listing.file_count, listing.size_bytes
            preflight.require_capabilities(ends.source, ends.target, listing)
            if ends.plan is None:
                self.method = choose_method(
                    ends.source, ends.target, listing, delete_source=request.delete_source
                )
            left = self.require_space(listing) if self.method == "copy" else 0
            preflight.require_quiet(ends.source, session)
        return MigratePlan(
            action="migrated",
            source=str(ends.source),
            target=str(ends.target),
            method=self.method,
            files=self.files,
            bytes=self.bytes,
            bytes_left=left,
            steps=make_steps(self.step_names(), str(ends.source), str(ends.target), left),
        )

    def step_names(self) -> list[str]:
        """The names of the steps, in order."""
        names = ["latecomers"] if self.is_switched and self.method != "rename" else list(_BEFORE[self.method])
        names += ["environment"] * self.request.environment + ["kit"] * self.request.kit + ["record"]
        if self.request.delete_source and self.method != "rename":
            names.append("delete-source")
        return [*names, "finish"]

    def plan_again(self, plan: MigratePlan) -> MigratePlan:
        """The plan with another method."""
        steps = make_steps(self.step_names(), plan.source, plan.target, self.bytes)
        return MigratePlan(
            action=plan.action,
            source=plan.source,
            target=plan.target,
            method=self.method,
            files=plan.files,
            bytes=plan.bytes,
            bytes_left=self.bytes,
            steps=steps,
        )

    def require_space(self, listing: Listing) -> int:
        """How many bytes are left to copy. Raises ``NoSpace`` if they do not fit."""
        target = self.ends.target
        known = {}
        if self.ends.plan is not None:
            journal = Journal(target)
            journal.load()
            known = known_finished(listing, target, journal.done)
        entries = [entry for entry in listing.of_kind(Kind.FILE) if entry.path not in known]
        preflight.require_space(target, listing, entries)
        return sum(entry.size for entry in entries)

    def _look_at_links(self, listing: Listing) -> None:
        self.texts = escaping_links(self.ends.source, listing)
        for path, text in self.texts.items():
            self.is_partial = True
            before = listing.entries[path].target
            changed = "" if before == text else f" It gets the absolute path {text}, to lead there still."
            self.session.warn(
                "escaping-symlink",
                f"{path} points out of the cache, to {before!r}: that stays where it is.{changed}",
                f"If it belongs to the cache, copy it in: cp {text} {self.ends.source / path}",
            )
        for path, what in listing.special.items():
            self.is_partial = True
            self.session.warn("special-file", f"{path} is {what}: it cannot be moved.")

    def _take_previous_marker(self) -> None:
        """A cache that is moved a second time still belongs to the path where it was first."""
        try:
            previous = read_marker(self.ends.source)
        except ZitcacheError:
            return
        if previous is not None:
            first = Path(previous.real_source)
            if os.path.islink(first) and os.path.realpath(first) == os.fspath(self.ends.source):
                self.original = first

    def _take_numbers(self, marker: MigrationMarker | None) -> None:
        if marker is not None:
            self.files, self.bytes = marker.files, marker.bytes
            self.original = Path(marker.real_source)


def planned_report(plan: MigratePlan, ends: Ends, started: float) -> MigrateReport:
    """What a dry run reports."""
    return MigrateReport(
        action=plan.action,
        source=plan.source,
        target=plan.target,
        method=plan.method,
        files=plan.files,
        bytes=plan.bytes,
        seconds=time.monotonic() - started,
        linked=ends.is_linked,
        source_deleted=False,
        dry_run=True,
        steps=plan.steps,
    )
