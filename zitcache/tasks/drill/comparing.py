"""Is what came back what there was: every name, byte, mode, time and link."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from zitcache.cache.tree import Kind
from zitcache.cache.walk import scan_tree
from zitcache.errors import IntegrityError
from zitcache.events import Session
from zitcache.repository.records import TreeEntry
from zitcache.tasks.digesting import digest_files
from zitcache.tasks.reading import FileRead, Wanted


@dataclass(frozen=True, slots=True)
class Facts:
    """What a restore has to bring back of one name. ``blake3`` of a file's content, ``target`` of a link."""

    kind: str
    size: int
    mode: int
    mtime_ns: int
    target: str | None
    blake3: str | None


def facts_on_disk(root: Path, session: Session, stage: str) -> dict[str, Facts]:
    """Everything below ``root`` by its path, every byte read. Raises what reading a file raises."""
    items = scan_tree(root).items
    files = [item.path for item in items if item.kind is Kind.FILE]
    digests: dict[str, str] = {}
    lock = threading.Lock()

    def on_file(read: FileRead[str]) -> None:
        if read.digests is None:
            raise read.error or IntegrityError(f"{read.path} could not be read: {read.problem}.")
        with lock:
            digests[read.key] = read.digests.blake3

    session.progress.stage(stage, sum(item.size for item in items))
    wanted = [Wanted(path, os.path.join(root, path)) for path in files]
    digest_files(wanted, session, sha256=False, on_file=on_file)
    return {
        item.path: Facts(
            item.kind.value, item.size, item.mode, item.mtime_ns, item.target, digests.get(item.path)
        )
        for item in items
    }


def facts_in_snapshot(entries: Iterable[TreeEntry]) -> dict[str, Facts]:
    """What a snapshot says of every name; the digests were taken when the originals were read."""
    return {
        entry.real_path: Facts(
            entry.kind,
            entry.size,
            entry.mode,
            entry.mtime_ns,
            entry.real_target if entry.kind in {"symlink", "hardlink"} else None,
            entry.blake3,
        )
        for entry in entries
    }


def differences(expected: dict[str, Facts], found: dict[str, Facts]) -> list[str]:
    """One sentence for each name that is not what it was."""
    sentences = []
    for path in sorted(expected.keys() | found.keys(), key=os.fsencode):
        before, after = expected.get(path), found.get(path)
        if after is None:
            sentences.append(f"{path} did not come back.")
        elif before is None:
            sentences.append(f"{path} was not there before.")
        elif (before.kind, before.size, before.blake3) != (after.kind, after.size, after.blake3):
            sentences.append(f"{path} has another content.")
        elif before.target != after.target:
            sentences.append(f"{path} points to another place.")
        elif (before.mode, before.mtime_ns) != (after.mode, after.mtime_ns):
            sentences.append(f"{path} has another mode or time.")
    return sentences
