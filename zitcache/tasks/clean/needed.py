"""Every file that a model needs: whatever else it looks like, it is no leftover."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from pathlib import Path

from zitcache.cache.inventory import model_files
from zitcache.cache.layouts import ModelLocation, find_models
from zitcache.tasks.clean.candidate import is_below, real_place

_MOST_LINKS = 40
"""As many symlinks in a row as Linux follows (path_resolution(7))."""


class Needed:
    """The files of all models of some caches: by every name on the way to their bytes, and by inode."""

    def __init__(self) -> None:
        self._paths: dict[str, str] = {}
        self._inodes: dict[tuple[int, int], str] = {}
        self._sorted: list[str] | None = None

    def add(self, path: str, label: str) -> None:
        """``path`` is a file of the model ``label``; all links that lead to its bytes are needed, too."""
        for _ in range(_MOST_LINKS):
            place = real_place(path)
            self._paths[place] = label
            try:
                target = os.readlink(place)
            except OSError:
                break
            path = os.path.join(os.path.dirname(place), target)
        try:
            status = os.stat(path)
        except OSError:
            return
        self._inodes[status.st_dev, status.st_ino] = label
        self._sorted = None

    def by_path(self, path: str) -> str | None:
        """The model that needs ``path`` or something below it."""
        if self._sorted is None:
            self._sorted = sorted(self._paths)
        # "/a/b-c" sorts between "/a/b" and "/a/b/c": look for the name itself and for what is below apart.
        if path in self._paths:
            return self._paths[path]
        below = path.rstrip("/") + "/"
        place = bisect_left(self._sorted, below)
        if place < len(self._sorted) and self._sorted[place].startswith(below):
            return self._paths[self._sorted[place]]
        return None

    def by_inode(self, inodes: Mapping[tuple[int, int], object]) -> str | None:
        """The model of which one of ``inodes`` is a file, under whatever name."""
        if len(inodes) <= len(self._inodes):
            return next((self._inodes[key] for key in inodes if key in self._inodes), None)
        return next((label for key, label in self._inodes.items() if key in inodes), None)


def needed_files(roots: Iterable[Path], apart_from: Iterable[str] = ()) -> Needed:
    """What the models of the caches ``roots`` need. ``apart_from``: folders that are no models but stubs."""
    needed = Needed()
    stubs = tuple(apart_from)
    for root in roots:
        for location in find_models(root):
            if not any(is_below(os.path.realpath(location.path), stub) for stub in stubs):
                _add_model(needed, root, location)
    return needed


def _add_model(needed: Needed, root: Path, location: ModelLocation) -> None:
    files, _ = model_files(root, location)
    for file in files:
        needed.add(os.path.join(root, file.path), location.label)
    # Refs and listings say which revision this is; without them an SDK does not find it offline.
    for folder in ("refs", "trees"):
        for name in _files_below(location.root / folder):
            needed.add(name, location.label)


def _files_below(folder: Path) -> list[str]:
    return [os.path.join(where, name) for where, _, names in os.walk(folder) for name in names]
