"""Find the models in a cache, in every layout that ModelScope and Hugging Face tools ever wrote.

Sources: ``modelscope_hub/_download.py`` (``_repo_cache_dir_path``, ``_find_legacy_repo_dir``),
``modelscope/hub/utils/utils.py`` (``find_reusable_legacy_repo_dir``), ``huggingface_hub/file_download.py``
and ``huggingface_hub/utils/_shared_blobs.py``. ``.msc`` and ``.mdl`` are pickles: nothing here opens them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

UNKNOWN_REVISION = "unknown"
"""The revision of a model whose folder does not say it."""

BOOKKEEPING_FILES = frozenset({".msc", ".mdl", ".mv"})
"""What the older ModelScope SDK keeps beside a model's own files."""

SHARED_BLOBS_MARKER = ".huggingface-shared-blobs"
WEIGHT_SUFFIXES = (
    ".safetensors",
    ".gguf",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".onnx",
    ".msgpack",
    ".h5",
    ".npz",
)

_MODEL_FILES = frozenset({"model_index.json", "config.json", "configuration.json"}) | BOOKKEEPING_FILES
_NOT_OWNERS = frozenset(
    {
        "hub", "models", "datasets", "studios", "mcps", "skills", "spaces", "assets", "blobs", "refs",
        "snapshots", "xet", "modules", "credentials", "ast_indexer", "kernels", "trees",
    }
)  # fmt: skip
_HF_OTHER_TYPES = ("datasets--", "spaces--", "kernels--")
_MARKER_READ_BYTES = 4096


class Layout(str, Enum):
    """How a model lies in its cache; the values are part of the JSON output."""

    MODELSCOPE = "modelscope"
    MODELSCOPE_LEGACY = "modelscope-legacy"
    MODELSCOPE_LEGACY_HUB = "modelscope-legacy-hub"
    MODELSCOPE_LEGACY_PLAIN = "modelscope-legacy-plain"
    MODELSCOPE_LEGACY_HUB_PLAIN = "modelscope-legacy-hub-plain"
    HUGGINGFACE = "huggingface"
    HUGGINGFACE_SHARED = "huggingface-shared"
    SEED = "seed"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class ModelLocation:
    """Where one model at one revision lies.

    ``path``: the folder with the files of this revision (what ``from_pretrained`` takes). ``root``: the
    folder of the model as a whole, which can be renamed as one. ``base``: the SDK's cache directory it was
    found under (``hub/`` included for Hugging Face). ``refs``: names that point at this revision.
    ``companions``: folders outside ``root`` that hold its bytes (the shared blobs of huggingface_hub 2.x).
    ``cache``: the directory that :func:`find_models` searched; None for a location made by hand.
    """

    id: str
    revision: str
    layout: Layout
    path: Path
    root: Path
    base: Path
    refs: tuple[str, ...] = ()
    companions: tuple[Path, ...] = ()
    cache: Path | None = None

    @property
    def label(self) -> str:
        """What people call it: ``owner/name@revision``, with the ref's name where there is one."""
        return f"{self.id}@{self.refs[0] if self.refs else self.revision}"


def find_models(root: Path) -> list[ModelLocation]:
    """Every model below ``root``, sorted by id, layout, revision and path. Unreadable folders hold none.

    ``root`` may be a cache of either SDK or of both, the folder of a single model, a folder of plain models,
    or a folder with several caches in it.
    """
    found = {location.path: replace(location, cache=root) for location in _search(root)}
    return sorted(found.values(), key=lambda m: (m.id, m.layout.value, m.revision, os.fsencode(m.path)))


def looks_like_model(directory: Path) -> bool:
    """Whether ``directory`` itself holds the files of a model (a config or weights), judged by names."""
    return any(name in _MODEL_FILES or name.endswith(WEIGHT_SUFFIXES) for name in _file_names(directory))


def _search(root: Path) -> Iterator[ModelLocation]:
    if not is_directory(root):
        return
    alone = list(_single_model(root))
    yield from alone
    if alone and alone[0].layout is not Layout.PLAIN:
        return
    yield from _cache(root, plain_owners=not alone)
    for child in () if alone else _directories(root):
        if (
            child.name not in _NOT_OWNERS
            and not _is_repository_folder(child.name)
            and _looks_like_cache(child)
        ):
            yield from _cache(child, plain_owners=True)


def _single_model(root: Path) -> Iterator[ModelLocation]:
    """``root`` is itself the folder of one model."""
    name = root.name
    if name.startswith("models--"):
        yield from _models_folder(root, root.parent)
    elif "--" in name and is_directory(root / "snapshots"):
        yield from _modelscope_snapshots(root, root.parent.parent)
    elif looks_like_model(root):
        yield ModelLocation(
            _local_name(root), _legacy_revision(root), Layout.PLAIN, path=root, root=root, base=root
        )


def _cache(base: Path, *, plain_owners: bool) -> Iterator[ModelLocation]:
    """``base`` is what MODELSCOPE_CACHE or HF_HOME name; Hugging Face models may lie in it or in ``hub/``."""
    hub = base / "hub"
    for hf_base in (base, hub):
        for child in _directories(hf_base):
            if child.name.startswith("models--"):
                yield from _models_folder(child, hf_base)
    for child in _directories(base / "models"):
        if child.name.startswith("models--"):
            yield from _models_folder(child, base / "models")
        elif "--" in child.name and is_directory(child / "snapshots"):
            yield from _modelscope_snapshots(child, base)
    # Where new models go when MODELSCOPE_CACHE names `hub/`, as it must for the older SDK's default cache.
    for child in _directories(hub / "models"):
        if "--" in child.name and is_directory(child / "snapshots"):
            yield from _modelscope_snapshots(child, hub)
    yield from _owners(base / "models", base, Layout.MODELSCOPE_LEGACY)
    yield from _owners(hub / "models", base, Layout.MODELSCOPE_LEGACY_HUB)
    if plain_owners:
        yield from _owners(base, base, Layout.MODELSCOPE_LEGACY_PLAIN)
    yield from _owners(hub, base, Layout.MODELSCOPE_LEGACY_HUB_PLAIN)


def _owners(folder: Path, base: Path, layout: Layout) -> Iterator[ModelLocation]:
    """``folder/{owner}/{name}``, or a model right in ``folder`` that a tool was told to put there."""
    certain = layout in {Layout.MODELSCOPE_LEGACY, Layout.MODELSCOPE_LEGACY_HUB}
    for owner in _directories(folder):
        if (
            owner.name in _NOT_OWNERS
            or _is_repository_folder(owner.name)
            or is_directory(owner / "snapshots")
        ):
            continue
        if looks_like_model(owner):
            name = _local_name(owner)
            yield ModelLocation(
                name, _legacy_revision(owner), Layout.PLAIN, path=owner, root=owner, base=base
            )
            continue
        for model in _directories(owner):
            if _is_repository_folder(model.name) or (model.name in _NOT_OWNERS and not certain):
                continue
            # Under `models/` the SDK takes any folder with anything in it for the model, and so must we.
            if looks_like_model(model) or (certain and _is_legacy_model(model)):
                model_id = f"{owner.name}/{_local_name(model)}"
                yield ModelLocation(
                    model_id, _legacy_revision(model), layout, path=model, root=model, base=base
                )


def _is_legacy_model(directory: Path) -> bool:
    return any(True for _ in _entries(directory)) and not any(
        child.name.startswith("models--") for child in _directories(directory)
    )


def _models_folder(folder: Path, hf_base: Path) -> Iterator[ModelLocation]:
    """``models--org--name``: Hugging Face's structure, or a model's plain files under that name."""
    model_id = folder.name.removeprefix("models--").replace("--", "/", 1)
    if is_directory(folder / "snapshots"):
        companions = _shared_store(folder, hf_base)
        layout = Layout.HUGGINGFACE_SHARED if companions else Layout.HUGGINGFACE
        refs = _refs(folder / "refs")
        for snapshot in _directories(folder / "snapshots"):
            names = tuple(sorted(name for name, commit in refs if commit == snapshot.name))
            yield ModelLocation(
                model_id, snapshot.name, layout, snapshot, folder, hf_base, refs=names, companions=companions
            )
    elif looks_like_model(folder):
        yield ModelLocation(
            model_id, _legacy_revision(folder), Layout.SEED, path=folder, root=folder, base=hf_base
        )


def _modelscope_snapshots(folder: Path, base: Path) -> Iterator[ModelLocation]:
    model_id = folder.name.replace("--", "/", 1)
    for snapshot in _directories(folder / "snapshots"):
        yield ModelLocation(model_id, snapshot.name, Layout.MODELSCOPE, path=snapshot, root=folder, base=base)


def _shared_store(folder: Path, hf_base: Path) -> tuple[Path, ...]:
    """The cache-wide blob store, if a blob of ``folder`` is a link into it."""
    store = hf_base / "blobs"
    for blob in _entries(folder / "blobs"):
        if blob.is_symlink():
            target = os.path.normpath(folder / "blobs" / Path(blob.path).readlink())
            if target.startswith(f"{store}{os.sep}"):
                return (store,)
    return ()


def _refs(folder: Path) -> list[tuple[str, str]]:
    """(name, commit) of every ref; names may have slashes (``refs/pr/1``)."""
    refs = []
    pending = [(folder, "")]
    while pending:
        directory, prefix = pending.pop()
        for entry in _entries(directory):
            if entry.is_dir(follow_symlinks=False):
                pending.append((Path(entry.path), f"{prefix}{entry.name}/"))
            else:
                refs.append((prefix + entry.name, read_marker(Path(entry.path)).strip()))
    return refs


def read_marker(path: Path) -> str:
    """The first few KiB of a small text file; "" when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_MARKER_READ_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _legacy_revision(folder: Path) -> str:
    """The revision in ``.mv`` ("Revision:master,CreatedAt:1718850541"), which is text."""
    for field in read_marker(folder / ".mv").split(","):
        key, colon, value = field.strip().partition(":")
        if colon and key.strip().lower() == "revision" and value.strip():
            return value.strip()
    return UNKNOWN_REVISION


def _local_name(folder: Path) -> str:
    return folder.name.replace("___", ".")


def _is_repository_folder(name: str) -> bool:
    return name.startswith((".", "models--", *_HF_OTHER_TYPES))


def _looks_like_cache(folder: Path) -> bool:
    names = {child.name for child in _directories(folder)}
    return bool(names & {"hub", "models"}) or any(name.startswith("models--") for name in names)


def _entries(folder: Path) -> Iterable[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: os.fsencode(entry.name))
    except OSError:
        return ()


def is_directory(path: Path) -> bool:
    """Whether ``path`` is a directory that can be reached; False where ``Path.is_dir`` would raise."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _leads_to_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _directories(folder: Path) -> list[Path]:
    return [folder / entry.name for entry in _entries(folder) if _leads_to_directory(entry)]


def _file_names(folder: Path) -> list[str]:
    return [entry.name for entry in _entries(folder) if not _leads_to_directory(entry)]
