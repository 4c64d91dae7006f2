"""What the repository writes as JSON, as typed and bounded structures. Fields are only ever added.

Ids are lower-case hex of 32 bytes. The meaning of every field is in docs/FORMAT.md.
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import Annotated, Literal, TypeVar

import msgspec

from zitcache.codec.frame import HEADER_SIZE, MAX_RAW_SIZE
from zitcache.errors import IntegrityError
from zitcache.storage.traits import StorageTraits

FORMAT_VERSION = 1
MIB = 1 << 20
MAX_PIECE_SIZE = 64 * MIB
"""Of any piece of a file. What a repository cuts itself is smaller; copies come from any."""

HexId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
BlobSize = Annotated[int, msgspec.Meta(ge=0, le=MAX_RAW_SIZE)]
FrameSize = Annotated[int, msgspec.Meta(ge=HEADER_SIZE, le=HEADER_SIZE + MAX_RAW_SIZE)]
Path = Annotated[str, msgspec.Meta(min_length=1, max_length=65536)]


class CuttingRules(msgspec.Struct, frozen=True, kw_only=True):
    """How files are cut (bytes). Fixed for the life of a repository: see ``zitcache.cache.cutting``."""

    piece_size: Annotated[int, msgspec.Meta(ge=4096, le=MAX_PIECE_SIZE)] = 4 * MIB
    merge_below: Annotated[int, msgspec.Meta(ge=0, le=64 * MIB)] = MIB


class RepositoryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The object ``config``. ``features``: flags that a reader must know, or refuse the repository.

    ``storage``: what the endpoint of a remote repository can do.
    """

    format: Literal["zitcache"] = "zitcache"
    version: int = FORMAT_VERSION
    id: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
    created: str
    features: list[str] = []
    cutting: CuttingRules = CuttingRules()
    pack_size: Annotated[int, msgspec.Meta(ge=1 * MIB, le=1024 * MIB)] = 64 * MIB
    storage: StorageTraits | msgspec.UnsetType | None = msgspec.UNSET


class BlobRecord(msgspec.Struct, frozen=True, array_like=True):
    """One frame in a pack: blob id, frame kind, offset and length of the frame, size of the decoded blob."""

    id: HexId
    kind: Annotated[int, msgspec.Meta(ge=0, le=255)]
    offset: Size
    length: FrameSize
    raw_size: BlobSize


class PackRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One pack in an index object."""

    id: HexId
    size: Size
    blobs: list[BlobRecord]


class PackContents(msgspec.Struct, frozen=True, kw_only=True):
    """The table of contents at the end of a pack. ``salt``: random, so that no pack's name comes twice."""

    version: Literal[1] = 1
    blobs: list[BlobRecord]
    salt: str | msgspec.UnsetType = msgspec.UNSET


class IndexRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An index object: which blob lies where, for some packs."""

    version: Literal[1] = 1
    packs: list[PackRecord]


class PieceList(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a file of more than one piece: length and blob id of each, in order."""

    version: Literal[1] = 1
    size: Size
    pieces: list[tuple[Size, HexId]]


class TreeEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One name in a cache.

    ``path_bytes``/``target_bytes``: base64 of the exact bytes where a name is not UTF-8. ``blob``: content
    of a file of one piece; ``pieces``: the blob with its :class:`PieceList` otherwise; neither for an empty
    file. ``read_at``: seconds since the epoch when the content was last read in full.
    """

    path: Path
    kind: Literal["file", "directory", "symlink", "hardlink"]
    mode: Annotated[int, msgspec.Meta(ge=0, le=0o7777)]
    mtime_ns: int
    size: Size = 0
    ctime_ns: int = 0
    inode: int = 0
    blake3: HexId | None = None
    sha256: HexId | None = None
    blob: HexId | None = None
    pieces: HexId | None = None
    read_at: int = 0
    target: str | None = None
    path_bytes: str | None = None
    target_bytes: str | None = None

    @property
    def real_path(self) -> str:
        """The path with undecodable bytes as surrogate escapes, as ``os`` functions take it."""
        return real_name(self.path, self.path_bytes)

    @property
    def real_target(self) -> str:
        """The target likewise; "" if there is none."""
        return real_name(self.target or "", self.target_bytes)


class TreeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a snapshot's tree: entries sorted by the bytes of their path."""

    version: Literal[1] = 1
    entries: list[TreeEntry]


class SnapshotModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model in a snapshot; ``path`` and ``root`` are relative to the cache ("" for the cache itself)."""

    id: str
    revision: str
    layout: str
    path: str
    root: str
    size_bytes: Size
    complete: bool


class DamageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A file whose content changed while its size and time did not. BLAKE3 of what was and of what is."""

    path: str
    expected: HexId
    found: HexId


class SnapshotRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot: the root of everything that can be restored."""

    version: Literal[1] = 1
    time: str
    host: str
    cache: Path
    cache_bytes: str | None = None
    program: str
    trees: list[HexId]
    models: list[SnapshotModel] = []
    files: Size
    size_bytes: Size
    bytes_new_stored: Size = 0
    suspect: bool = False
    suspect_reasons: list[str] = []
    damage: list[DamageRecord] = []
    left_out: list[str] = []
    tags: list[str] = []
    parent: HexId | None = None

    @property
    def real_cache(self) -> str:
        """The cache's path with undecodable bytes as surrogate escapes."""
        return real_name(self.cache, self.cache_bytes)

    @property
    def is_good(self) -> bool:
        """Whether it may be restored without a second thought: nothing damaged, nothing missing."""
        return not self.suspect and not self.left_out


class DigestRecord(msgspec.Struct, frozen=True, kw_only=True):
    """SHA-256 of contents by their BLAKE3, found out after the snapshot was written."""

    version: Literal[1] = 1
    sha256: dict[str, HexId]


class CheckRecord(msgspec.Struct, frozen=True, kw_only=True):
    """When each pack was last read and found sound (seconds since the epoch)."""

    version: Literal[1] = 1
    packs: dict[str, int]


RecordT = TypeVar("RecordT", bound=msgspec.Struct)


def decode_record(data: bytes, kind: type[RecordT], what: str) -> RecordT:
    """Decode JSON into ``kind``. Raises :class:`IntegrityError` naming ``what`` if it does not fit."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise IntegrityError(f"The {what} cannot be read: {error}.") from None


def portable(text: str) -> tuple[str, str | None]:
    """A name as valid Unicode, and base64 of its exact bytes if it is not valid UTF-8."""
    raw = os.fsencode(text)
    try:
        return raw.decode("utf-8"), None
    except UnicodeDecodeError:
        return raw.decode("utf-8", "replace"), base64.b64encode(raw).decode("ascii")


def real_name(text: str, encoded: str | None) -> str:
    """The inverse of :func:`portable`. Raises :class:`IntegrityError`."""
    if encoded is None:
        # The repository speaks UTF-8; in a GBK locale, say, file names here go through another encoding.
        return text if text.isascii() else os.fsdecode(text.encode("utf-8", "surrogatepass"))
    try:
        return os.fsdecode(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError):
        raise IntegrityError("A recorded name is not valid base64.") from None
