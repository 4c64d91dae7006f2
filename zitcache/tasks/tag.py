"""``tag``: pin snapshots, so that they are never forgotten, and put tags on them."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from zitcache.errors import UsageError
from zitcache.events import Outcome, Session
from zitcache.repository.notes import add_label, remove_labels
from zitcache.repository.selection import Snapshot, list_snapshots, resolve
from zitcache.tasks.deleting import open_for_deleting, require_deletable

MAX_TAG_LENGTH = 200


@dataclass(frozen=True, slots=True)
class TagRequest:
    """``ids``: which snapshots. ``add``/``remove``: tags. ``pin``: True pins, False unpins, None neither."""

    ids: tuple[str, ...]
    repository: str | None = None
    pin: bool | None = None
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    dry_run: bool = False


class TaggedSnapshot(msgspec.Struct, kw_only=True):
    """How a snapshot is labelled now, or would be."""

    id: str
    time: str
    tags: list[str]
    pinned: bool


class TagReport(msgspec.Struct, kw_only=True):
    """``changed``: how many labels were added or removed."""

    repository: str
    snapshots: list[TaggedSnapshot]
    changed: int
    dry_run: bool = False


def tag(request: TagRequest, session: Session) -> Outcome[TagReport]:
    """Change the labels of snapshots; saying the same twice changes nothing.

    Raises ``UsageError`` if nothing is asked for, or a tag that the backup itself wrote is to be removed;
    ``SnapshotNotFound``, ….
    """
    if not request.ids:
        raise UsageError(
            "It is not said which snapshot.", hint="Name one: zitcache tag ID --pin (see zitcache snapshots)"
        )
    if request.pin is None and not request.add and not request.remove:
        raise UsageError(
            "It is not said what to change.", hint=f"For example: zitcache tag {request.ids[0]} --pin"
        )
    for text in request.add:
        if not text.strip() or len(text) > MAX_TAG_LENGTH or "," in text:
            raise UsageError(f"{text[:50]!r} cannot be a tag: it is empty, too long, or holds a comma.")
    repository, _ = open_for_deleting(request.repository, session)
    found, _ = list_snapshots(repository)
    chosen = {each.id: each for each in (resolve(found, i, repository.storage.location) for i in request.ids)}
    for snapshot in chosen.values():
        fixed = sorted(set(request.remove) & set(snapshot.record.tags))
        if fixed:
            raise UsageError(
                f"The tag {fixed[0]!r} of snapshot {snapshot.short_id} was given by the backup that made it; "
                "it is a part of the snapshot and stays."
            )
    if not request.dry_run and (request.remove or request.pin is False):
        require_deletable(repository)
    changed = 0
    for snapshot in chosen.values():
        new_tags = sorted(set(request.add) - set(snapshot.tags))
        old_tags = sorted(set(request.remove) & snapshot.added_tags)
        pins = request.pin is True and not snapshot.pinned
        unpins = request.pin is False and snapshot.pinned
        changed += len(new_tags) + len(old_tags) + pins + unpins
        if request.dry_run:
            continue
        # What protects comes first.
        if pins:
            add_label(repository, snapshot.id, pin=True)
        for text in new_tags:
            add_label(repository, snapshot.id, tag=text)
        for text in old_tags:
            remove_labels(repository, snapshot.id, tag=text)
        if unpins:
            remove_labels(repository, snapshot.id, pin=True)
    report = TagReport(
        repository=repository.storage.location,
        snapshots=[_labelled(snapshot, request) for snapshot in chosen.values()],
        changed=changed,
        dry_run=request.dry_run,
    )
    return Outcome(data=report, warnings=session.warnings)


def _labelled(snapshot: Snapshot, request: TagRequest) -> TaggedSnapshot:
    return TaggedSnapshot(
        id=snapshot.id,
        time=snapshot.record.time,
        tags=sorted((set(snapshot.tags) | set(request.add)) - (set(request.remove) & snapshot.added_tags)),
        pinned=snapshot.pinned if request.pin is None else request.pin,
    )
