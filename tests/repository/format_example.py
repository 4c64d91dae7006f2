"""The pack that docs/FORMAT.md shows byte by byte.

``python -m tests.repository.format_example`` writes it into the page; a test compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import zstandard

from zitcache.codec import planes
from zitcache.codec.blob import EncodedBlob, blob_id, decode, encode
from zitcache.codec.frame import Codec, FrameHeader, FrameKind
from zitcache.repository.pack import PackWriter, pack_name
from zitcache.repository.records import PackRecord
from zitcache.storage.local import LocalStorage

PAGE = Path(__file__).parents[2] / "docs" / "FORMAT.md"
BEGIN, END = "<!-- example: begin -->", "<!-- example: end -->"
CONTENTS = (
    b"zitcache!\n",
    bytes(40),
    bytes.fromhex("803f 20c0 203e 4040 7f"),
)

_HEADER = (
    ("magic", 4),
    ("codec", 1),
    ("flags", 1),
    ("kind", 1),
    ("reserved", 1),
    ("raw size", 8),
    ("payload size", 8),
    ("id", 32),
    ("check", 8),
)
_PLANES = (
    ("width 2, rotated, 2 planes, tail of 1", 4),
    ("chunk", 4),
    ("plane (0, 1), mode RAW", 4),
    ("frames", 4),
    ("stored", 8),
    ("plane (1, 1), mode ZSTD", 4),
    ("frames", 4),
    ("stored", 8),
    ("data of plane (0, 1)", 4),
    ("size of the zstd frame", 4),
    ("zstd frame", 13),
    ("tail", 1),
)
_TRAILER = (("offset", 8), ("length", 8), ("magic", 8), ("check", 8))


def write_pack(directory: Path) -> tuple[PackRecord, bytes]:
    """Make the pack in a repository's ``directory``; its record and its bytes."""
    storage = LocalStorage(directory)
    writer = PackWriter(storage)
    for blob in _blobs():
        writer.add(blob)
    record = writer.commit()
    return record, storage.load(pack_name(record.id))


def _blobs() -> Iterator[EncodedBlob]:
    text, zeros, numbers = CONTENTS
    yield encode(text)
    yield encode(zeros)
    # So small a blob would be stored RAW, but a reader must take it as it comes.
    payload = b"".join(planes.encode(numbers, planes.Layout(2, True, (planes.Mode.RAW, planes.Mode.ZSTD))))
    header = FrameHeader(Codec.PLANES, FrameKind.DATA, len(numbers), len(payload), blob_id(numbers))
    yield EncodedBlob(header, (payload,))


def render(record: PackRecord, pack: bytes) -> str:
    """The text between the marks of the page."""
    lines = [f"Pack `{record.id}`, {len(pack)} bytes:", "", "```"]
    position = 0

    def dump(title: str, fields: tuple[tuple[str, int], ...]) -> None:
        nonlocal position
        lines.append(title)
        for name, size in fields:
            for start in range(0, size, 16):
                part = pack[position : position + min(16, size - start)]
                meaning = name if start == 0 else ""
                lines.append(f"{position:06x}  {part.hex(' '):47}  {meaning}".rstrip())
                position += len(part)

    payloads = [(("the blob", 10),), (("pattern", 8),), _PLANES]
    for number, (blob, payload) in enumerate(zip(record.blobs, payloads, strict=True), 1):
        dump(f"-- blob {number}: frame of {blob.length} bytes", (*_HEADER, *payload))
    size = len(pack) - 32 - position
    dump(f"-- table of contents: frame of {size} bytes", (*_HEADER, ("payload", size - 64)))
    dump("-- trailer", _TRAILER)
    _, contents = decode(pack[record.blobs[-1].offset + record.blobs[-1].length : -32])
    lines += ["```", "", "The table of contents, decoded and with line breaks added:", "", "```json"]
    rows = [json.dumps(row) for row in json.loads(contents)["blobs"]]
    lines += ['{"version": 1, "blobs": [', ",\n".join(f"  {row}" for row in rows), "]}", "```"]
    version = ".".join(map(str, zstandard.ZSTD_VERSION))
    return "\n".join([*lines, "", f"(Made with zstd {version}.)"])


def shown() -> str:
    """What the page shows now."""
    return PAGE.read_text().partition(BEGIN)[2].partition(END)[0].strip()


def main() -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        text = render(*write_pack(Path(folder)))
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
