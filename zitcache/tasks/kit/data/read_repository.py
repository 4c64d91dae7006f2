#!/usr/bin/env python3
# mypy: ignore-errors
"""Get model weights out of a zitcache repository without zitcache: the last resort.

    python3 read_repository.py REPOSITORY                    list its snapshots
    python3 read_repository.py REPOSITORY SNAPSHOT TARGET    extract one: "latest", or the beginning of its id

Needs Python 3.8 or later and the program zstd. Verifies everything with BLAKE3 if the program b3sum or the
Python module blake3 is there; if not, whole files with SHA-256 where the snapshot has it, and says what it
could not verify. Written from docs/FORMAT.md alone, which explains every byte; shares no code with zitcache.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import posixpath
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

try:
    from blake3 import blake3
except ImportError:
    blake3 = None

DATA, PIECES, TREE, INDEX, SNAPSHOT, CONTENTS = range(6)
PLANES = {1: [(0, 1)], 2: [(0, 1), (1, 1)], 4: [(0, 2), (2, 1), (3, 1)], 8: [(0, 4), (4, 2), (6, 1), (7, 1)]}
MIB = 1 << 20
CAN_BLAKE3 = blake3 is not None or shutil.which("b3sum") is not None
AHEAD = min(4, os.cpu_count() or 1)


class Damaged(Exception):
    """These bytes are not what they should be."""


def need(condition, what):
    """Raise Damaged unless the condition holds."""
    if not condition:
        raise Damaged(what)


def is_size(value, low=0, high=1 << 62):
    """Whether a value from JSON is an integer within bounds."""
    return type(value) is int and low <= value <= high


def is_id(value):
    """Whether a value is a hash in hex."""
    return type(value) is str and re.fullmatch("[0-9a-f]{64}", value) is not None


def digest(file, with_blake3):
    """BLAKE3 or SHA-256 of the rest of an open file, in hex."""
    if with_blake3 and blake3 is None:
        return subprocess.run(["b3sum"], stdin=file, stdout=subprocess.PIPE, check=True).stdout[:64].decode()
    hasher = blake3() if with_blake3 else hashlib.sha256()
    for part in iter(lambda: file.read(MIB), b""):
        hasher.update(part)
    return hasher.hexdigest()


def matches(data, wanted):
    """Whether the BLAKE3 of some bytes is `wanted`, as far as it can be computed here."""
    if not CAN_BLAKE3:
        return True
    if blake3 is not None:
        return blake3(data).hexdigest() == wanted
    with as_file(data) as file:
        return digest(file, True) == wanted


def as_file(data):
    """A temporary file of these bytes, for another program to read."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    file.write(data)
    file.seek(0)
    return file


def unzstd(data, size):
    """The `size` bytes that zstd frames, one after the other, hold; never takes more of them."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with as_file(data) as file, subprocess.Popen(["zstd", "-dcq"], stdin=file, **pipes) as process:
        plain = process.stdout.read(size + 1)
        process.stdout.close()
    need(len(plain) == size and process.returncode == 0, "compressed data is damaged")
    return plain


def unrotate(low, high):
    """Bytes width-2 and width-1 of each number, from the two uppermost planes, 32 KiB as one integer."""
    first, second = bytearray(len(low)), bytearray(len(low))
    for start in range(0, len(low), 1 << 15):
        size = min(1 << 15, len(low) - start)
        part = slice(start, start + size)
        a, b = int.from_bytes(low[part], "little"), int.from_bytes(high[part], "little")
        ones = int.from_bytes(b"\x01" * size, "little")
        first[part] = (a >> 1 & ones * 127 | (b & ones) << 7).to_bytes(size, "little")
        second[part] = (b >> 1 & ones * 127 | (a & ones) << 7).to_bytes(size, "little")
    return first, second


def join_planes(payload, size):
    """Codec PLANES."""
    width, rotated, plane_count, tail, chunk = struct.unpack_from("<BBBBI", payload)
    shapes = PLANES.get(width, [])
    need(shapes and plane_count == len(shapes) and rotated <= (width > 1), "plane header")
    need(tail == size % width and 4096 <= chunk <= 1 << 17, "plane header")
    count = size // width
    position = 8 + 16 * len(shapes)
    planes, packed = [], b""
    for index, shape in enumerate(shapes):
        *found, mode, _, frames, stored = struct.unpack_from("<BBBBIQ", payload, 8 + 16 * index)
        data = payload[position : position + stored]
        position += stored
        need(tuple(found) == shape and len(data) == stored and mode <= 2, "plane descriptor")
        if mode == 1:
            need(frames == -(-count // chunk), "plane descriptor")
            need(4 * frames + sum(struct.unpack_from(f"<{frames}I", data)) == stored, "sizes of zstd frames")
            packed += data[4 * frames :]
        else:
            need(stored == (1 if mode else count) * shape[1], "plane descriptor")
        planes.append([data, None, data * count if mode == 2 else None][mode])
    need(len(payload) - position == tail, "planes do not fill the payload")
    sizes = [0 if planes[i] is not None else count * shape[1] for i, shape in enumerate(shapes)]
    plain = unzstd(packed, sum(sizes)) if packed else b""  # one call for all planes
    planes = [plain[sum(sizes[:i]) : sum(sizes[: i + 1])] if sizes[i] else p for i, p in enumerate(planes)]
    if rotated:
        planes[-2:] = unrotate(*planes[-2:])
    out = bytearray(size)
    for index, (offset, plane_width) in enumerate(shapes):
        for byte in range(plane_width):
            out[offset + byte : count * width : width] = planes[index][byte::plane_width]
    out[count * width :] = payload[position:]
    return bytes(out)


def decode(frame, kind, wanted=None):
    """The blob in a frame. Its hash covers what the check bytes do: a wrong header gives a wrong blob."""
    need(len(frame) >= 64 and frame[:4] == b"ZCF1", "not a frame")
    codec, flags, found, reserved, size, payload_size, blob_id = struct.unpack_from("<BBBBQQ32s", frame, 4)
    payload, blob_id = frame[64:], blob_id.hex()
    need(flags == 0 and reserved == 0 and codec <= 3, "the frame needs a newer reader, or is damaged")
    need(found == kind and wanted in (None, blob_id), "another frame than expected")
    need(len(payload) == payload_size and size <= 256 * MIB, "sizes in a frame header")
    try:
        if codec == 3:
            need(1 <= payload_size <= 8, "constant blob")
            blob = (payload * (size // payload_size + 1))[:size]
        else:
            blob = [lambda *_: payload, unzstd, join_planes][codec](payload, size)
    except struct.error:
        raise Damaged("plane header") from None
    need(len(blob) == size and matches(blob, blob_id), "the content of a blob does not match its id")
    return blob


def record(data, field, kind):
    """A JSON record of version 1 whose `field` is a list of `kind`."""
    try:
        found = json.loads(data.decode())
    except (ValueError, RecursionError):
        raise Damaged("not JSON") from None
    need(type(found) is dict and found.get("version", 1) == 1, "not a record of version 1")
    values = found.get(field)
    need(type(values) is list and all(type(value) is kind for value in values), f"field {field}")
    return found


def name_of(entry, field):
    """A file name or link target with its exact bytes."""
    exact = entry.get(field + "_bytes")
    try:
        raw = entry[field].encode() if exact is None else base64.b64decode(exact, validate=True)
    except (KeyError, ValueError, TypeError, AttributeError):
        raise Damaged("a name that makes no sense") from None
    return os.fsdecode(raw)


class Repository:
    """Where every blob lies: `places[id]` is a list of (pack, offset, length, kind, size)."""

    def __init__(self, root):
        self.root, self.places, self.indexed = root, {}, {}

    def names(self, folder):
        """The ids of the objects in a folder."""
        path = self.root / folder
        return sorted(child.name for child in path.glob("*") if is_id(child.name))

    def each(self, folder, action):
        """What `action` gives for each object of a folder; damaged ones are said and passed over."""
        found = {}
        for name in self.names(folder):
            try:
                found[name] = action(name)
            except (Damaged, OSError) as error:  # noqa: PERF203 - one bad object must not hide the others
                print(f"{folder}/{name[:8]} is passed over: {error}", file=sys.stderr)
        return found

    def load_index(self):
        """Find every blob: index objects first, then the packs themselves."""
        self.each("index", self.load_index_object)
        self.each("packs", self.load_pack)

    def load_index_object(self, name):
        """Learn what some packs hold."""
        for pack in record(self.load("index", name, INDEX), "packs", dict)["packs"]:
            self.indexed[str(pack.get("id"))] = pack.get("size"), rows(pack)

    def load_pack(self, name):
        """Learn where the blobs of a pack lie, from its own table of contents if no index object names it."""
        size = (self.root / "packs" / name).stat().st_size
        indexed_size, blobs = self.indexed.get(name, (None, []))
        if indexed_size != size:
            trailer = self.read("packs", name, max(0, size - 32), 32)
            offset, length, magic = struct.unpack_from("<QQ8s", trailer)
            need(magic == b"ZCPKEND1" and offset + length + 32 == size and length <= 64 * MIB, "its end")
            blobs = rows(record(decode(self.read("packs", name, offset, length), CONTENTS), "blobs", list))
        for row in blobs:
            self.places.setdefault(row[0], []).append((name, row[2], row[3], row[1], row[4]))

    def load_snapshot(self, name):
        """A snapshot's record."""
        snapshot = record(self.load("snapshots", name, SNAPSHOT), "trees", str)
        need(re.fullmatch("[0-9TZ:.-]{20,30}", str(snapshot.get("time"))), "field time")
        need(is_size(snapshot.get("size_bytes")) and name_of(snapshot, "cache"), "field size_bytes or cache")
        return snapshot

    def load(self, folder, name, kind):
        """The blob of an object that is one frame."""
        data = self.read(folder, name, 0, min((self.root / folder / name).stat().st_size, 256 * MIB + 64))
        need(matches(data, name), "it does not match its name")
        return decode(data, kind)

    def read(self, folder, name, offset, length):
        """Bytes of an object."""
        with (self.root / folder / name).open("rb") as file:
            file.seek(offset)
            data = file.read(length)
        need(len(data) == length, "it is cut short")
        return data

    def blob(self, wanted, kind, size=None):
        """A blob, from the first of its places that is sound."""
        problem = "it is missing"
        for pack, offset, length, found_kind, found_size in self.places.get(wanted, ()):
            if found_kind == kind and size in (None, found_size):
                try:
                    blob = decode(self.read("packs", pack, offset, length), kind, wanted)
                    need(len(blob) == found_size, "it has another size")
                    return blob
                except (Damaged, OSError) as error:
                    problem = f"pack {pack[:8]}, offset {offset}: {error}"
        raise Damaged(f"blob {wanted[:8]}: {problem}")

    def pieces(self, entry):
        """(length, id) of each piece of a file."""
        size, pieces = entry.get("size", 0), []
        if entry.get("pieces") is not None:
            pieces = record(self.blob(str(entry["pieces"]), PIECES), "pieces", list)["pieces"]
        elif entry.get("blob") is not None:
            pieces = [[size, entry["blob"]]]
        good = all(len(each) >= 2 and is_size(each[0], 0, 64 * MIB) and is_id(each[1]) for each in pieces)
        need(good and sum(each[0] for each in pieces) == size, "the pieces do not add up to the file")
        return pieces

    def write(self, entry, path, pool):
        """Write a file; whether it could be verified."""
        waiting = deque()
        with path.open("xb") as file:
            for length, wanted in self.pieces(entry):
                waiting.append(pool.submit(self.blob, wanted, DATA, length))
                if len(waiting) > AHEAD:
                    file.write(waiting.popleft().result())
            while waiting:
                file.write(waiting.popleft().result())
        expected = entry.get("blake3" if CAN_BLAKE3 else "sha256")
        if expected is not None:
            with path.open("rb") as file:
                need(digest(file, CAN_BLAKE3) == expected, "the whole file does not match its digest")
        return CAN_BLAKE3 or expected is not None


def rows(pack):
    """The list of blobs in a pack, checked: id, kind, offset, length, size."""
    for row in pack["blobs"] if type(pack.get("blobs")) is list else [None]:
        need(type(row) is list and len(row) >= 5 and is_id(row[0]), "list of blobs")
        need(is_size(row[2]) and is_size(row[3], 64, 256 * MIB + 64), "list of blobs")
    return pack["blobs"]


def all_entries(repository, snapshot):
    """Everything in a snapshot by path, refused unless all of it is safe to write."""
    entries = {}
    for tree in snapshot["trees"]:
        for entry in record(repository.blob(tree, TREE), "entries", dict)["entries"]:
            path = name_of(entry, "path")
            need("\0" not in path and not {"", ".", ".."} & set(path.split("/")), f"unsafe path {path!r}")
            need(path not in entries, f"{path!r} occurs twice")
            need(entry.get("kind") in ("file", "directory", "symlink", "hardlink"), f"{path!r}: kind")
            need(is_size(entry.get("mode"), 0, 0o7777), f"{path!r}: mode")
            need(is_size(entry.get("size", 0)), f"{path!r}: size")
            need(is_size(entry.get("mtime_ns"), -(1 << 63), 1 << 63), f"{path!r}: mtime_ns")
            entries[path] = entry
    for path, entry in entries.items():
        parent = posixpath.dirname(path)
        while parent:
            kind = entries.get(parent, {"kind": "directory"})["kind"]
            need(kind == "directory", f"{path!r} lies below a {kind}")
            parent = posixpath.dirname(parent)
        if entry["kind"] == "symlink":
            inside = stays_inside(path, name_of(entry, "target"), name_of(snapshot, "cache"))
            need(inside, f"the symlink {path!r} leaves the cache")
        if entry["kind"] == "hardlink":
            first = entries.get(name_of(entry, "target"), {})
            need(first.get("kind") == "file", f"the hard link {path!r} points to nothing")
    return entries


def stays_inside(path, target, cache):
    """Whether the text of a symlink stays in the cache."""
    if target.startswith("/"):
        resolved = posixpath.relpath(posixpath.normpath(target), posixpath.normpath(cache))
    else:
        resolved = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return target and "\0" not in target and resolved != ".." and not resolved.startswith("../")


def extract(repository, entries, target):
    """Write files and directories, then links, then times. What failed, and how many are unverified."""
    failed, unverified = {}, 0
    target.mkdir(parents=True, exist_ok=True)
    need(not any(target.iterdir()), f"{target} is not empty")
    with ThreadPoolExecutor(AHEAD) as pool:
        for path, entry in entries.items():
            place = target / path
            (place if entry["kind"] == "directory" else place.parent).mkdir(parents=True, exist_ok=True)
            if entry["kind"] == "file":
                try:
                    unverified += not repository.write(entry, place, pool)
                    set_metadata(place, entry)
                except Damaged as error:
                    failed[path] = error
                    place.unlink()
    for path, entry in entries.items():
        if entry["kind"] == "hardlink" and name_of(entry, "target") in failed:
            failed[path] = "it is a second name of one that failed"
        elif entry["kind"] == "hardlink":
            os.link(target / name_of(entry, "target"), target / path)
    for path, entry in entries.items():
        if entry["kind"] == "symlink":
            (target / path).symlink_to(name_of(entry, "target"))
            os.utime(target / path, ns=(entry["mtime_ns"], entry["mtime_ns"]), follow_symlinks=False)
    for path in sorted((path for path in entries if entries[path]["kind"] == "directory"), reverse=True):
        set_metadata(target / path, entries[path])
    return failed, unverified


def set_metadata(path, entry):
    """Mode and time of a file or directory."""
    path.chmod(entry["mode"])
    os.utime(path, ns=(entry["mtime_ns"], entry["mtime_ns"]))


def check_config(root):
    """Refuse what this reader does not know. Without a config it goes on: frames say what they need."""
    try:
        config = json.loads((root / "config").read_bytes())
    except FileNotFoundError:
        print("config is missing; going on without it", file=sys.stderr)
        return
    except ValueError:
        raise Damaged("config is damaged; move it away to go on without it") from None
    need(type(config) is dict and config.get("format") == "zitcache", "this is no zitcache repository")
    need(config.get("version") == 1 and not config.get("features"), "the repository needs a newer reader")


def choose(snapshots, wanted):
    """The snapshot that is meant by the beginning of its id, or the newest that is good."""
    found = [snapshots[name] for name in snapshots if name.startswith(wanted.lower())]
    if wanted == "latest":
        unsuspicious = [found for found in snapshots.values() if not found.get("suspect")]
        found = ([found for found in unsuspicious if not found.get("left_out")] or unsuspicious)[-1:]
    need(len(found) == 1, f"{len(found)} snapshots fit {wanted!r}")
    return found[0]


def main(arguments):
    """The exit code: 0, 1 if something is damaged, 2 if the arguments make no sense."""
    if len(arguments) not in (1, 3) or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    repository = Repository(Path(arguments[0]))
    try:
        need(shutil.which("zstd"), "the program zstd is needed: apt install zstd")
        need(repository.root.is_dir(), f"there is no directory {repository.root}")
        check_config(repository.root)
        snapshots = repository.each("snapshots", repository.load_snapshot)  # before the index: see FORMAT.md
        snapshots = dict(sorted(snapshots.items(), key=lambda item: (item[1]["time"], item[0])))
        if len(arguments) == 1:
            for name, found in snapshots.items():
                note = "  SUSPECT" if found.get("suspect") else ""
                size = found["size_bytes"] / 1e9
                print(f"{name[:8]}  {found['time']}  {size:9.3f} GB  {name_of(found, 'cache')!r}{note}")
            return 0
        snapshot = choose(snapshots, arguments[1])
        repository.load_index()
        failed, unverified = extract(repository, all_entries(repository, snapshot), Path(arguments[2]))
    except (Damaged, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path, problem in failed.items():
        print(f"not extracted: {path!r}: {problem}", file=sys.stderr)
    if unverified:
        print(
            f"not verified: {unverified} files; install b3sum or the module blake3 to do it", file=sys.stderr
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
