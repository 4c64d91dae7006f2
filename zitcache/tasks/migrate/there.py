"""A migration from its first step to its last: each can be interrupted, and the next run goes on."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zitcache.cache.marker import marker_paths
from zitcache.errors import Exit, Interrupted, from_os_error
from zitcache.events import Outcome, Session
from zitcache.tasks.migrate import others, switch
from zitcache.tasks.migrate.after import delete_old_copy, leave_marker, warn_unlinked
from zitcache.tasks.migrate.choosing import choose_method
from zitcache.tasks.migrate.destination import Destination
from zitcache.tasks.migrate.journal import Journal, Plan, now, take_lock
from zitcache.tasks.migrate.latecomers import bring_latecomers
from zitcache.tasks.migrate.listing import list_everything
from zitcache.tasks.migrate.places import Ends, kind_at
from zitcache.tasks.migrate.planning import PlannedMigration, planned_report
from zitcache.tasks.migrate.report import Confirm, MigratePlan, MigrateReport, MigrateRequest
from zitcache.tasks.migrate.steps import enter
from zitcache.tasks.migrate.structure import replace_by_symlink
from zitcache.tasks.migrate.sweeping import sweep
from zitcache.tasks.migrate.transfer import Transfer


class Migration(PlannedMigration):
    """A migration that can be carried out."""

    # -- execute --------------------------------------------------------------------------------------

    def execute(self, plan: MigratePlan) -> Outcome[MigrateReport]:
        """Do it. Raises ``NoSpace``, ``Locked``, ``Unreachable``, …; then the old path works as before."""
        if self.method == "rename":
            if self._rename():
                return self._after_switch_of_rename(plan)
            assert self.listing is not None
            self.method = choose_method(self.ends.source, self.ends.target, self.listing, delete_source=False)
            self.require_space(self.listing)
            plan = self.plan_again(plan)
        with self._locked() as (destination, journal):
            again = self.is_switched
            switched = switch.link(self.ends) if again else self._move(destination, journal)
            moment, conflicts = self._latecomers(switched, destination, journal)
            return self._conclude(plan, journal, switched, moment, conflicts)

    def _move(self, destination: Destination, journal: Journal) -> switch.Switched:
        session, ends = self.session, self.ends
        assert self.listing is not None
        transfer = self._make_transfer(destination, journal)
        enter("reflink" if self.method == "reflink" else "copy", session)
        transfer.begin(self.listing)
        enter("settle", session)
        session.progress.stage("Writing to the disk")
        transfer.settle()
        enter("compare", session)
        transfer.catch_up()
        self.files, self.bytes = transfer.listing.file_count, transfer.listing.size_bytes
        enter("mark", session)
        destination.check()
        self._mark(now(), linked=False, variables={})
        enter("link", session)
        destination.check()
        switched = switch.link(ends)
        if not switched.linked:
            warn_unlinked(ends, switched.reason, session)
        elif self.original != ends.source and os.path.islink(self.original):
            with contextlib.suppress(OSError):
                replace_by_symlink(self.original, os.fspath(ends.target))
        return switched

    def _latecomers(
        self, switched: switch.Switched, destination: Destination, journal: Journal
    ) -> tuple[str, list[str]]:
        enter("latecomers", self.session)
        moment = now()
        if switched.old is None or kind_at(switched.old) != "directory":
            return moment, []
        transfer = self.transfer or self._make_transfer(destination, journal)
        conflicts = bring_latecomers(switched.old, transfer, self.session)
        try:
            destination.sync()
        except OSError as error:
            raise from_os_error(error, f"writing to {self.ends.target}") from error
        if conflicts:
            self.is_partial = True
            self.session.warn(
                "changed-on-both-sides",
                f"{len(conflicts)} files were written at the old place and at the new one in one moment: "
                f"{', '.join(conflicts[:3])}. Both are kept; the old ones lie in {switched.old}.",
            )
        return moment, conflicts

    def _conclude(
        self,
        plan: MigratePlan,
        journal: Journal,
        switched: switch.Switched,
        moment: str,
        conflicts: list[str],
    ) -> Outcome[MigrateReport]:
        """Environment, kit, marker, old copy: everything after the switch."""
        session, ends, request = self.session, self.ends, self.request
        linked, old = switched.linked, switched.old
        variables: dict[str, str] = {}
        files: list[str] = []
        if request.environment:
            enter("environment", session)
            variables, files = others.set_environment(ends.target, session)
        kit = None
        if request.kit:
            enter("kit", session)
            kit = others.keep_kit(ends.target, variables, session)
        enter("record", session)
        self._mark(moment, linked=linked, variables=variables)
        deleted = self.method == "rename"
        if request.delete_source and old is not None and not deleted:
            enter("delete-source", session)
            if not conflicts:
                deleted = delete_old_copy(old, ends, moment, session)
                self.is_partial |= not deleted
                if deleted and not linked:
                    linked = ends.is_linked
                    self._mark(moment, linked=linked, variables=variables)
        enter("finish", session)
        self._finish(journal)
        enter("end", session)
        report = MigrateReport(
            action="migrated",
            source=str(self.original),
            target=str(ends.target),
            method=self.method,
            files=self.files,
            bytes=self.bytes,
            seconds=time.monotonic() - self.started,
            linked=linked,
            source_deleted=deleted or old is None,
            old_copy=None if deleted or old is None else str(old),
            bytes_resumed=self.transfer.resumed_bytes if self.transfer else 0,
            files_verified=self.transfer.verified if self.transfer else 0,
            variables=variables,
            environment_files=files,
            kit=str(kit) if kit else None,
            steps=plan.steps,
        )
        code = Exit.PARTIAL if self.is_partial else Exit.OK
        return Outcome(data=report, warnings=session.warnings, exit_code=code)

    # -- within ---------------------------------------------------------------------------------------

    def _rename(self) -> bool:
        """Move by renaming; False, and nothing changed, where that does not work after all."""
        ends, session = self.ends, self.session
        enter("rename", session)
        tree = ends.source if kind_at(ends.source) == "directory" else Path(os.path.realpath(ends.target))
        journal = Journal(tree)
        try:
            lock = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise from_os_error(error, f"opening {tree}") from error
        try:
            take_lock(lock, tree)
            found = journal.open(self._new_plan())
            if (found.real_source, found.real_target) != (ends.source, ends.target):
                found = self._new_plan()  # an attempt to move it elsewhere
                journal.save(found)
            self.record = found
            sweep(ends)
            if switch.rename_whole(ends):
                return True
            journal.remove()
            return False
        except OSError as error:
            raise from_os_error(error, f"writing in {tree}") from error
        finally:
            journal.close()
            os.close(lock)

    def _after_switch_of_rename(self, plan: MigratePlan) -> Outcome[MigrateReport]:
        with self._locked() as (_, journal):
            if not self.files:
                listing = list_everything(self.ends.target)
                self.files, self.bytes = listing.file_count, listing.size_bytes
            return self._conclude(plan, journal, switch.Switched(True, None), now(), [])

    @contextmanager
    def _locked(self) -> Iterator[tuple[Destination, Journal]]:
        """The destination, made and open, and its journal; nobody else moves from here or to there."""
        ends = self.ends
        with contextlib.ExitStack() as stack:
            try:
                if self.method != "rename":
                    enter("prepare", self.session)
                    ends.target.mkdir(parents=True, exist_ok=True)
                destination = Destination(ends.target)
                stack.callback(destination.close)
                take_lock(destination.fd, ends.target)
                if kind_at(ends.source) == "directory":
                    source = os.open(ends.source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                    stack.callback(os.close, source)
                    take_lock(source, ends.source)
                journal = Journal(ends.target)
                stack.callback(journal.close)
                self.record = found = journal.open(self._new_plan())
                if found.real_source != ends.source or found.direction != "there":
                    raise Interrupted(f"Another migration to {ends.target} began in this moment.")
            except OSError as error:
                raise from_os_error(error, f"preparing {ends.target}") from error
            yield destination, journal

    def _make_transfer(self, destination: Destination, journal: Journal) -> Transfer:
        transfer = Transfer(
            self.ends.source,
            destination,
            journal,
            self.session,
            clones=self.method == "reflink",
            texts=self.texts,
        )
        transfer.finished = dict(journal.done)
        self.transfer = transfer
        return transfer

    def _new_plan(self) -> Plan:
        if self.record is not None and self.record.method == self.method:
            return self.record
        return Plan(
            id=os.urandom(16).hex(),
            method=self.method,
            **marker_paths(str(self.ends.source), str(self.ends.target)),  # type: ignore[arg-type]
        )

    def _mark(self, moment: str, *, linked: bool, variables: dict[str, str]) -> None:
        assert self.record is not None
        leave_marker(
            self.ends,
            self.record.id,
            moment,
            original=self.original,
            method=self.method,
            files=self.files,
            size_bytes=self.bytes,
            linked=linked,
            variables=variables,
        )

    def _finish(self, journal: Journal) -> None:
        target = self.ends.target
        try:
            sweep(self.ends)
            journal.remove()
            if self.transfer is not None and hasattr(self.transfer, "listing"):
                root = self.transfer.listing.root
                os.utime(target, ns=(root.identity.mtime_ns, root.identity.mtime_ns))
        except OSError as error:
            raise from_os_error(error, f"writing in {target}") from error


def run_migration(
    ends: Ends, request: MigrateRequest, session: Session, confirm: Confirm | None
) -> Outcome[MigrateReport]:
    """Plan, ask, do. See :func:`zitcache.tasks.migrate.migrate`."""
    migration = Migration(ends, request, session)
    plan = migration.plan()
    if request.dry_run:
        return Outcome(
            data=planned_report(plan, ends, migration.started),
            warnings=session.warnings,
            exit_code=Exit.PARTIAL if migration.is_partial else Exit.OK,
        )
    if confirm is not None and not confirm(plan):
        raise Interrupted("Nothing was changed.")
    return migration.execute(plan)
