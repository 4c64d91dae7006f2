"""Delete packs: publish which, look again at everything, and delete what still nobody needs.

The sweeper's half of docs/FORMAT.md, "Deleting". It does not rest on the lock, nor on any clock.
"""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import dataclass, field

from zitcache.errors import CredentialsError, ZitcacheError
from zitcache.events import Session
from zitcache.repository.index import Location
from zitcache.repository.lag import LAG_SECONDS, may_lag
from zitcache.repository.locks import PruneLock
from zitcache.repository.marks import SWEEP_FOLDER, SweepRecord, nonce, now
from zitcache.repository.pack import pack_name
from zitcache.repository.repository import Repository
from zitcache.tasks.check.findings import Problem
from zitcache.tasks.deleting import denied
from zitcache.tasks.prune.knowledge import Clock, Knowledge, gather
from zitcache.tasks.prune.repack import read_frame

_POLL_SECONDS = 0.2


@dataclass(slots=True)
class Swept:
    """``packs``: deleted, with their sizes. ``kept``: were to be deleted, and turned out to be needed.

    ``knowledge``: the reading that decided.
    """

    packs: dict[str, int] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    snapshots: list[str] = field(default_factory=list)
    knowledge: Knowledge | None = None


def sweep(
    repository: Repository,
    candidates: set[str],
    clock: Clock,
    grace_seconds: float,
    lock: PruneLock,
    session: Session,
) -> Swept:
    """Delete those of ``candidates`` that nothing needs, and forgotten snapshots whose time is over.

    Raises what the storage raises; what was deleted until then was rightly deleted, and the next prune goes
    on. A sweep whose last deletion may or may not have happened leaves its note behind for that.
    """
    session.progress.stage("Deleting")
    record = SweepRecord(time=now(), host=socket.gethostname(), nonce=nonce(), packs=sorted(candidates))
    own = f"{SWEEP_FOLDER}/{repository.store_record(SWEEP_FOLDER, record)}"
    swept = Swept()
    is_settled = True
    try:
        if may_lag(repository):
            _wait_for_listings(lock, session)
        knowledge = gather(repository, clock, grace_seconds, session)
        swept.knowledge = knowledge
        doomed = still_unneeded(knowledge, candidates, own)
        swept.kept = (candidates & set(knowledge.sizes)) - doomed
        _delete_forgotten(knowledge, swept, lock)
        for pack in sorted(doomed):
            session.cancel.check()
            lock.renew()
            is_settled = False
            repository.storage.delete(pack_name(pack))
            is_settled = True
            swept.packs[pack] = knowledge.sizes[pack]
    except CredentialsError as error:
        is_settled = True  # a clear no
        raise denied(repository, error) from error
    finally:
        if is_settled:
            with contextlib.suppress(ZitcacheError):
                repository.storage.delete(own)
    return swept


def _wait_for_listings(lock: PruneLock, session: Session) -> None:
    """Twice the lag: writers that could not see this sweep yet have claimed by then, and that can be seen."""
    session.progress.stage("Waiting until every machine can see what is to be deleted")
    until = time.monotonic() + 2 * LAG_SECONDS
    while time.monotonic() < until:
        session.cancel.check()
        lock.renew()
        time.sleep(_POLL_SECONDS)


def still_unneeded(knowledge: Knowledge, candidates: set[str], own: str) -> set[str]:
    """Those of ``candidates`` that may be deleted, by a reading that began after ``own`` was published.

    Not those that a claim names. And of each blob that a snapshot needs, listed or held, a sound copy stays
    in a pack that is neither among them nor in anybody else's sweep.
    """
    index = knowledge.repository.index
    doomed = (candidates & set(knowledge.sizes)) - knowledge.claimed_packs()
    foreign = {pack for note in knowledge.sweeps if note.name != own for pack in note.record.packs}
    for blob, kind in sorted(knowledge.needs):
        places = [at for at in index.locations(blob) if at.kind == kind]
        going = [at for at in places if at.pack in doomed]
        if not going:
            continue
        staying = [at for at in places if at.pack not in doomed | foreign]
        if not any(_is_sound(knowledge, blob, at) for at in staying):
            # Rather one copy too many: all that would have gone stay.
            doomed -= {at.pack for at in going}
    return doomed


def _is_sound(knowledge: Knowledge, blob: str, at: Location) -> bool:
    return not isinstance(read_frame(knowledge.repository, blob, at), Problem)


def _delete_forgotten(knowledge: Knowledge, swept: Swept, lock: PruneLock) -> None:
    """Before the packs: a forgotten snapshot that is still there is whole."""
    held = {each.note.record.snapshot for each in knowledge.forgotten if each.is_held}
    for each in knowledge.forgotten:
        if each.is_held:
            continue
        lock.renew()
        knowledge.repository.storage.delete(each.note.name)
        snapshot = each.note.record.snapshot
        if snapshot not in knowledge.snapshots and snapshot not in held:
            swept.snapshots.append(snapshot)
