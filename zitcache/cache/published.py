"""Digests known without a backup: published ones, and those that a Hugging Face cache carries itself."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from zitcache.cache.layouts import Layout, ModelLocation, read_marker

Digest = tuple[str, str]
"""("sha256" | "git-sha1", lower-case hex)."""

_TREE_MAX_BYTES = 64 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT_SHA1 = re.compile(r"[0-9a-f]{40}")

_Z_IMAGE_TURBO: Mapping[str, tuple[int, str]] = {
    "transformer/diffusion_pytorch_model-00001-of-00003.safetensors": (
        9_973_693_184,
        "95facd593e2549e8252acb571c653d57f7ddb7f1060d4e81712f152555a88804",
    ),
    "transformer/diffusion_pytorch_model-00002-of-00003.safetensors": (
        9_973_714_824,
        "a4bbe43ee184a1fb5af4b412d27555f532893bdc3165b1149e304ed82b5d7015",
    ),
    "transformer/diffusion_pytorch_model-00003-of-00003.safetensors": (
        4_672_282_880,
        "aba4e37a590e63210878160a718d916d80398f4e1f78ab6c9b2b2a00d92769fa",
    ),
    "text_encoder/model-00001-of-00003.safetensors": (
        3_957_900_840,
        "328a91d3122359d5547f9d79521205bc0a46e1f79a792dfe650e99fc2d651223",
    ),
    "text_encoder/model-00002-of-00003.safetensors": (
        3_987_450_520,
        "6cd087b316306a68c562436b5492edbcf6e16c6dba3a1308279caa5a58e21ca5",
    ),
    "text_encoder/model-00003-of-00003.safetensors": (
        99_630_640,
        "7ca841ee75b9c61267c0c6148fd8d096d3d21b6d3e161256a9b878154f91fc52",
    ),
    "vae/diffusion_pytorch_model.safetensors": (
        167_666_902,
        "f5b59a26851551b67ae1fe58d32e76486e1e812def4696a4bea97f16604d40a3",
    ),
    "tokenizer/tokenizer.json": (
        11_422_654,
        "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4",
    ),
}

_PUBLISHED: Mapping[str, Mapping[str, tuple[int, str]]] = {"tongyi-mai/z-image-turbo": _Z_IMAGE_TURBO}


class TreeFile(msgspec.Struct):
    """One file of a cached tree listing (``huggingface_hub/_tree_cache.py``)."""

    size: Annotated[int, msgspec.Meta(ge=0)]
    blob_id: str
    lfs_sha256: str | None = None
    lfs_size: int | None = None
    xet_hash: str | None = None


class _TreeListing(msgspec.Struct):
    format_version: int
    files: dict[str, TreeFile]


_tree_decoder = msgspec.json.Decoder(_TreeListing)


def published_fingerprint(model_id: str) -> dict[str, tuple[int, str]] | None:
    """Path in the model to (size, SHA-256) as published by its authors; None for a model that is not known.

    A mismatch means "differs from the published files" (another revision, a conversion), not damage.
    """
    known = _PUBLISHED.get(model_id.lower())
    return dict(known) if known is not None else None


def huggingface_digests(location: ModelLocation) -> dict[str, Digest]:
    """Digests that the cache carries itself, by the path of the real file relative to the cache root.

    A blob's name is the SHA-256 of an LFS file or the Git SHA-1 of another one (``file_download.py``).
    Entries of the shared store are named by a hash of another kind; what counts is the name of the
    repository's link to them. Where a snapshot holds real files, the cached tree listing tells their digests.
    Folders that ``hf download --local-dir`` made have such notes too; other layouts give nothing.
    """
    cache_root = location.cache or location.base
    if location.layout not in {Layout.HUGGINGFACE, Layout.HUGGINGFACE_SHARED}:
        return dict(_local_download_digests(location.path, cache_root))
    real_root = os.path.realpath(cache_root)
    digests: dict[str, Digest] = {}
    for path, digest in _snapshot_digests(location):
        real = os.path.realpath(path)
        if real.startswith(real_root.rstrip("/") + "/") and Path(real).is_file():
            digests[os.path.relpath(real, real_root)] = digest
    return digests


def read_tree_listing(location: ModelLocation) -> dict[str, TreeFile] | None:
    """What ``trees/<commit>.json`` says about the files of a snapshot; None if there is no usable listing."""
    path = location.root / "trees" / f"{location.revision}.json"
    try:
        with path.open("rb") as file:
            data = file.read(_TREE_MAX_BYTES + 1)
        listing = _tree_decoder.decode(data) if len(data) <= _TREE_MAX_BYTES else None
    except (OSError, ValueError, RecursionError):
        return None
    return listing.files if listing is not None and listing.format_version == 1 else None


def _snapshot_digests(location: ModelLocation) -> Iterator[tuple[Path, Digest]]:
    for name, file in (read_tree_listing(location) or {}).items():
        if ".." in name.split("/") or name.startswith("/"):
            continue
        digest = _as_digest(file.lfs_sha256 or "") or _as_digest(file.blob_id)
        if digest is not None:
            yield location.path / name, digest
    try:
        blobs = sorted((location.root / "blobs").iterdir())
    except OSError:
        return
    for blob in blobs:
        digest = _as_digest(blob.name)
        if digest is not None:
            yield blob, digest


def _local_download_digests(folder: Path, cache_root: Path) -> Iterator[tuple[str, Digest]]:
    """``--local-dir`` leaves ``.cache/huggingface/download/<file>.metadata``: commit, etag, time."""
    notes = folder / ".cache" / "huggingface" / "download"
    if not notes.is_dir():
        return
    for note in sorted(notes.rglob("*.metadata")):
        lines = read_marker(note).splitlines()
        digest = _as_digest(lines[1].strip()) if len(lines) >= 2 else None
        file = folder / note.relative_to(notes).with_suffix("")
        if digest is not None and _unchanged_since(file, lines[2] if len(lines) >= 3 else ""):
            yield os.path.relpath(file, cache_root), digest


def _unchanged_since(file: Path, timestamp: str) -> bool:
    """Whether the note still speaks of this file, by upstream's own rule (a second of tolerance)."""
    try:
        return not file.is_symlink() and file.stat().st_mtime - 1 <= float(timestamp)
    except (OSError, ValueError):
        return False


def _as_digest(name: str) -> Digest | None:
    if _SHA256.fullmatch(name):
        return "sha256", name
    if _GIT_SHA1.fullmatch(name):
        return "git-sha1", name
    return None
