"""Which part of which cache is meant by a path: a cache, a model's folder, any folder or one file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from zitcache.cache.layouts import BOOKKEEPING_FILES, is_directory, looks_like_model
from zitcache.repository.records import TreeEntry

_MODEL_ROOT_FILES = BOOKKEEPING_FILES | {"model_index.json"}
_CLIMB_AT_MOST = 4


@dataclass(frozen=True, slots=True)
class Scope:
    """``root``: the cache, to which paths are relative. ``inside``: the part that is meant, "" for all."""

    root: Path
    inside: str

    @property
    def path(self) -> Path:
        """What is verified, absolute."""
        return self.root / self.inside if self.inside else self.root

    def covers(self, path: str) -> bool:
        """Whether ``path`` is the part that is meant, or lies in it."""
        return not self.inside or path == self.inside or path.startswith(self.inside + "/")

    def overlaps(self, path: str) -> bool:
        """Whether ``path`` lies in the part that is meant, or the other way round."""
        return self.covers(path) or not path or self.inside.startswith(path + "/")


def real_place(text: str) -> Path:
    """``text`` without symlinks, but for a file that is itself one: in a Hugging Face cache, it is a name."""
    path = os.path.abspath(os.path.expanduser(text))
    if os.path.islink(path) and not os.path.isdir(path):
        return Path(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    return Path(os.path.realpath(path))


def scope_in(root: Path, place: Path) -> Scope:
    """The scope of ``place``, which is ``root`` or lies in it."""
    inside = os.path.relpath(place, root)
    return Scope(root, "" if inside == "." else inside)


def is_or_contains(root: Path, place: Path) -> bool:
    """Whether ``place`` is ``root`` or lies in it."""
    return root == place or root in place.parents


def fit(place: Path, entries: Mapping[str, TreeEntry]) -> Scope | None:
    """The scope if ``place`` holds what a snapshot of another place holds; None if it holds none of it.

    The paths of the snapshot either lie below ``place``, or one of them is its name.
    """
    files = (path for path, entry in entries.items() if entry.kind == "file")
    if any(os.path.lexists(os.path.join(place, path)) for path in files):
        return Scope(place, "")
    for parent in place.parents:
        inside = os.path.relpath(place, parent)
        if inside in entries:
            return Scope(parent, inside)
    return None


def guess_scope(place: Path) -> Scope:
    """The scope when no snapshot says where the cache begins, told from the layout around ``place``."""
    root = next(_cache_roots(place), None)
    if root is None:
        root = place if is_directory(place) else place.parent
    return scope_in(root, place)


def _cache_roots(place: Path) -> Iterator[Path]:
    lineage = [place, *place.parents]
    for folder in reversed(lineage):
        # Blobs that models share lie beside the models' folders.
        if folder.name.startswith("models--"):
            yield folder.parent
    for folder in lineage:
        if "--" in folder.name and is_directory(folder / "snapshots"):
            yield folder
    for folder in lineage[:_CLIMB_AT_MOST]:
        if any(os.path.isfile(folder / name) for name in _MODEL_ROOT_FILES):
            yield folder
    if is_directory(place) and looks_like_model(place):
        yield place
