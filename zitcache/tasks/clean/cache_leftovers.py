"""What broken downloads and killed runs leave in a model cache: one walk over the cache.

Names come from ``modelscope_hub/_download.py`` (``<file>.incomplete``, ``<file>_<first>_<last>``,
``<file>.parallel_tmp``), the older ``modelscope`` (``._____temp``), ``huggingface_hub/file_download.py``
(``blobs/<etag>.incomplete``, since 2.x ``<etag>.<8 hex>.incomplete``) and ``_local_folder.py``
(``.cache/huggingface/download``). A name counts only where those tools put it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from zitcache.cache.exclusions import OWN_PREFIX, is_download_part
from zitcache.cache.layouts import SHARED_BLOBS_MARKER, find_models
from zitcache.events import Cancel
from zitcache.tasks.clean.candidate import Candidate
from zitcache.tasks.clean.own_leftovers import own_leftover
from zitcache.tasks.clean.report import Kind

_LOCK_MAX_BYTES = 1024
_HF_REPOSITORY = re.compile(r"(models|datasets|spaces|kernels)--.+", re.DOTALL)
_HF_UNIQUE = re.compile(r".+\.[0-9a-f]{8}\.incomplete", re.DOTALL)
_LOCAL_NOTES = os.path.join(".cache", "huggingface", "download")

_RESUMABLE = "A download that broke off. The next one goes on from here; without it, it starts anew."
_USELESS = "A download that broke off; nothing can go on from it."
_SUPERSEDED = "A piece of a download; the whole file is there beside it."
_TEMPORARY_FOLDER = "Where an older ModelScope SDK keeps what it has not finished downloading."
_LOCKS = "Locks that downloads have left and nobody holds."


@dataclass(frozen=True, slots=True)
class _Folder:
    """``is_hub``: the download tools write here. ``locks``: folders with the locks that guard it;
    ``hf_locks``: folders with one such folder per repository."""

    path: str
    is_hub: bool = False
    locks: tuple[str, ...] = ()
    hf_locks: tuple[str, ...] = ()


def cache_leftovers(root: Path, cancel: Cancel) -> Iterator[Candidate]:
    """Unfinished downloads, locks and our own staging below ``root``. Symlinks and mounts are not entered."""
    hubs = {os.path.realpath(location.path) for location in find_models(root)}
    device = os.stat(root).st_dev
    pending = [_Folder(str(root), is_hub=str(root) in hubs)]
    while pending:
        cancel.check()
        folder = pending.pop()
        try:
            with os.scandir(folder.path) as scan:
                entries = sorted(scan, key=lambda entry: os.fsencode(entry.name))
        except OSError:
            continue
        names = frozenset(entry.name for entry in entries)
        folder = _with_locks(folder, names)
        if folder.path.endswith(_LOCAL_NOTES) or f"{_LOCAL_NOTES}{os.sep}" in folder.path:
            folder = replace(folder, is_hub=True, locks=(*folder.locks, folder.path))
            yield from _lock_group(folder.path, entries)
        for entry in entries:
            try:
                if not entry.is_dir(follow_symlinks=False):
                    if candidate := _file(folder, entry, names, str(root)):
                        yield candidate
                    continue
                if entry.stat(follow_symlinks=False).st_dev != device:
                    continue
            except OSError:
                continue
            inner = _child(folder, entry, hubs)
            candidates = list(_special_folder(folder, entry, str(root)))
            yield from candidates
            if (
                not candidates
                and not entry.name.startswith(OWN_PREFIX)
                and entry.name not in {".lock", ".locks"}
            ):
                pending.append(inner)


def _with_locks(folder: _Folder, names: frozenset[str]) -> _Folder:
    if ".lock" in names:
        folder = replace(folder, locks=(*folder.locks, os.path.join(folder.path, ".lock")))
    if ".locks" in names:
        folder = replace(folder, hf_locks=(*folder.hf_locks, os.path.join(folder.path, ".locks")))
    return folder


def _child(folder: _Folder, entry: os.DirEntry[str], hubs: set[str]) -> _Folder:
    is_repository = _HF_REPOSITORY.fullmatch(entry.name) is not None
    is_shared = entry.name == "blobs" and os.path.exists(os.path.join(entry.path, SHARED_BLOBS_MARKER))
    is_hub = (
        folder.is_hub
        or entry.path in hubs
        or is_repository
        or ("--" in entry.name and os.path.isdir(os.path.join(entry.path, "snapshots")))
        or is_shared
    )
    locks = folder.locks
    if is_repository:
        locks += tuple(os.path.join(place, entry.name) for place in folder.hf_locks)
    elif is_shared:
        locks += folder.hf_locks
    return _Folder(entry.path, is_hub, locks, folder.hf_locks)


def _special_folder(folder: _Folder, entry: os.DirEntry[str], root: str) -> Iterator[Candidate]:
    if entry.name == "._____temp":
        yield Candidate(
            entry.path, Kind.UNFINISHED_DOWNLOAD, _TEMPORARY_FOLDER, locks=(*folder.locks, entry.path)
        )
    elif entry.name == ".lock":
        yield from _lock_group(entry.path, _entries(entry.path), any_name=True)
    elif entry.name == ".locks":
        yield from _lock_group(entry.path, _entries(entry.path))
        for inner in _entries(entry.path):
            if inner.is_dir(follow_symlinks=False):
                yield from _lock_group(inner.path, _entries(inner.path))
    elif entry.name.startswith(OWN_PREFIX) and (candidate := own_leftover(entry, root)):
        yield candidate


def _file(folder: _Folder, entry: os.DirEntry[str], names: frozenset[str], root: str) -> Candidate | None:
    if entry.name.startswith(OWN_PREFIX):
        return own_leftover(entry, root)
    if not folder.is_hub or not entry.is_file(follow_symlinks=False):
        return None
    reason = _unfinished(entry, names)
    if reason is None:
        return None
    return Candidate(entry.path, Kind.UNFINISHED_DOWNLOAD, reason, locks=folder.locks)


def _unfinished(entry: os.DirEntry[str], names: frozenset[str]) -> str | None:
    """Why the file is a piece of a download, as a sentence; None if it is not one."""
    name = entry.name
    if name.endswith(".incomplete"):
        whole = name.removesuffix(".incomplete")
        if _HF_UNIQUE.fullmatch(name):
            return _SUPERSEDED if whole[:-9] in names else _USELESS
        return _SUPERSEDED if whole in names else _RESUMABLE
    if name.endswith(".parallel_tmp"):
        return _SUPERSEDED if name.removesuffix(".parallel_tmp") in names else _USELESS
    if name == "._____temp":
        return _USELESS
    if is_download_part(name, names, entry.stat(follow_symlinks=False)):
        return _SUPERSEDED if name.rsplit("_", 2)[0] in names else _RESUMABLE
    return None


def _lock_group(
    folder: str, entries: list[os.DirEntry[str]], *, any_name: bool = False
) -> Iterator[Candidate]:
    names = tuple(
        entry.name
        for entry in entries
        if (any_name or entry.name.endswith(".lock"))
        and entry.is_file(follow_symlinks=False)
        and entry.stat(follow_symlinks=False).st_size <= _LOCK_MAX_BYTES
    )
    if names:
        locks = tuple(os.path.join(folder, name) for name in names)
        yield Candidate(folder, Kind.STALE_LOCK, _LOCKS, names=names, locks=locks)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: os.fsencode(entry.name))
    except OSError:
        return []
