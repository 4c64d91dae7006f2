"""Whether what one machine wrote may be missing for a while from what another one lists.

Object stores show new objects at once today, and ``init`` tries it; a few do not. Network file systems let
each client keep a listing for up to a minute. The order of notes that makes deleting safe needs listings that
show what was written, so both sides wait out the lag where there may be one.
"""

from __future__ import annotations

from zitcache.errors import ZitcacheError
from zitcache.machine.mounts import mount_of
from zitcache.repository.repository import Repository
from zitcache.storage.traits import StorageTraits

LAG_SECONDS = 60.0
"""The longest that a listing may lag behind: the default of NFS clients for directories."""


def may_lag(repository: Repository) -> bool:
    """Whether listings of this repository may be old by up to :data:`LAG_SECONDS`."""
    traits = repository.config.storage
    if isinstance(traits, StorageTraits) and traits.listing != "immediate":
        return True
    place = repository.storage.location
    if "://" in place:
        return False
    try:
        return mount_of(place).is_network
    except (OSError, ZitcacheError):
        return True
