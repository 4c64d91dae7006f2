"""How a cache can move: by renaming it, by sharing its blocks, or by copying."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from zitcache.machine.clone import clone_file
from zitcache.machine.files import nearest_existing, temporary_name
from zitcache.tasks.migrate.journal import Method
from zitcache.tasks.migrate.listing import Kind, Listing
from zitcache.tasks.migrate.switch import can_rename_between


def choose_method(source: Path, target: Path, listing: Listing, *, delete_source: bool) -> Method:
    """ "rename" where the old copy is not to be kept and the disk is the same; else "reflink" where it works.

    Both are tried, with an empty directory and with a file of the cache.
    """
    place = nearest_existing(target)
    if delete_source and not os.path.ismount(source) and not os.path.ismount(target):
        parent = place.parent if place == target else place
        if source.stat().st_dev == parent.stat().st_dev and can_rename_between(source.parent, parent):
            return "rename"
    return "reflink" if _can_clone(source, place, listing) else "copy"


def _can_clone(source: Path, place: Path, listing: Listing) -> bool:
    sample = next((entry for entry in listing.of_kind(Kind.FILE) if entry.size), None)
    if sample is None:
        return False
    trial = place / temporary_name()
    with contextlib.suppress(OSError):
        original = os.open(source / sample.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            copy = os.open(trial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                return clone_file(original, copy)
            finally:
                os.close(copy)
                trial.unlink()
        finally:
            os.close(original)
    return False
