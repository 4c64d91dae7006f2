"""What a cache of the user's own must hold so that both SDKs find the models of a shared one in it.

Real directories, and in them a symlink for every file. ModelScope gets the layout of the shared cache.
Hugging Face gets its two steps, ``snapshots/<commit>/file`` to ``blobs/<digest>`` in the own tree and that to
the shared bytes: huggingface_hub deletes what the first step points to. Small files that the SDKs rewrite
(refs, file listings, ModelScope's bookkeeping) are copied.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zitcache.cache.inventory import Model
from zitcache.cache.layouts import BOOKKEEPING_FILES, Layout

_HUGGINGFACE = frozenset({Layout.HUGGINGFACE, Layout.HUGGINGFACE_SHARED})
_COPIED_FOLDERS = ("refs", "trees", ".no_exist")
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in the own cache (relative path): a link to ``target``, or a copy of the file ``source``."""

    path: str
    target: str | None = None
    source: Path | None = None


@dataclass(frozen=True, slots=True)
class OwnModel:
    """One model of the shared cache: its folder in the own cache (relative path), and what belongs there."""

    model: Model
    folder: str
    entries: tuple[Entry, ...]


def own_model(shared: Path, model: Model) -> OwnModel:
    """Plan one model of the cache at ``shared``."""
    folder = _folder(model)
    build = _huggingface if model.layout in _HUGGINGFACE else _plain
    return OwnModel(model, folder, tuple(build(shared, model, folder)))


def _folder(model: Model) -> str:
    location = model.location
    if model.layout in _HUGGINGFACE or model.layout is Layout.SEED:
        return f"hub/{location.root.name}"
    relative = os.path.relpath(location.root, location.base)
    return location.root.name if relative == "." else relative


def _plain(shared: Path, model: Model, folder: str) -> Iterator[Entry]:
    """The files of the model where they are in the shared cache, each a link to the bytes."""
    root = model.location.root
    for file in model.files:
        if os.path.basename(file.path) not in BOOKKEEPING_FILES:
            inside = os.path.relpath(shared / file.path, root)
            yield Entry(f"{folder}/{inside}", target=_real(shared, file.content_path))
    for name in sorted(BOOKKEEPING_FILES):
        if (model.path / name).is_file():
            inside = os.path.relpath(model.path / name, root)
            yield Entry(f"{folder}/{inside}", source=model.path / name)


def _huggingface(shared: Path, model: Model, folder: str) -> Iterator[Entry]:
    root = model.location.root
    blobs: dict[str, str] = {}
    for file in model.files:
        link = shared / file.path
        inside = os.path.relpath(link, root)
        bytes_at = _real(shared, file.content_path)
        blob = _blob_name(link)
        if blob is None or blobs.setdefault(blob, bytes_at) != bytes_at:
            # A tree made where symlinks did not work: the snapshot holds the file itself.
            yield Entry(f"{folder}/{inside}", target=bytes_at)
            continue
        up = "../" * (inside.count("/"))
        yield Entry(f"{folder}/{inside}", target=f"{up}blobs/{blob}")
    for blob, bytes_at in blobs.items():
        yield Entry(f"{folder}/blobs/{blob}", target=bytes_at)
    for name in _COPIED_FOLDERS:
        for source in _files_below(root / name):
            yield Entry(f"{folder}/{os.path.relpath(source, root)}", source=source)


def _blob_name(link: Path) -> str | None:
    """The name of the blob that an entry of a snapshot points to."""
    try:
        target = Path(os.readlink(link))
    except OSError:
        return None
    return target.name if target.parent.name == "blobs" and _DIGEST.fullmatch(target.name) else None


def _real(shared: Path, content_path: str) -> str:
    return os.path.normpath(os.path.join(os.path.realpath(shared), content_path))


def _files_below(folder: Path) -> Iterator[Path]:
    for directory, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(directory, name)
            if path.is_file() and not path.is_symlink():
                yield path
