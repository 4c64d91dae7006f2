"""``--undo``: the migrated cache goes back to its old place, and the link makes way for it.

The tree is built beside the link, in what is left of the old copy if there is one: files there that are equal
to the migrated ones stay. Its journal lies in that tree, so that it travels with it through the swap.
"""

from __future__ import annotations

import contextlib
import os
import time

from zitcache.cache.marker import MARKER_NAME, marker_paths
from zitcache.errors import Interrupted, Unreachable, UsageError, from_os_error
from zitcache.events import Outcome, Session
from zitcache.machine.files import remove_tree, sync_directory
from zitcache.tasks.migrate import others, preflight, switch
from zitcache.tasks.migrate.choosing import choose_method
from zitcache.tasks.migrate.destination import Destination
from zitcache.tasks.migrate.journal import Journal, Plan, take_lock
from zitcache.tasks.migrate.listing import Kind, Listing, list_everything, require_readable
from zitcache.tasks.migrate.names import LOST_AND_FOUND
from zitcache.tasks.migrate.places import Ends, State, is_empty, kind_at
from zitcache.tasks.migrate.planning import planned_report
from zitcache.tasks.migrate.report import Confirm, MigratePlan, MigrateReport, MigrateRequest
from zitcache.tasks.migrate.steps import enter, make_steps
from zitcache.tasks.migrate.survey import known_finished, look_alike
from zitcache.tasks.migrate.sweeping import sweep
from zitcache.tasks.migrate.transfer import Transfer


class Undo:
    """One undo: what it knows. ``tree``: the directory that becomes the old place again."""

    def __init__(self, ends: Ends, request: MigrateRequest, session: Session) -> None:
        self.ends = ends
        self.request = request
        self.session = session
        self.started = time.monotonic()
        self.is_back = ends.state is State.UNFINISHED and kind_at(ends.source) == "directory"
        self.is_in_place = kind_at(ends.source) == "directory" and not self.is_back
        self.tree = ends.source if self.is_back or self.is_in_place else ends.old
        self.method = ends.plan.method if ends.plan else "copy"
        self.listing: Listing | None = None
        self.transfer: Transfer | None = None
        self.files = ends.marker.files if ends.marker else 0
        self.bytes = ends.marker.bytes if ends.marker else 0

    def plan(self) -> MigratePlan:
        """Look at everything, change nothing. Raises every reason not to begin."""
        ends, session = self.ends, self.session
        left = 0
        if not self.is_back or self._is_unfinished_in_place():
            self._require_place()
            preflight.require_quiet(ends.target, session)
            listing = list_everything(ends.target)
            require_readable(ends.target, listing)
            self.listing = listing
            self.files, self.bytes = listing.file_count, listing.size_bytes
            preflight.require_capabilities(ends.target, self.tree, listing)
            if ends.plan is None:
                self.method = choose_method(ends.target, self.tree, listing, delete_source=False)
            if self.method == "copy":
                left = self._require_space(listing)
        return MigratePlan(
            action="undone",
            source=str(ends.source),
            target=str(ends.target),
            method=self.method,
            files=self.files,
            bytes=self.bytes,
            bytes_left=left,
            steps=make_steps(self._step_names(), str(ends.source), str(ends.target), left),
        )

    def execute(self, plan: MigratePlan) -> Outcome[MigrateReport]:
        """Do it. Raises ``NoSpace``, ``Locked``, …: the migrated cache is then as it was, and works."""
        ends, session = self.ends, self.session
        with contextlib.ExitStack() as stack:
            journal = self._open(stack)
            if self.listing is not None:
                destination = Destination(self.tree)
                stack.callback(destination.close)
                self._bring_back(destination, journal)
            if not (self.is_back or self.is_in_place):
                enter("swap-back", session)
                switch.swap_back(ends.source, self.tree)
                journal.move(ends.source)
            switch.forget_link_beside(ends.source)
            files: list[str] = []
            if self.request.environment:
                enter("unset-environment", session)
                files = others.unset_environment(session)
            enter("unmark", session)
            self._unmark()
            deleted = False
            if self.request.delete_source:
                enter("delete-target", session)
                deleted = self._delete_target()
            enter("finish", session)
            self._finish(journal)
            enter("end", session)
        report = MigrateReport(
            action="undone",
            source=str(ends.source),
            target=str(ends.target),
            method=self.method,
            files=self.files,
            bytes=self.bytes,
            seconds=time.monotonic() - self.started,
            linked=False,
            source_deleted=deleted,
            old_copy=None if deleted else str(ends.target),
            bytes_resumed=self.transfer.resumed_bytes if self.transfer else 0,
            files_verified=self.transfer.verified if self.transfer else 0,
            environment_files=files,
            steps=plan.steps,
        )
        return Outcome(data=report, warnings=session.warnings)

    # -- plan -----------------------------------------------------------------------------------------

    def _step_names(self) -> list[str]:
        names = []
        if self.listing is not None:
            names = ["prepare", "reflink" if self.method == "reflink" else "copy", "settle", "compare"]
        if not (self.is_back or self.is_in_place):
            names.append("swap-back")
        names += ["unset-environment"] * self.request.environment + ["unmark"]
        return [*names, *["delete-target"] * self.request.delete_source, "finish"]

    def _is_unfinished_in_place(self) -> bool:
        """Whether the tree was never a link, so that its being a directory does not say it is complete."""
        marker = self.ends.marker
        return self.is_back and marker is not None and not marker.linked

    def _require_place(self) -> None:
        """Refuse to put the cache where something else is."""
        ends, marker = self.ends, self.ends.marker
        kind = kind_at(ends.source)
        if ends.is_linked or kind is None or (kind == "symlink" and not os.path.exists(ends.source)):
            return
        if self.is_back:
            return
        if kind == "directory":
            if marker is not None and not marker.linked:
                return
            try:
                if is_empty(ends.source):
                    return
            except OSError as error:
                raise from_os_error(error, f"looking into {ends.source}") from error
        raise UsageError(
            f"Something else is at {ends.source} now: the cache cannot go back there. Nothing was changed.",
            hint=f"Look at it and move it away: ls -ld {ends.source}",
        )

    def _require_space(self, listing: Listing) -> int:
        journal = Journal(self.tree)
        journal.load()
        known = known_finished(listing, self.tree, journal.done)
        alike = {entry.path for entry in look_alike(listing, self.tree, known)}
        entries = [
            entry
            for entry in listing.of_kind(Kind.FILE)
            if entry.path not in known and entry.path not in alike
        ]
        preflight.require_space(self.tree, listing, entries)
        return sum(entry.size for entry in entries)

    # -- execute --------------------------------------------------------------------------------------

    def _open(self, stack: contextlib.ExitStack) -> Journal:
        ends = self.ends
        enter("prepare", self.session)
        try:
            if os.path.isdir(ends.target):
                target = os.open(ends.target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(os.close, target)
                take_lock(target, ends.target)
            switch.forget_link_beside(ends.source)
            self.tree.mkdir(parents=True, exist_ok=True)
            journal = Journal(self.tree)
            stack.callback(journal.close)
            found = journal.open(self._new_plan())
        except OSError as error:
            raise from_os_error(error, f"preparing {self.tree}") from error
        if found.direction != "back":
            raise UsageError(
                f"An unfinished migration to {self.tree} is in the way.",
                hint=f"Finish it first: zitcache migrate {self.tree}",
            )
        return journal

    def _new_plan(self) -> Plan:
        if self.ends.plan is not None and self.ends.plan.direction == "back":
            return self.ends.plan
        return Plan(
            id=os.urandom(16).hex(),
            direction="back",
            method=self.method,
            **marker_paths(str(self.ends.target), str(self.ends.source)),  # type: ignore[arg-type]
        )

    def _bring_back(self, destination: Destination, journal: Journal) -> None:
        session = self.session
        assert self.listing is not None
        transfer = Transfer(
            self.ends.target, destination, journal, session, clones=self.method == "reflink", texts={}
        )
        self.transfer = transfer
        enter("reflink" if self.method == "reflink" else "copy", session)
        transfer.begin(self.listing)
        enter("settle", session)
        session.progress.stage("Writing to the disk")
        transfer.settle()
        enter("compare", session)
        transfer.catch_up()
        destination.check()
        if kind_at(self.ends.target) != "directory":
            raise Unreachable(f"{self.ends.target} went away while it was read. Nothing was switched.")
        self.files, self.bytes = transfer.listing.file_count, transfer.listing.size_bytes

    def _unmark(self) -> None:
        """The destination is an ordinary directory again, from which a new migration can take what it has."""
        target = self.ends.target
        marker = target / MARKER_NAME
        if not os.path.lexists(marker):
            return
        try:
            if not self.request.delete_source:
                again = Journal(target)
                with contextlib.closing(again):
                    again.open(self._plan_to_go_again())
            marker.unlink()
            sync_directory(target)
        except OSError as error:
            raise from_os_error(error, f"removing {marker}") from error

    def _plan_to_go_again(self) -> Plan:
        ends = self.ends
        return Plan(
            id=os.urandom(16).hex(),
            method="copy",
            **marker_paths(str(ends.source), str(ends.target)),  # type: ignore[arg-type]
        )

    def _delete_target(self) -> bool:
        """Delete what was migrated; a mount point itself stays. True if nothing of it is left."""
        target = self.ends.target
        self.session.progress.stage("Deleting the copy")
        try:
            if not os.path.lexists(target):
                return True
            if os.path.ismount(target):
                for name in os.listdir(target):
                    if name != LOST_AND_FOUND:
                        remove_tree(target / name)
            else:
                remove_tree(target)
                sync_directory(target.parent)
        except OSError as error:
            raise from_os_error(error, f"deleting {target}") from error
        return True

    def _finish(self, journal: Journal) -> None:
        place = self.ends.source
        try:
            sweep(self.ends)
            journal.remove()
            if self.transfer is not None:
                root = self.transfer.listing.root
                os.utime(place, ns=(root.identity.mtime_ns, root.identity.mtime_ns))
        except OSError as error:
            raise from_os_error(error, f"writing in {place}") from error


def run_undo(
    ends: Ends, request: MigrateRequest, session: Session, confirm: Confirm | None
) -> Outcome[MigrateReport]:
    """Plan, ask, do. See :func:`zitcache.tasks.migrate.migrate`."""
    undo = Undo(ends, request, session)
    plan = undo.plan()
    if request.dry_run:
        return Outcome(data=planned_report(plan, ends, undo.started), warnings=session.warnings)
    if confirm is not None and not confirm(plan):
        raise Interrupted("Nothing was changed.")
    return undo.execute(plan)
