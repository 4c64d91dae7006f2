"""Folders of an older ModelScope layout that hide a complete model, and hold next to nothing themselves.

``modelscope_hub`` takes ``models/{owner}/{name}`` (or ``hub/models/…``) if it is not empty, before it looks
at ``models/{owner}--{name}/snapshots`` (``_find_legacy_repo_dir``). So one stray file makes 32 GB invisible.
"""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from zitcache.cache.exclusions import file_exclusion
from zitcache.cache.inventory import Inventory, Model, inventory
from zitcache.cache.layouts import BOOKKEEPING_FILES, WEIGHT_SUFFIXES, Layout
from zitcache.events import Cancel
from zitcache.tasks.clean.candidate import Candidate, Identity, identity
from zitcache.tasks.clean.report import Kind

_LEGACY = frozenset({Layout.MODELSCOPE_LEGACY, Layout.MODELSCOPE_LEGACY_HUB})
_SMALL_BYTES = 1 << 20
"""A file that is larger is somebody's data, whatever its name."""


@dataclass(slots=True)
class _Contents:
    """What a stub holds: ``relies_on`` files that are equal in the model, ``stray`` small ones that are not
    there, ``valuable`` ones that must not be lost."""

    relies_on: list[tuple[str, Identity]] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    valuable: list[str] = field(default_factory=list)


def shadowing_stubs(root: Path, cancel: Cancel) -> Iterator[Candidate]:
    """Folders below ``root`` that hide a complete snapshot without being a usable model themselves."""
    stock = inventory(root)
    for model in stock.models:
        hidden = _hidden_by(model, stock)
        if hidden is not None and not _is_usable(model):
            cancel.check()
            yield _candidate(model, hidden, cancel)


def _hidden_by(model: Model, stock: Inventory) -> Model | None:
    if model.layout not in _LEGACY:
        return None
    for other in stock.models:
        same = other.id == model.id and other.location.base == model.location.base
        if same and other.layout is Layout.MODELSCOPE and _is_usable(other):
            return other
    return None


def _is_usable(model: Model) -> bool:
    return model.complete and any(file.path.endswith(WEIGHT_SUFFIXES) for file in model.files)


def _candidate(stub: Model, hidden: Model, cancel: Cancel) -> Candidate:
    path = os.path.realpath(stub.path)
    reason = f"ModelScope loads this folder instead of the complete model in {hidden.path}."
    contents = _look(Path(path), Path(os.path.realpath(hidden.path)), cancel)
    aside = "move it out of the cache yourself: mv"
    keep = named = None
    if os.path.islink(stub.path):
        keep = "It is a symlink; what it points to may be used elsewhere."
    elif contents.valuable:
        keep = f"Only here is {_some(contents.valuable)}. Look at it, then {aside} {stub.path} ELSEWHERE"
    elif contents.stray:
        named = (
            f"Only here is {_some(contents.stray)}. To remove that, too: --kind {Kind.SHADOWING_STUB.value}"
        )
    return Candidate(
        path,
        Kind.SHADOWING_STUB,
        reason,
        relies_on=tuple(contents.relies_on),
        keep=keep,
        keep_unless_named=named,
    )


def _look(stub: Path, hidden: Path, cancel: Cancel) -> _Contents:
    contents = _Contents()
    for folder, directories, files in os.walk(stub):
        directories[:] = [name for name in directories if name != "._____temp"]
        names = frozenset(files) | frozenset(directories)
        for name in sorted(files):
            cancel.check()
            path = Path(folder, name)
            _sort_in(path, path.relative_to(stub), hidden, names, contents)
    return contents


def _sort_in(path: Path, relative: Path, hidden: Path, names: frozenset[str], contents: _Contents) -> None:
    try:
        status = path.lstat()
        excluded = file_exclusion("x/", path.name, names, status)
        if path.name in BOOKKEEPING_FILES or status.st_size == 0 or excluded is not None:
            return
        twin = Path(os.path.realpath(hidden / relative))
        if path.is_file() and not path.is_symlink() and twin.is_file() and twin != path:
            before = twin.stat()
            if before.st_size == status.st_size and filecmp.cmp(path, twin, shallow=False):
                contents.relies_on.append((str(twin), identity(before)))
                return
        small = status.st_size <= _SMALL_BYTES and not path.name.endswith(WEIGHT_SUFFIXES)
    except OSError:
        small = False
    (contents.stray if small else contents.valuable).append(os.fspath(relative))


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
