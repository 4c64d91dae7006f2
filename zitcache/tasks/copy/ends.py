"""The two repositories of a copy: opened, or the target made, and never one and the same."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from zitcache.errors import RepositoryNotFound, UsageError
from zitcache.events import Session
from zitcache.machine.cpu import worker_count
from zitcache.repository.repository import CONFIG, Repository
from zitcache.storage.opening import open_storage
from zitcache.tasks.copy.report import CopyRequest
from zitcache.tasks.settings import resolve_repository
from zitcache.tasks.snapshots.creating import init

_STREAMS = 2


@dataclass(frozen=True, slots=True)
class Ends:
    """``target``: None in a dry run for a repository that has yet to be made. ``is_new``: it was made now."""

    source: Repository
    target: Repository | None
    location: str
    is_new: bool = False

    @property
    def streams(self) -> int:
        """Packs to fill side by side."""
        return min(_STREAMS, worker_count())


def open_ends(request: CopyRequest, session: Session) -> Ends:
    """Open both. Raises ``UsageError`` if they are one, ``RepositoryNotFound``, …."""
    source_place, target_place = _expanded(request.source, "FROM"), _expanded(request.to, "TO")
    _refuse_one_place(source_place, target_place)
    source = Repository.open(open_storage(source_place))
    storage = open_storage(target_place)
    try:
        target = Repository.open(storage)
    except RepositoryNotFound as error:
        if not request.init:
            error.hint = f"Create it, with the rules of the source: zitcache copy --init … {request.to}"
            raise
        if request.dry_run:
            return Ends(source, None, storage.location)
        init(target_place, session, cutting=source.config.cutting)
        return Ends(source, Repository.open(open_storage(target_place)), storage.location, is_new=True)
    _refuse_one_repository(source, target)
    return Ends(source, target, storage.location)


def _expanded(place: str, what: str) -> str:
    if not place:
        raise UsageError(f"The repository {what} is empty.", hint="zitcache copy FROM TO")
    return resolve_repository(place).value or place


def _refuse_one_place(source: str, target: str) -> None:
    """Raise ``UsageError`` if the places are the same, or one directory lies in the other."""
    if "://" in source or "://" in target:
        if _bucket_of(source) == _bucket_of(target) and _endpoint_of(source) == _endpoint_of(target):
            raise _the_same(target)
        return
    first, second = Path(os.path.realpath(source)), Path(os.path.realpath(target))
    if first == second:
        raise _the_same(target)
    if first in second.parents or second in first.parents:
        raise UsageError(
            f"The repositories {first} and {second} lie one in the other.",
            hint="Choose a place for the copy that is on another disk.",
        )


def _refuse_one_repository(source: Repository, target: Repository) -> None:
    """Two paths may lead to one directory (a bind mount, a share), and two endpoints to one bucket."""
    if source.config.id != target.config.id:
        return
    first, second = source.storage.location, target.storage.location
    if "://" in first or "://" in second:
        same = _bucket_of(first) == _bucket_of(second)
    else:
        try:
            same = os.path.samefile(os.path.join(first, CONFIG), os.path.join(second, CONFIG))
        except OSError:
            same = False
    if same:
        raise _the_same(second)


def _bucket_of(place: str) -> str:
    return place.partition("?")[0].rstrip("/")


def _endpoint_of(place: str) -> str:
    return (parse_qs(urlsplit(place).query).get("endpoint_url") or [""])[-1].rstrip("/")


def _the_same(place: str) -> UsageError:
    return UsageError(
        f"FROM and TO are the same repository: {place}.", hint="Name two places: zitcache copy FROM TO"
    )
