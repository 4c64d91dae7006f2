"""What follows the switch: environment, kit, marker, and the old copy; for new and finished migrations."""

from __future__ import annotations

import socket
from pathlib import Path

from zitcache import __version__
from zitcache.cache.marker import MigrationMarker, marker_paths, write_marker
from zitcache.errors import from_os_error
from zitcache.events import Session
from zitcache.tasks.migrate.journal import Method
from zitcache.tasks.migrate.places import Ends
from zitcache.tasks.migrate.removal import delete_tree, empty_in_place, only_in_old


def leave_marker(
    ends: Ends,
    marker_id: str,
    moment: str,
    *,
    original: Path,
    method: Method,
    files: int,
    size_bytes: int,
    linked: bool,
    variables: dict[str, str],
) -> None:
    """Write the marker of a migrated cache. ``original``: the old path that a reset machine must link again.

    ``moment``: what was written at the old place later is not in the target. Raises what the disk refuses.
    """
    marker = MigrationMarker(
        id=marker_id,
        host=socket.gethostname(),
        time=moment,
        program=f"zitcache {__version__}",
        method=method,
        files=files,
        bytes=size_bytes,
        linked=linked,
        variables=variables,
        **marker_paths(str(original), str(ends.target)),  # type: ignore[arg-type]
    )
    put_marker(ends.target, marker)


def put_marker(target: Path, marker: MigrationMarker) -> None:
    """Write ``marker`` into ``target``. Raises what the disk refuses."""
    try:
        write_marker(target, marker)
    except OSError as error:
        raise from_os_error(error, f"writing the marker in {target}") from error


def delete_old_copy(old: Path, ends: Ends, moment: str, session: Session) -> bool:
    """Delete the old copy at ``old``; False, and a warning, if it has what was written after ``moment``.

    Raises what the disk refuses; the next run goes on.
    """
    newer = only_in_old(old, ends.target, moment, session)
    if newer:
        session.warn(
            "old-copy-kept",
            f"The old copy {old} is kept: {len(newer)} files in it are not in {ends.target} like that: "
            f"{', '.join(newer[:3])}.",
            f"Look at them, then remove it: rm -r {old}",
        )
        return False
    if old != ends.source:
        delete_tree(old, session)
    elif not empty_in_place(old, ends.target, session):
        session.warn(
            "not-linked",
            f"{old} is a mount point and stays a directory: its entries are links to {ends.target} now, "
            "but what programs put there anew goes to the old disk.",
            "Unmount it and run the same command again to get one link.",
        )
    return True


def warn_unlinked(ends: Ends, reason: str, session: Session) -> None:
    """Say what it means that the old path is no link."""
    session.warn(
        "not-linked",
        f"{ends.source} could not become a link, because {reason}. Programs that take the cache from the "
        f"variables use {ends.target} from now on; those that name {ends.source} themselves still use the "
        "old copy there, on the old disk.",
        "Start shells and services anew (see: zitcache env). With --delete-source, the old copy is replaced "
        "by links where that is possible.",
    )
