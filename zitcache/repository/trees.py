"""Trees: what a snapshot says about names, and why it cannot be made to write outside its target."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator, Sequence

from zitcache.errors import IntegrityError
from zitcache.repository.records import TreeEntry, TreeRecord

ENTRIES_PER_TREE = 8192


def split_tree(entries: Sequence[TreeEntry]) -> Iterator[TreeRecord]:
    """A tree in parts of bounded size; an unchanged part is the same blob as in the snapshot before."""
    for start in range(0, len(entries), ENTRIES_PER_TREE):
        yield TreeRecord(entries=list(entries[start : start + ENTRIES_PER_TREE]))


def is_safe_path(path: str) -> bool:
    """Whether ``path`` is relative, without empty, ``.`` or ``..`` parts and NUL bytes."""
    return bool(path) and "\0" not in path and all(part not in {"", ".", ".."} for part in path.split("/"))


def link_stays_inside(path: str, target: str, cache: str) -> bool:
    """Whether a symlink at ``path`` pointing to ``target`` stays in the cache, judged by the text alone.

    An absolute target must lie below ``cache``, the place that the snapshot was taken of.
    """
    if not target or "\0" in target:
        return False
    if target.startswith("/"):
        resolved = posixpath.relpath(posixpath.normpath(target), posixpath.normpath(cache or "/"))
    else:
        resolved = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return resolved != ".." and not resolved.startswith("../")


def check_entries(entries: Sequence[TreeEntry], cache: str) -> None:
    """Raise :class:`IntegrityError` if writing these entries could touch anything outside the target.

    That is: unsafe or repeated paths, anything below something that is not a directory, symlinks that leave
    the cache, hard links to anything but a file of the same snapshot.
    """
    kinds: dict[bytes, str] = {}
    for entry in entries:
        path = entry.real_path
        if not is_safe_path(path):
            raise IntegrityError(
                f"The snapshot names a path outside the cache: {entry.path!r}. Nothing was written."
            )
        raw = os.fsencode(path)
        if raw in kinds:
            raise IntegrityError(f"The snapshot names {entry.path!r} twice. Nothing was written.")
        kinds[raw] = entry.kind
        if entry.kind == "symlink" and not link_stays_inside(path, entry.real_target, cache):
            raise IntegrityError(f"The symlink {entry.path!r} leaves the cache. Nothing was written.")
    for entry in entries:
        parent = posixpath.dirname(entry.real_path)
        while parent:
            if kinds.get(os.fsencode(parent), "directory") != "directory":
                raise IntegrityError(f"{entry.path!r} lies below something that is no directory.")
            parent = posixpath.dirname(parent)
        if entry.kind == "hardlink" and kinds.get(os.fsencode(entry.real_target)) != "file":
            raise IntegrityError(f"The hard link {entry.path!r} points to nothing in the snapshot.")
