"""What models a cache has, and whether each is all there, judged by names, sizes and headers."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from zitcache.cache.completeness import FileFacts, Problem, file_facts, model_problems
from zitcache.cache.exclusions import directory_exclusion, file_exclusion
from zitcache.cache.layouts import Layout, ModelLocation, find_models

__all__ = ["Inventory", "Model", "ModelFile", "Problem", "inventory", "model_files"]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of a model. ``path`` and ``content_path`` are relative to the cache root.

    ``content_path`` is the path of the regular file that has the bytes: another one than ``path`` in a
    Hugging Face cache, where snapshots are links to blobs. ``size`` is that file's, in bytes.
    """

    path: str
    size: int
    content_path: str


@dataclass(frozen=True, slots=True)
class Model:
    """A model at one revision with its files, the bytes per safetensors dtype, and what is wrong with it."""

    id: str
    revision: str
    layout: Layout
    path: Path
    root: Path
    files: tuple[ModelFile, ...]
    size_bytes: int
    dtypes: dict[str, int]
    complete: bool
    problems: tuple[Problem, ...]
    location: ModelLocation


@dataclass(frozen=True, slots=True)
class Inventory:
    """All models of the cache at ``root``, sorted by id."""

    root: Path
    models: tuple[Model, ...]


def inventory(root: Path) -> Inventory:
    """Take stock of the cache at ``root``. Reads headers and small JSON files only, never whole weights."""
    locations = find_models(root)
    return Inventory(root, tuple(_take_stock(root, location, locations) for location in locations))


def model_files(root: Path, location: ModelLocation) -> tuple[list[ModelFile], list[Problem]]:
    """The files of a model sorted by path, and what was found that is not one (broken links, leftovers)."""
    files: list[ModelFile] = []
    problems: list[Problem] = []
    pending = [(location.path, "")]
    while pending:
        directory, prefix = pending.pop()
        try:
            with os.scandir(directory) as scan:
                entries = list(scan)
        except OSError as error:
            message = f"The folder cannot be read: {error.strerror or error}."
            problems.append(Problem("unreadable", prefix.rstrip("/") or None, message))
            continue
        names = frozenset(entry.name for entry in entries)
        for entry in entries:
            path = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                if _is_part_of_model(location, prefix, entry.name, names, problems):
                    pending.append((directory / entry.name, path + "/"))
                continue
            _take_file(root, location, entry, path, names, files, problems)
    files.sort(key=lambda file: os.fsencode(file.path))
    problems.sort(key=lambda problem: os.fsencode(problem.path or ""))
    return files, problems


def _is_part_of_model(
    location: ModelLocation, prefix: str, name: str, names: frozenset[str], problems: list[Problem]
) -> bool:
    why = directory_exclusion(prefix, name, names)
    if why is not None:
        if why[0] == "unfinished-download":
            problems.append(Problem(why[0], prefix + name, why[1]))
        return False
    if prefix:
        return True
    # Notes of the download tools are not the model, nor is a cache that someone nested in its folder.
    return not (
        name in {".cache", ".git"} or (location.layout is Layout.PLAIN and name.startswith("models--"))
    )


def _take_file(
    root: Path,
    location: ModelLocation,
    entry: os.DirEntry[str],
    path: str,
    names: frozenset[str],
    files: list[ModelFile],
    problems: list[Problem],
) -> None:
    try:
        link_status = entry.stat(follow_symlinks=False)
        why = file_exclusion(path[: -len(entry.name)], entry.name, names, link_status)
        if why is not None:
            if why[0] == "unfinished-download":
                problems.append(Problem(why[0], path, why[1]))
            return
        if entry.is_symlink() and not Path(entry.path).exists():
            target = Path(entry.path).readlink()
            problems.append(Problem("dangling-link", path, f"It points to {target}, which does not exist."))
            return
        if not entry.is_file():
            return
        size = entry.stat().st_size
    except OSError as error:
        problems.append(Problem("unreadable", path, f"It cannot be read: {error.strerror or error}."))
        return
    content = os.path.relpath(os.path.realpath(entry.path), os.path.realpath(root))
    files.append(ModelFile(os.path.relpath(location.path / path, root), size, content))


def _take_stock(root: Path, location: ModelLocation, all_locations: Iterable[ModelLocation]) -> Model:
    files, problems = model_files(root, location)
    facts = [_facts(root, location, file) for file in files]
    problems += model_problems(location, facts, all_locations)
    dtypes: Counter[str] = Counter()
    for fact in facts:
        dtypes.update(fact.dtypes)
    return Model(
        id=location.id,
        revision=location.revision,
        layout=location.layout,
        path=location.path,
        root=location.root,
        files=tuple(files),
        size_bytes=sum(file.size for file in files),
        dtypes=dict(sorted(dtypes.items())),
        complete=not any(problem.makes_incomplete for problem in problems),
        problems=tuple(problems),
        location=location,
    )


def _facts(root: Path, location: ModelLocation, file: ModelFile) -> FileFacts:
    full_path = root / file.path
    return file_facts(full_path, os.path.relpath(full_path, location.path), file.size)
