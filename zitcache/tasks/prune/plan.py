"""What to do with each pack: keep, mark, repack, sweep. Decided from one reading; nothing is changed here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from zitcache.repository.index import Location
from zitcache.repository.needs import BlobKey
from zitcache.tasks.prune.knowledge import Knowledge

MAX_SMALL_PACKS = 8
"""More packs than this that are small, and they are put together."""
_SMALL_SHARE = 4
_YOUNG_SECONDS = 86400


@dataclass(slots=True)
class Plan:
    """Sets of pack ids, and bytes.

    ``unused``: no listed snapshot needs anything of it; of these ``to_mark`` have no mark yet and
    ``to_sweep`` one that is old enough. ``revived``: marked once, and needed again. ``repack``: what of each
    pack to copy before the pack is marked. ``forced``: packs to be repacked whatever the limits, because an
    unfinished sweep has begun to delete them. ``young``: of backups that may not be finished.
    ``broken``: packs that cannot be read, so that nobody knows what is in them.
    """

    used_bytes: int = 0
    unused_bytes: int = 0
    unused: set[str] = field(default_factory=set)
    to_mark: set[str] = field(default_factory=set)
    to_sweep: set[str] = field(default_factory=set)
    revived: set[str] = field(default_factory=set)
    repack: dict[str, list[tuple[BlobKey, Location]]] = field(default_factory=dict)
    forced: set[str] = field(default_factory=set)
    young: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)

    def bytes_to_copy(self) -> int:
        """Bytes that repacking writes."""
        return sum(at.length for blobs in self.repack.values() for _, at in blobs)


def make_plan(
    knowledge: Knowledge, grace_seconds: float, max_unused: float, max_repack_bytes: int | None
) -> Plan:
    """Decide. ``max_unused``: share of the used bytes that may lie unused in packs that are kept."""
    plan = Plan()
    kept = _kept_copies(knowledge)
    in_pack: dict[str, list[tuple[BlobKey, Location]]] = {}
    for key, location in kept.items():
        in_pack.setdefault(location.pack, []).append((key, location))
    live_packs = {location.pack for key, location in kept.items() if key in knowledge.live}
    index = knowledge.repository.index
    known = set(index.packs)
    plan.broken = set(knowledge.sizes) - known
    plan.young = _young(knowledge, grace_seconds) - live_packs
    plan.unused = (known | _worthless(knowledge, plan.broken)) - live_packs - plan.young
    plan.broken -= plan.unused
    marked = {pack for note in knowledge.marks for pack in note.record.packs} & set(knowledge.sizes)
    plan.revived = marked & live_packs
    plan.to_mark = plan.unused - marked
    condemned = {pack for note in knowledge.sweeps for pack in note.record.packs} & set(knowledge.sizes)
    needed = set(in_pack)
    plan.to_sweep = ((plan.unused - needed) & _of_age(knowledge, grace_seconds)) | condemned
    plan.forced = condemned & needed
    _choose_repacks(plan, knowledge, in_pack, live_packs, max_unused, max_repack_bytes)
    return plan


def _kept_copies(knowledge: Knowledge) -> dict[BlobKey, Location]:
    """For each needed blob the copy to rely on; what listed snapshots need decides first."""
    index = knowledge.repository.index
    condemned = {pack for note in knowledge.sweeps for pack in note.record.packs}
    marked = {pack for note in knowledge.marks for pack in note.record.packs}
    relied_on: Counter[str] = Counter()
    kept: dict[BlobKey, Location] = {}
    choices: list[tuple[BlobKey, list[Location]]] = []
    for key in [*sorted(knowledge.live), *sorted(knowledge.needs - knowledge.live)]:
        places = [at for at in index.locations(key[0]) if at.kind == key[1]]
        if len(places) == 1:
            kept[key] = places[0]
            relied_on[places[0].pack] += 1
        elif places:
            choices.append((key, places))
    for key, places in choices:
        chosen = kept[key] = min(
            places,
            key=lambda at: (
                at.pack in condemned,
                (at.pack, key[0], key[1]) in knowledge.bad_copies,
                at.pack in marked,
                not relied_on[at.pack],
                at.pack,
            ),
        )
        relied_on[chosen.pack] += 1
    return kept


def _young(knowledge: Knowledge, grace_seconds: float) -> set[str]:
    """Packs of backups that are not finished: no index object names them, and they are not old."""
    limit = min(grace_seconds, _YOUNG_SECONDS)
    unindexed = [pack.id for pack in knowledge.repository.unindexed_packs]
    unreadable = knowledge.repository.unreadable_packs
    return {
        pack
        for pack in [*unindexed, *unreadable]
        if knowledge.clock.storage - knowledge.modified.get(pack, knowledge.clock.storage) < limit
    }


def _worthless(knowledge: Knowledge, broken: set[str]) -> set[str]:
    """Packs that cannot be read and that nobody misses: everything needed has a copy elsewhere.

    Not while anything is lost: a rescue may find something in them.
    """
    return set() if knowledge.lost & knowledge.needs else broken


def _of_age(knowledge: Knowledge, grace_seconds: float) -> set[str]:
    """Packs whose mark is older than the grace period, by both clocks."""
    return {
        pack
        for note in knowledge.marks
        if grace_seconds <= 0 or knowledge.clock.age(note.record.time, note.modified) >= grace_seconds
        for pack in note.record.packs
    }


def _choose_repacks(
    plan: Plan,
    knowledge: Knowledge,
    in_pack: dict[str, list[tuple[BlobKey, Location]]],
    live_packs: set[str],
    max_unused: float,
    max_repack_bytes: int | None,
) -> None:
    """Copy what is needed out of packs that are mostly unused, out of small ones, out of damaged ones."""
    index = knowledge.repository.index
    live_bytes = {
        pack: sum(at.length for key, at in in_pack[pack] if key in knowledge.live) for pack in live_packs
    }
    waste = {
        pack: max(0, total - live_bytes[pack])
        for pack, total in _content_bytes(knowledge, live_packs).items()
    }
    plan.used_bytes = sum(live_bytes.values())
    plan.unused_bytes = sum(waste.values())
    chosen = {pack: in_pack[pack] for pack in sorted(plan.forced)}
    room = max_repack_bytes
    left = plan.unused_bytes
    small = [
        pack
        for pack in sorted(live_packs - plan.forced)
        if index.packs[pack] < knowledge.repository.config.pack_size // _SMALL_SHARE
    ]
    small = small if len(small) > MAX_SMALL_PACKS else []
    spoilt = {pack for pack, _, _ in knowledge.bad_copies} & (live_packs - plan.forced)
    spoilt = {pack for pack in spoilt if not _relies_on_bad_copy(knowledge, pack, in_pack[pack])}
    wasteful = sorted(
        (pack for pack in waste if waste[pack] and pack not in plan.forced),
        key=lambda pack: (-waste[pack] / max(1, waste[pack] + live_bytes[pack]), pack),
    )
    for pack in dict.fromkeys([*sorted(spoilt), *wasteful, *small]):
        is_wanted = pack in spoilt or pack in small or left > max_unused * plan.used_bytes
        fits = room is None or live_bytes[pack] <= room
        if not (is_wanted and fits):
            continue
        chosen[pack] = [(key, at) for key, at in in_pack[pack] if key in knowledge.live]
        left -= waste[pack]
        room = None if room is None else room - live_bytes[pack]
    if len(chosen) == 1 and not (plan.forced or spoilt) and not waste[next(iter(chosen))]:
        chosen = {}  # one pack put together with nothing is the same pack again
    plan.repack = chosen


def _relies_on_bad_copy(knowledge: Knowledge, pack: str, blobs: list[tuple[BlobKey, Location]]) -> bool:
    """Whether a needed blob has no copy but a bad one in this pack: then there is nothing to move it to."""
    return any((pack, *key) in knowledge.bad_copies for key, _ in blobs)


def _content_bytes(knowledge: Knowledge, pack_ids: Iterable[str]) -> dict[str, int]:
    """Bytes of all frames in each pack, whether anybody needs them or not."""
    wanted = set(pack_ids)
    totals = dict.fromkeys(wanted, 0)
    index = knowledge.repository.index
    for blob in index:
        for at in index.locations(blob):
            if at.pack in wanted:
                totals[at.pack] += at.length
    return totals
