"""Is a model all there: shards, components, headers. Judged by names, sizes and headers, not by content."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from zitcache.cache.damage import looks_like_html, looks_like_lfs_pointer
from zitcache.cache.layouts import WEIGHT_SUFFIXES, Layout, ModelLocation
from zitcache.cache.published import read_tree_listing
from zitcache.cache.safetensors_header import HeaderError, TruncatedFileError, read_header

JSON_MAX_BYTES = 64 << 20
"""No index or config of a model is larger; a larger file is reported and not read."""

_HARMLESS = frozenset({"shadowed", "shadows", "unfinished-download", "dangling-ref"})
_HEAD_BYTES = 4096
_INDEX_SUFFIX = ".index.json"
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.[^/]+)", re.DOTALL)
_WEIGHTLESS_CLASSES = re.compile(r"(Tokenizer(Fast)?|Scheduler|Processor(Fast)?|FeatureExtractor)$")
_NAMED_AT_MOST = 3


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a model. ``path`` is relative to the model's folder; None for all of it."""

    code: str
    path: str | None
    message: str

    @property
    def makes_incomplete(self) -> bool:
        """Whether the model cannot be counted as complete because of it."""
        return self.code not in _HARMLESS

    def __str__(self) -> str:
        return self.message if self.path is None else f"{self.path}: {self.message}"


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a look at one file told. ``path`` is relative to the model's folder, ``full_path`` absolute.

    ``tensors``: the names in a sound safetensors header, None for other files.
    """

    path: str
    full_path: Path
    size: int
    dtypes: Mapping[str, int] = field(default_factory=dict)
    tensors: frozenset[str] | None = None
    problem: Problem | None = None

    @property
    def is_weights(self) -> bool:
        """Whether the name is one of weights."""
        return self.path.endswith(WEIGHT_SUFFIXES)


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


_index_decoder = msgspec.json.Decoder(_Index)
_object_decoder = msgspec.json.Decoder(dict[str, Any])


def file_facts(full_path: Path, path: str, size: int) -> FileFacts:
    """Look at the header of a file. Everything that can be wrong with it becomes a :class:`Problem`."""
    if not path.endswith(WEIGHT_SUFFIXES):
        return FileFacts(path, full_path, size)
    try:
        fd = os.open(full_path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        problem = Problem("unreadable", path, f"It cannot be opened: {error.strerror or error}.")
        return FileFacts(path, full_path, size, problem=problem)
    try:
        return _weights_facts(fd, full_path, path, size)
    except OSError as error:
        problem = Problem("unreadable", path, f"It cannot be read: {error.strerror or error}.")
        return FileFacts(path, full_path, size, problem=problem)
    finally:
        os.close(fd)


def _weights_facts(fd: int, full_path: Path, path: str, size: int) -> FileFacts:
    problem = None
    if size == 0:
        problem = Problem("empty-file", path, "It has no bytes.")
    else:
        head = os.pread(fd, _HEAD_BYTES, 0)
        if looks_like_lfs_pointer(head):
            problem = Problem("lfs-pointer", path, "It holds the text of a Git LFS pointer, not the weights.")
        elif looks_like_html(head):
            problem = Problem("html-page", path, "It holds a web page, not the weights.")
    if problem is not None or not path.endswith(".safetensors"):
        return FileFacts(path, full_path, size, problem=problem)
    try:
        header = read_header(fd, size)
    except TruncatedFileError as error:
        missing = error.expected_size - size
        problem = Problem(
            "truncated", path, f"It ends {missing} bytes early: {size} of {error.expected_size}."
        )
    except HeaderError as error:
        problem = Problem("bad-header", path, str(error))
    else:
        dtypes: Counter[str] = Counter()
        for tensor in header.tensors:
            dtypes[tensor.dtype] += tensor.end - tensor.start
        names = frozenset(tensor.name for tensor in header.tensors)
        return FileFacts(path, full_path, size, dtypes=dtypes, tensors=names)
    return FileFacts(path, full_path, size, problem=problem)


def model_problems(
    location: ModelLocation, files: Sequence[FileFacts], all_locations: Iterable[ModelLocation]
) -> list[Problem]:
    """Everything wrong with a model beyond what listing its files told."""
    by_path = {file.path: file for file in files}
    problems = [file.problem for file in files if file.problem is not None]
    indexed: set[str] = set()
    for file in files:
        if file.path.endswith(_INDEX_SUFFIX):
            problems += _index_problems(file, by_path, indexed)
    problems += _numbering_problems(files, indexed)
    problems += _component_problems(by_path)
    problems += _listing_problems(location, by_path)
    problems += _shadow_problems(location, all_locations)
    return problems


def _index_problems(
    index: FileFacts, by_path: Mapping[str, FileFacts], indexed: set[str]
) -> Iterator[Problem]:
    folder = index.path.rpartition("/")[0]
    try:
        weight_map = _index_decoder.decode(_read_bounded(index)).weight_map
    except (msgspec.MsgspecError, ValueError, OSError, RecursionError) as error:
        yield Problem("bad-index", index.path, f"It is not a weight index: {error}.")
        return
    outside = sorted(
        shard for shard in weight_map.values() if shard.startswith("/") or ".." in shard.split("/")
    )
    if outside:
        yield Problem("bad-index", index.path, f"It names files outside of the model ({_some(outside)}).")
        return
    wanted: defaultdict[str, list[str]] = defaultdict(list)
    for tensor, shard in weight_map.items():
        wanted[f"{folder}/{shard}" if folder else shard].append(tensor)
    indexed.update(wanted)
    missing = sorted(path for path in wanted if path not in by_path)
    if len(missing) == len(wanted) and any(
        file.is_weights and file.problem is None and file.path.rpartition("/")[0] == folder
        for file in by_path.values()
    ):
        return  # The same weights in another format, of which only one was downloaded.
    for path in missing:
        yield Problem("missing-shard", path, f"{index.path} names this shard, but it is not there.")
    for path, tensors in sorted(wanted.items()):
        shard_file = by_path.get(path)
        if shard_file is not None and shard_file.tensors is not None:
            absent = [tensor for tensor in tensors if tensor not in shard_file.tensors]
            if absent:
                yield Problem(
                    "wrong-shard", path,
                    f"{len(absent)} tensors that {index.path} expects are not in it ({_some(absent)}).",
                )  # fmt: skip


def _numbering_problems(files: Sequence[FileFacts], indexed: set[str]) -> Iterator[Problem]:
    """Shards named ``x-00002-of-00003`` without an index still say how many there must be."""
    groups: defaultdict[tuple[str, int, str], set[int]] = defaultdict(set)
    for file in files:
        match = _SHARD.fullmatch(file.path)
        if match is not None and file.is_weights and file.path not in indexed:
            groups[match["stem"], int(match["count"]), match["suffix"]].add(int(match["number"]))
    for (stem, count, suffix), numbers in sorted(groups.items()):
        first = 0 if 0 in numbers else 1
        for number in range(first, first + count):
            if number not in numbers:
                path = f"{stem}-{number:05d}-of-{count:05d}{suffix}"
                yield Problem(
                    "missing-shard", path, f"The other shards say there are {count}; this one is missing."
                )


def _component_problems(by_path: Mapping[str, FileFacts]) -> Iterator[Problem]:
    index = by_path.get("model_index.json")
    if index is None:
        if "config.json" in by_path and not any(file.is_weights for file in by_path.values()):
            yield Problem("no-weights", None, "It has a configuration but no weights.")
        return
    try:
        entries = _object_decoder.decode(_read_bounded(index))
    except (msgspec.MsgspecError, ValueError, OSError, RecursionError) as error:
        yield Problem("bad-config", index.path, f"It is not a JSON object: {error}.")
        return
    for name, value in entries.items():
        if name.startswith("_") or not (isinstance(value, list) and len(value) == 2):
            continue
        class_name = value[1]
        if isinstance(class_name, str) and value[0] is not None:
            yield from _one_component(name, class_name, by_path)


def _one_component(name: str, class_name: str, by_path: Mapping[str, FileFacts]) -> Iterator[Problem]:
    inside = [file for path, file in by_path.items() if path.startswith(f"{name}/")]
    if not inside:
        yield Problem(
            "missing-component", name, f"model_index.json names this part ({class_name}); it is not there."
        )
    elif _WEIGHTLESS_CLASSES.search(class_name) is None:
        if not any(file.is_weights for file in inside):
            yield Problem("no-weights", name, f"This part ({class_name}) has no weights.")
        if f"{name}/config.json" not in by_path:
            yield Problem(
                "missing-file", f"{name}/config.json", f"This part ({class_name}) cannot load without it."
            )


def _listing_problems(location: ModelLocation, by_path: Mapping[str, FileFacts]) -> Iterator[Problem]:
    """A cached tree listing says what must be there; offline loading fails if any file of it is missing."""
    if location.layout not in {Layout.HUGGINGFACE, Layout.HUGGINGFACE_SHARED}:
        return
    listing = read_tree_listing(location) or {}
    missing = sorted(path for path in listing if path not in by_path)
    if missing:
        yield Problem(
            "missing-file", missing[0] if len(missing) == 1 else None,
            f"{len(missing)} of {len(listing)} files of this revision are not there ({_some(missing)}).",
        )  # fmt: skip
    for path, entry in sorted(listing.items()):
        file = by_path.get(path)
        size = entry.size if entry.lfs_size is None else entry.lfs_size
        if file is not None and file.size != size and file.problem is None:
            code = "truncated" if file.size < size else "extended"
            yield Problem(
                code, path, f"It has {file.size} bytes, but the listing of this revision says {size}."
            )


def _shadow_problems(location: ModelLocation, all_locations: Iterable[ModelLocation]) -> Iterator[Problem]:
    """``modelscope_hub`` takes any legacy folder that is not empty before it looks at the snapshot."""
    legacy = {Layout.MODELSCOPE_LEGACY, Layout.MODELSCOPE_LEGACY_HUB}
    for other in all_locations:
        if other.id != location.id or other.base != location.base:
            continue
        if location.layout is Layout.MODELSCOPE and other.layout in legacy:
            yield Problem(
                "shadowed", None, f"ModelScope loads the older folder {other.path} instead of this one."
            )
        elif location.layout in legacy and other.layout is Layout.MODELSCOPE:
            yield Problem("shadows", None, f"ModelScope loads this older folder instead of {other.path}.")


def _read_bounded(file: FileFacts) -> bytes:
    with file.full_path.open("rb") as stream:
        data = stream.read(JSON_MAX_BYTES + 1)
    if len(data) > JSON_MAX_BYTES:
        raise ValueError(f"it is larger than {JSON_MAX_BYTES} bytes")
    return data


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {rest} more" if rest > 0 else "")
