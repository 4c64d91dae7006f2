"""In which order files are brought back: as a pipeline is going to load them.

First what is small and tells what the rest is (``model_index.json``, configurations, tokenizers), then the
weights, component by component in the order of their names: ``text_encoder``, ``transformer``, ``vae``, as
``proof.drawing.loading`` loads them. In a Hugging Face cache the content lies under digests; there the names
that lead to it count.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Sequence

from zitcache.repository.records import SnapshotModel, TreeEntry, real_name

_FIRST = "model_index.json"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".onnx", ".msgpack", ".h5")
_LARGE_BYTES = 64 << 20

_Key = tuple[int, int, bytes]


def in_loading_order(
    files: Iterable[TreeEntry], entries: Sequence[TreeEntry], models: Sequence[SnapshotModel]
) -> list[TreeEntry]:
    """``files`` sorted by when they are needed. ``entries``: the whole snapshot, for the links in it."""
    wanted = list(files)
    names = _names_of(entries)
    folders = sorted({(real_name(model.root, None), real_name(model.path, None)) for model in models})
    sizes = {entry.real_path: entry.size for entry in wanted}

    def key(path: str) -> _Key:
        known = [path, *names.get(path, [])]
        loaded = [name for name in known if any(_is_below(name, folder) for _, folder in folders)]
        return min(_rank(name, sizes[path], folders) for name in loaded or known)

    return sorted(wanted, key=lambda entry: key(entry.real_path))


def _names_of(entries: Sequence[TreeEntry]) -> dict[str, list[str]]:
    """By path of a file, the links that show its content: hard links, and symlinks up to a few steps away."""
    kinds = {entry.real_path: entry for entry in entries}
    names: dict[str, list[str]] = {}
    for entry in entries:
        seen = 0
        at: TreeEntry | None = entry
        while at is not None and at.kind in {"symlink", "hardlink"} and seen < 8:
            target = at.real_target
            if at.kind == "symlink":
                target = posixpath.normpath(posixpath.join(posixpath.dirname(at.real_path), target))
            at = kinds.get(target)
            seen += 1
        if seen and at is not None and at.kind == "file":
            names.setdefault(at.real_path, []).append(entry.real_path)
    return names


def _rank(path: str, size: int, folders: Sequence[tuple[str, str]]) -> _Key:
    """Models after each other in the order of their folders; what belongs to none comes with the last.

    ``folders``: of each model, all that is its own, and in there the one that is loaded.
    """
    number, inside = len(folders), path
    for position, (root, folder) in enumerate(folders):
        if _is_below(path, root):
            number = position
            inside = path[len(folder) :].lstrip("/") if _is_below(path, folder) else path
    if inside == _FIRST:
        stage = 0
    elif size < _LARGE_BYTES and not inside.lower().endswith(_WEIGHTS):
        stage = 1
    else:
        stage = 2
    return number, stage, os.fsencode(inside)


def _is_below(path: str, folder: str) -> bool:
    return not folder or path.startswith(folder + "/")
