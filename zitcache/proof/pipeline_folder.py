"""What a model folder says about its pipeline, read without running anything of it.

A diffusers pipeline is a ``model_index.json`` that names a class and, for every component, a library and a
class. Code of its own can hide in four places: a list as ``_class_name``, a ``pipeline.py``, a component
whose library is a file in its folder (diffusers), and ``auto_map`` in a config (transformers). Weights that
exist only as pickles run code when they are loaded. Sources:
``diffusers/pipelines/pipeline_loading_utils.py``, ``transformers/dynamic_module_utils.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import msgspec

from zitcache.cache.safetensors_header import HeaderError, read_header
from zitcache.errors import UsageError
from zitcache.proof.errors import DrawingFailed, NotTrusted
from zitcache.proof.settings import DEFAULT_SIZE, MAX_SIZE, SIZE_UNIT

INDEX = "model_index.json"
MAX_JSON_BYTES = 16 << 20
SAFE_LIBRARIES = frozenset({"diffusers", "transformers", "stable_diffusion"})
"""Libraries of components. The last is a module of diffusers itself, where older pipelines find their
checker."""

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_CONFIGS = ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json")
_WEIGHTED = (".safetensors", *PICKLES)


@dataclass(frozen=True, slots=True)
class Component:
    """A part of a pipeline. ``elements``: number of weights; ``files``: safetensors files, absolute paths."""

    name: str
    library: str
    class_name: str
    elements: int
    size_bytes: int
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PipelineFolder:
    """A pipeline on the disk. ``native_size``: pixels it was made for. ``foreign``: why it needs trust."""

    path: str
    class_name: str
    components: tuple[Component, ...]
    native_size: int
    foreign: tuple[str, ...]

    @property
    def elements(self) -> dict[str, int]:
        """Numbers of weights by component, without those that have none."""
        return {part.name: part.elements for part in self.components if part.elements}

    @property
    def weights_bytes(self) -> int:
        """Bytes of all safetensors files."""
        return sum(part.size_bytes for part in self.components)


def read_pipeline_folder(path: str | os.PathLike[str]) -> PipelineFolder:
    """Read what the folder says.

    Raises ``UsageError`` when it is no diffusers pipeline, ``DrawingFailed`` when a header is damaged.
    """
    root = Path(path)
    index = _load_object(root / INDEX)
    if index is None:
        raise UsageError(
            f"{root} is no pipeline that can draw: it has no sound {INDEX}.",
            hint="Name a model that has one: zitcache models",
        )
    components = tuple(_components(root, index))
    class_name = index.get("_class_name")
    return PipelineFolder(
        path=str(root),
        class_name=class_name if isinstance(class_name, str) else str(class_name),
        components=components,
        native_size=_native_size(root),
        foreign=tuple(_foreign(root, class_name, components)),
    )


def refuse_foreign(folder: PipelineFolder, *, trust: bool) -> None:
    """Raise ``NotTrusted`` when the model would run code of its own, unless it is trusted."""
    if folder.foreign and not trust:
        raise NotTrusted(f"This model would run code of its own: {'; '.join(folder.foreign)}.")


def _components(root: Path, index: dict[str, Any]) -> Iterator[Component]:
    for name, value in index.items():
        if name.startswith("_") or not (isinstance(value, list) and len(value) == 2):
            continue
        library, class_name = value
        if not (isinstance(library, str) and isinstance(class_name, str)) or "/" in name or name == "..":
            continue
        files = sorted(str(file) for file in _files(root / name) if file.suffix == ".safetensors")
        counts = [_count(file) for file in files]
        yield Component(
            name,
            library,
            class_name,
            sum(elements for elements, _ in counts),
            sum(size for _, size in counts),
            tuple(files),
        )


def _foreign(root: Path, class_name: object, components: tuple[Component, ...]) -> Iterator[str]:
    if not isinstance(class_name, str):
        yield f"{INDEX} names a class of its own, {class_name}"
    if (root / "pipeline.py").exists():
        yield "it has a pipeline.py"
    for part in components:
        if part.library not in SAFE_LIBRARIES:
            yield f"its {part.name} is of {part.library!r}, which is neither diffusers nor transformers"
        own = next((file.name for file in _files(root / part.name) if file.suffix == ".py"), None)
        if own is not None:
            yield f"its {part.name} has {own}"
        for config in _CONFIGS:
            settings = _load_object(root / part.name / config)
            if settings is not None and settings.get("auto_map"):
                yield f"{part.name}/{config} maps classes to code (auto_map)"
        names = [file.name for file in _files(root / part.name) if file.suffix in _WEIGHTED]
        if names and not part.files:
            yield f"its {part.name} has weights as a pickle only ({names[0]})"


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _count(path: str) -> tuple[int, int]:
    """Number of weights and bytes of one safetensors file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            tensors = read_header(fd, size).tensors
        finally:
            os.close(fd)
    except (HeaderError, OSError) as error:
        raise DrawingFailed(f"{path} cannot be loaded: {error}.") from error
    return sum(prod(tensor.shape) for tensor in tensors), size


def _native_size(root: Path) -> int:
    """What the VAE was trained for; the usual size where it does not say."""
    config = _load_object(root / "vae" / "config.json") or {}
    size = config.get("sample_size")
    if isinstance(size, int) and not isinstance(size, bool) and SIZE_UNIT <= size <= MAX_SIZE:
        return min(size - size % SIZE_UNIT, DEFAULT_SIZE)
    return DEFAULT_SIZE


def _load_object(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_JSON_BYTES + 1)
        return msgspec.json.decode(raw, type=dict[str, Any]) if len(raw) <= MAX_JSON_BYTES else None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
