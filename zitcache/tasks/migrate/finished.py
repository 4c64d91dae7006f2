"""A destination whose migration is finished: nothing to do, or link again, or delete the old copy."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from pathlib import Path

import msgspec

from zitcache.cache.marker import MigrationMarker, marker_paths
from zitcache.errors import Exit, UsageError, from_os_error
from zitcache.events import Outcome, Session
from zitcache.machine.files import remove_tree
from zitcache.tasks.migrate import others, switch
from zitcache.tasks.migrate.after import delete_old_copy, put_marker
from zitcache.tasks.migrate.destination import Destination
from zitcache.tasks.migrate.journal import take_lock
from zitcache.tasks.migrate.listing import list_everything
from zitcache.tasks.migrate.names import JOURNAL_NAME
from zitcache.tasks.migrate.places import Ends, is_empty, kind_at
from zitcache.tasks.migrate.removal import differing
from zitcache.tasks.migrate.report import MigrateReport, MigrateRequest
from zitcache.tasks.migrate.steps import enter, make_steps
from zitcache.tasks.migrate.sweeping import sweep


def attend(ends: Ends, request: MigrateRequest, session: Session) -> Outcome[MigrateReport]:
    """Make link, environment and kit what they should be, and delete the old copy if asked.

    Raises ``UsageError`` when something that the migrated cache does not have is at the old path.
    """
    started = time.monotonic()
    marker = ends.marker
    assert marker is not None
    needs_link = _needs_link(ends, marker, request, session)
    old = _old_copy(ends, marker)
    deletes = request.delete_source and (old is not None or needs_link)
    names = ["link"] * needs_link + ["environment"] * request.environment + ["kit"] * request.kit
    names += ["record"] + ["delete-source"] * deletes
    steps = make_steps(names, str(ends.source), str(ends.target), 0)
    report = MigrateReport(
        action="relinked" if needs_link else "source deleted" if deletes else "nothing to do",
        source=str(ends.source),
        target=str(ends.target),
        method=marker.method,
        files=marker.files,
        bytes=marker.bytes,
        seconds=0.0,
        linked=ends.is_linked,
        source_deleted=old is None and not needs_link,
        old_copy=str(old) if old else None,
        dry_run=request.dry_run,
        steps=steps,
    )
    code = Exit.OK
    if not request.dry_run:
        with contextlib.ExitStack() as stack:
            try:
                destination = Destination(ends.target)
                stack.callback(destination.close)
                take_lock(destination.fd, ends.target)
            except OSError as error:
                raise from_os_error(error, f"opening {ends.target}") from error
            code = _do(ends, marker, request, session, report, needs_link=needs_link)
    report.seconds = time.monotonic() - started
    return Outcome(data=report, warnings=session.warnings, exit_code=code)


def _do(
    ends: Ends,
    marker: MigrationMarker,
    request: MigrateRequest,
    session: Session,
    report: MigrateReport,
    *,
    needs_link: bool,
) -> Exit:
    if needs_link:
        enter("link", session)
        switched = switch.link(ends)
        report.linked = switched.linked
        report.old_copy = str(switched.old) if switched.old else None
        if not switched.linked:
            session.warn("not-linked", f"{ends.source} could not become a link: {switched.reason}.")
    if request.environment:
        enter("environment", session)
        report.variables, report.environment_files = others.set_environment(ends.target, session)
    if request.kit:
        enter("kit", session)
        kit = others.keep_kit(ends.target, report.variables or marker.variables, session)
        report.kit = str(kit) if kit else None
    enter("record", session)
    _update(ends, marker, report, request)
    code = Exit.OK
    if request.delete_source and report.old_copy is not None:
        enter("delete-source", session)
        if not delete_old_copy(Path(report.old_copy), ends, marker.time, session):
            code = Exit.PARTIAL
        else:
            report.old_copy = None
            report.linked = ends.is_linked
            _update(ends, marker, report, request)
    report.source_deleted = report.old_copy is None
    sweep(ends)
    with contextlib.suppress(OSError):
        remove_tree(ends.target / JOURNAL_NAME)  # killed while removing it: there is no plan in it any more
    return code


def _needs_link(ends: Ends, marker: MigrationMarker, request: MigrateRequest, session: Session) -> bool:
    """Whether the old path is to become a link (again). Raises ``UsageError`` if something real is there."""
    kind = kind_at(ends.source)
    if ends.is_linked:
        return False
    if kind != "directory":
        return True  # nothing, or a link: which ones may be replaced, the switch knows
    try:
        if is_empty(ends.source):
            return not os.path.ismount(ends.source)
    except OSError as error:
        raise from_os_error(error, f"looking into {ends.source}") from error
    if not marker.linked:
        return False  # it could not become one then
    # The landlord has put the model on the new system disk again, perhaps.
    listing = list_everything(ends.source)
    missing = differing(ends.source, ends.target, listing, list(listing.entries.values()), session)
    if missing:
        raise UsageError(
            f"{ends.source} is a directory again, and {len(missing)} files in it are not in {ends.target} "
            f"like that: {', '.join(missing[:3])}. Nothing was changed.",
            hint=f"Keep it under another name, then link again: mv {shlex.quote(str(ends.source))} "
            f"{shlex.quote(str(ends.source) + '.new')}",
        )
    return True


def _old_copy(ends: Ends, marker: MigrationMarker) -> Path | None:
    if kind_at(ends.old) == "directory":
        return ends.old
    if not marker.linked and kind_at(ends.source) == "directory" and not _is_links_only(ends.source):
        return ends.source
    return None


def _is_links_only(directory: Path) -> bool:
    """Whether what was there has been replaced by links already (a mount point cannot be one itself)."""
    try:
        return not any(entry.is_file(follow_symlinks=False) for entry in _walk(directory))
    except OSError:
        return False


def _walk(directory: Path) -> list[os.DirEntry[str]]:
    found: list[os.DirEntry[str]] = []
    pending = [os.fspath(directory)]
    while pending:
        with os.scandir(pending.pop()) as listed:
            for entry in listed:
                found.append(entry)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
    return found


def _update(ends: Ends, marker: MigrationMarker, report: MigrateReport, request: MigrateRequest) -> None:
    """Write the marker again where it no longer says what is."""
    variables = report.variables if request.environment else marker.variables
    updated = msgspec.structs.replace(
        marker,
        linked=report.linked,
        variables=variables,
        **marker_paths(marker.real_source, str(ends.target)),
    )
    if updated != marker:
        put_marker(ends.target, updated)
