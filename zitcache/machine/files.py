"""Every file operation the upper layers use, under one name: import from here.

``raw``: whole reads and writes · ``pagecache``: what is cached · ``renames``: swap, never replace ·
``trees``: directories as wholes · ``durable``: files that survive a power cut.
"""

from __future__ import annotations

from zitcache.machine.durable import PendingFile, create_durably, write_durably
from zitcache.machine.pagecache import advise_sequential, drop_cached, is_resident, start_writeback
from zitcache.machine.raw import Buffer, pread_into, preallocate, pwrite_all, sync_directory, write_all
from zitcache.machine.renames import exchange, rename_noreplace
from zitcache.machine.trees import (
    TEMPORARY_PREFIX,
    can_hard_link,
    device_of,
    nearest_existing,
    remove_tree,
    temporary_name,
)

__all__ = [
    "TEMPORARY_PREFIX",
    "Buffer",
    "PendingFile",
    "advise_sequential",
    "can_hard_link",
    "create_durably",
    "device_of",
    "drop_cached",
    "exchange",
    "is_resident",
    "nearest_existing",
    "pread_into",
    "preallocate",
    "pwrite_all",
    "remove_tree",
    "rename_noreplace",
    "start_writeback",
    "sync_directory",
    "temporary_name",
    "write_all",
    "write_durably",
]
