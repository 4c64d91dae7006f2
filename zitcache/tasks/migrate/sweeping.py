"""Temporary names that killed runs left: trials of what a disk can do, notes half written."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from zitcache.machine.files import remove_tree
from zitcache.machine.mounts import mount_of
from zitcache.tasks.migrate.names import maker_of_temporary
from zitcache.tasks.migrate.places import Ends

_PARENTS = 4


def sweep(ends: Ends) -> None:
    """Remove what dead processes of this machine left where a migration tries and writes things.

    Never raises. On network disks the process may be one of another machine: nothing is removed there.
    """
    parents = [*ends.target.parents[:_PARENTS], ends.source.parent]
    for folder in (ends.target, ends.old, *parents):
        with contextlib.suppress(OSError):
            if os.path.islink(folder) or mount_of(folder).is_network:
                continue
            for name in os.listdir(folder):
                maker = maker_of_temporary(name)
                if maker is not None and not Path(f"/proc/{maker}").exists():
                    remove_tree(folder / name)
