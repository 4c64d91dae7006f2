"""The fingerprint of a model: every file with its size and digests, independent of the layout it lies in.

The same files give the same ``digest`` in a ModelScope cache, a Hugging Face cache and a plain folder:
paths are relative to the model's own folder, and the SDK's bookkeeping files are not counted.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

from zitcache.cache.layouts import BOOKKEEPING_FILES
from zitcache.cache.published import huggingface_digests, published_fingerprint
from zitcache.cache.sha256sums import parse_sha256sums, to_sha256sums
from zitcache.errors import UsageError

__all__ = [
    "SCHEMA",
    "FileFingerprint",
    "Fingerprint",
    "digest_of",
    "from_json",
    "huggingface_digests",
    "make_fingerprint",
    "parse_sha256sums",
    "published_fingerprint",
    "to_json",
    "to_sha256sums",
]

SCHEMA: Literal["zitcache-fingerprint/1"] = "zitcache-fingerprint/1"

Hex64 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
_Size = Annotated[int, msgspec.Meta(ge=0)]


class FileFingerprint(msgspec.Struct, frozen=True):
    """One file. ``path``: relative to the model's folder, POSIX; surrogate escapes for non-UTF-8 bytes."""

    path: str
    size: _Size
    blake3: Hex64
    sha256: Hex64 | None = None


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """A model's files sorted by path bytes; ``digest`` is BLAKE3 over them (see :func:`digest_of`)."""

    schema: Literal["zitcache-fingerprint/1"] = SCHEMA
    model: str
    revision: str
    layout: str
    files: tuple[FileFingerprint, ...]
    size_bytes: _Size
    digest: Hex64


class _WireFile(msgspec.Struct, omit_defaults=True):
    """A file in JSON. ``path_hex`` holds the exact bytes of a name that is not UTF-8."""

    path: str
    size: _Size
    blake3: Hex64
    sha256: Hex64 | None = None
    path_hex: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{2})+$")] | None = None


class _WireFingerprint(msgspec.Struct):
    schema: Literal["zitcache-fingerprint/1"]
    model: str
    revision: str
    layout: str
    files: list[_WireFile]
    size_bytes: _Size
    digest: Hex64


_decoder = msgspec.json.Decoder(_WireFingerprint)


def make_fingerprint(model: str, revision: str, layout: str, files: Iterable[FileFingerprint]) -> Fingerprint:
    """Put a fingerprint together from its files, in any order."""
    ordered = tuple(sorted(files, key=lambda file: os.fsencode(file.path)))
    return Fingerprint(
        model=model,
        revision=revision,
        layout=layout,
        files=ordered,
        size_bytes=sum(file.size for file in ordered),
        digest=digest_of(ordered),
    )


def digest_of(files: Iterable[FileFingerprint]) -> str:
    """BLAKE3 over ``<blake3> <size> <path bytes> NUL`` of every file sorted by path bytes, in hex.

    ModelScope's bookkeeping (``.msc``, ``.mdl``, ``.mv``) does not count: it is about the download.
    """
    import blake3

    hasher = blake3.blake3()
    for file in sorted(files, key=lambda file: os.fsencode(file.path)):
        if file.path not in BOOKKEEPING_FILES:
            hasher.update(f"{file.blake3} {file.size} ".encode() + os.fsencode(file.path) + b"\0")
    return str(hasher.hexdigest())


def to_json(fingerprint: Fingerprint) -> bytes:
    """The fingerprint as readable JSON with a newline at the end."""
    wire = _WireFingerprint(
        schema=fingerprint.schema,
        model=_printable(fingerprint.model),
        revision=_printable(fingerprint.revision),
        layout=fingerprint.layout,
        files=[_to_wire(file) for file in fingerprint.files],
        size_bytes=fingerprint.size_bytes,
        digest=fingerprint.digest,
    )
    return msgspec.json.format(msgspec.json.encode(wire), indent=1) + b"\n"


def from_json(data: bytes) -> Fingerprint:
    """Decode and check a fingerprint. Raises :class:`UsageError` when it is not one, or is not whole."""
    try:
        wire = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(
            f"This is not a zitcache fingerprint: {error}.", hint="Write one with: zitcache checksum -o FILE"
        ) from error
    files = tuple(_from_wire(file) for file in wire.files)
    fingerprint = make_fingerprint(wire.model, wire.revision, wire.layout, files)
    if fingerprint.digest != wire.digest or fingerprint.size_bytes != wire.size_bytes:
        raise UsageError(
            "This fingerprint was changed: its digest does not fit its files.",
            hint="Write a new one from known good files with: zitcache checksum -o FILE",
        )
    return fingerprint


def _to_wire(file: FileFingerprint) -> _WireFile:
    printable = _printable(file.path)
    path_hex = None if printable == file.path else os.fsencode(file.path).hex()
    return _WireFile(printable, file.size, file.blake3, file.sha256, path_hex)


def _from_wire(file: _WireFile) -> FileFingerprint:
    path = file.path if file.path_hex is None else os.fsdecode(bytes.fromhex(file.path_hex))
    parts = path.split("/")
    if "\0" in path or any(part in {"", ".", ".."} for part in parts):
        raise UsageError(f"The fingerprint names a path that no model has: {path!r}.")
    return FileFingerprint(path, file.size, file.blake3, file.sha256)


def _printable(text: str) -> str:
    return os.fsencode(text).decode("utf-8", "replace")
