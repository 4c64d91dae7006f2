"""When each pack was last read and found sound: what lets every check go on where the last one stopped.

Each run writes one object with everything known so far, so the newest alone would do; readers merge all of
them, because two machines may check the same repository. Losing them loses nothing but that memory.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from zitcache.repository.records import CheckRecord
from zitcache.repository.repository import Repository

FOLDER = "checks"
_CLOCK_TOLERANCE_SECONDS = 86400


def verified_packs(repository: Repository) -> dict[str, int]:
    """Pack id -> seconds since the epoch when it was last found sound, the newest of all records.

    A time that lies more than a day ahead is not believed: such a pack would never have its turn again.
    """
    latest = time.time() + _CLOCK_TOLERANCE_SECONDS
    merged: dict[str, int] = {}
    for record in repository.load_records(FOLDER, CheckRecord):
        for pack_id, moment in record.packs.items():
            if 0 < moment <= latest and moment > merged.get(pack_id, 0):
                merged[pack_id] = moment
    return merged


def record_verified(repository: Repository, pack_ids: Iterable[str], moment: int) -> None:
    """Remember that these packs were read and found sound at ``moment`` (seconds since the epoch).

    What is known of packs that still exist is carried over. Raises what the storage raises.
    """
    merged = verified_packs(repository) | dict.fromkeys(pack_ids, moment)
    packs = {pack_id: when for pack_id, when in sorted(merged.items()) if pack_id in repository.index.packs}
    if packs:
        repository.store_record(FOLDER, CheckRecord(packs=packs))
