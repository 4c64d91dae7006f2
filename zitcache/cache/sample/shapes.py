"""Names, shapes and files of the sample's tensors, read from the package's ``data/shapes.json``."""

from __future__ import annotations

from importlib.resources import files
from math import prod
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from importlib.abc import Traversable

DATA = files(__package__) / "data"
ITEM_BYTES = {"F32": 4, "BF16": 2}


class Component(msgspec.Struct, frozen=True):
    """One weighted part of the pipeline.

    ``dtype``: as safetensors names it. ``index``: name of the ``*.index.json``, None for an unsharded one.
    ``files``: per safetensors file its tensors (name: shape) in the order in which their bytes lie.
    """

    dtype: str
    index: str | None
    files: dict[str, dict[str, tuple[int, ...]]]

    def tensor_bytes(self) -> int:
        """Bytes of all tensors, headers not counted (``total_size`` of the index)."""
        elements = sum(prod(shape) for tensors in self.files.values() for shape in tensors.values())
        return elements * ITEM_BYTES[self.dtype]


def load_components() -> dict[str, Component]:
    """All weighted components by folder name."""
    return msgspec.json.decode((DATA / "shapes.json").read_bytes(), type=dict[str, Component])


def read_folder(folder: Traversable, prefix: str = "") -> dict[str, bytes]:
    """Contents of all files below a data folder, by POSIX path relative to it."""
    contents: dict[str, bytes] = {}
    for entry in folder.iterdir():
        if entry.is_dir():
            contents |= read_folder(entry, f"{prefix}{entry.name}/")
        else:
            contents[prefix + entry.name] = entry.read_bytes()
    return contents
