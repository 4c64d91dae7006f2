"""``checksum``: write the fingerprint of a cache."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from zitcache.cache.fingerprint import FileFingerprint, Fingerprint, make_fingerprint, to_json
from zitcache.cache.fingerprint_set import fingerprints_to_json
from zitcache.cache.inventory import Inventory, Model, inventory
from zitcache.cache.sha256sums import to_sha256sums
from zitcache.errors import (
    CacheNotFound,
    Exit,
    RepositoryNotFound,
    UsageError,
    ZitcacheError,
    from_os_error,
)
from zitcache.events import Outcome, Session
from zitcache.machine.files import write_durably
from zitcache.repository.digests import known_sha256, record_sha256
from zitcache.repository.repository import Repository
from zitcache.repository.selection import list_snapshots, newest_good
from zitcache.tasks.digesting import digest_files
from zitcache.tasks.hashing import Digests
from zitcache.tasks.locations import live_cache, open_repository
from zitcache.tasks.reading import FileRead, Wanted
from zitcache.tasks.settings import resolve_repository


@dataclass(frozen=True, slots=True)
class ChecksumRequest:
    """``output``: the fingerprint as JSON; ``sha256sums``: a file that ``sha256sum -c`` accepts.

    The names in the latter are relative to the cache, wherever the file lies:
    ``cd CACHE && sha256sum -c FILE``.
    """

    cache: str | None = None
    repository: str | None = None
    output: Path | None = None
    sha256sums: Path | None = None


class ChecksumReport(msgspec.Struct, kw_only=True):
    """``fingerprints``: one per model, as written to ``output``.

    ``recorded``: SHA-256 that were added to the repository. ``files``: names in the fingerprints;
    ``left_out``: names whose content could not be read as it is.
    """

    cache: str
    files: int
    bytes_read: int
    seconds: float
    output: str | None
    sha256sums: str | None
    recorded: int
    fingerprints: list[msgspec.Raw]
    left_out: list[str] = []


@dataclass(frozen=True, slots=True)
class _Read:
    """What reading a file told."""

    size: int
    digests: Digests


def checksum(request: ChecksumRequest, session: Session) -> Outcome[ChecksumReport]:
    """Read every file once and fingerprint it.

    Exit codes: 0; 3 if a file changed while it was read, or could not be read (it is in no fingerprint then).
    Raises ``CacheNotFound``, ``UsageError`` where an output is a directory, ``NoSpace``, …
    """
    started = time.monotonic()
    cache = live_cache(request.cache, session)
    for output in (request.output, request.sha256sums):
        _refuse_unwritable(output)
    repository = _repository(request, session)
    stock = inventory(cache)
    if not any(model.files for model in stock.models):
        raise CacheNotFound(f"The cache {cache} holds no model with a file in it.")
    contents = _contents(cache, stock)
    read = _read(cache, contents, session)
    prints = [_fingerprint(cache, model, contents, read) for model in stock.models]
    left_out = _say_what_is_left_out(stock, contents, read, session)
    _warn_incomplete(stock, session)
    if request.output is not None:
        _write(request.output, fingerprints_to_json(prints))
    if request.sha256sums is not None:
        _write(request.sha256sums, to_sha256sums(_sums(stock, contents, read)))
    recorded = _record(repository, cache, read.values(), session) if repository is not None else 0
    report = ChecksumReport(
        cache=str(cache),
        files=sum(len(fingerprint.files) for fingerprint in prints),
        bytes_read=sum(content.size for content in read.values()),
        seconds=time.monotonic() - started,
        output=str(request.output) if request.output else None,
        sha256sums=str(request.sha256sums) if request.sha256sums else None,
        recorded=recorded,
        fingerprints=[msgspec.Raw(to_json(fingerprint).rstrip()) for fingerprint in prints],
        left_out=left_out,
    )
    return Outcome(data=report, warnings=session.warnings, exit_code=Exit.PARTIAL if left_out else Exit.OK)


# -- reading --------------------------------------------------------------------------------------------


def _contents(cache: Path, stock: Inventory) -> dict[str, str]:
    """By the path of a model file: the one path under which its content is read.

    A blob that several snapshots or models show, and a file with several hard-linked names, is read once.
    """
    first_names: dict[tuple[int, int], str] = {}
    contents = {}
    for model in stock.models:
        for file in model.files:
            try:
                status = os.lstat(cache / file.content_path)
                content = first_names.setdefault((status.st_dev, status.st_ino), file.content_path)
            except OSError:
                content = file.content_path
            contents[file.path] = content
    return contents


def _read(cache: Path, contents: dict[str, str], session: Session) -> dict[str, _Read]:
    """The digests of every content that could be read, by its path."""
    read: dict[str, _Read] = {}
    lock = threading.Lock()

    def on_file(found: FileRead[str]) -> None:
        if found.digests is not None and found.identity is not None:
            with lock:
                read[found.key] = _Read(found.identity.size, found.digests)

    paths = sorted(set(contents.values()), key=os.fsencode)
    session.progress.stage("Fingerprinting", sum(_size(cache / path) for path in paths))
    wanted = [Wanted(path, os.path.join(cache, path)) for path in paths]
    digest_files(wanted, session, sha256=True, on_file=on_file)
    return read


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


# -- results --------------------------------------------------------------------------------------------


def _fingerprint(cache: Path, model: Model, contents: dict[str, str], read: dict[str, _Read]) -> Fingerprint:
    files = [
        FileFingerprint(
            os.path.relpath(cache / file.path, model.path),
            content.size,
            content.digests.blake3,
            content.digests.sha256,
        )
        for file in model.files
        if (content := read.get(contents[file.path])) is not None
    ]
    return make_fingerprint(model.id, model.revision, model.layout.value, files)


def _sums(stock: Inventory, contents: dict[str, str], read: dict[str, _Read]) -> list[tuple[str, str]]:
    return [
        (path, content.digests.sha256)
        for path in sorted({file.path for model in stock.models for file in model.files})
        if (content := read.get(contents[path])) is not None and content.digests.sha256 is not None
    ]


def _say_what_is_left_out(
    stock: Inventory, contents: dict[str, str], read: dict[str, _Read], session: Session
) -> list[str]:
    names = {file.path for model in stock.models for file in model.files}
    left_out = sorted((path for path in names if contents[path] not in read), key=os.fsencode)
    for path in left_out:
        session.warn(
            "not-fingerprinted",
            f"{path} is in no fingerprint: it changed while it was read, or could not be read.",
            "Run this again when nothing writes to the cache.",
        )
    return left_out


def _warn_incomplete(stock: Inventory, session: Session) -> None:
    for model in stock.models:
        if not model.complete:
            problem = next((problem for problem in model.problems if problem.makes_incomplete), None)
            session.warn(
                "model-incomplete",
                f"{model.id} is not complete, and so is its fingerprint: {problem}",
                "See: zitcache models",
            )


def _refuse_unwritable(output: Path | None) -> None:
    """Fail before 32 GB are read, not after."""
    if output is None:
        return
    if output.is_dir():
        raise UsageError(f"{output} is a directory.", hint=f"Name a file in it: {output / 'checksums'}")
    if output.exists() and not output.is_file():
        raise UsageError(f"{output} is a device or pipe, not a file.", hint="Name a file.")
    if not output.parent.is_dir():
        raise UsageError(
            f"The directory {output.parent} does not exist, so {output.name} cannot be written there.",
            hint=f"Make it: mkdir -p {output.parent}",
        )


def _write(path: Path, data: bytes) -> None:
    try:
        # A link to the file stays a link: what it points to is replaced.
        write_durably(os.path.realpath(path), data)
    except OSError as error:
        raise from_os_error(error, f"writing {path}") from error


# -- the repository -------------------------------------------------------------------------------------


def _repository(request: ChecksumRequest, session: Session) -> Repository | None:
    """The repository in which to record digests, if there is one. One that was named must be there."""
    try:
        return open_repository(request.repository, session)
    except ZitcacheError as error:
        if request.repository is not None:
            raise
        if not isinstance(error, RepositoryNotFound) or resolve_repository(None).value is not None:
            _warn_not_recorded(error, session)
        return None


def _record(repository: Repository, cache: Path, read: Iterable[_Read], session: Session) -> int:
    """Record the SHA-256 of contents for which the newest good snapshot has only BLAKE3; returns how many."""
    try:
        lacking = _without_sha256(repository, cache)
        learnt = {
            content.digests.blake3: content.digests.sha256
            for content in read
            if content.digests.sha256 is not None and content.digests.blake3 in lacking
        }
        record_sha256(repository, learnt)
    except (ZitcacheError, OSError) as error:
        reason = error if isinstance(error, ZitcacheError) else from_os_error(error, "recording digests")
        # What was asked for is done; that it could not be written down there, too, is no failure.
        _warn_not_recorded(reason, session)
        return 0
    return len(learnt)


def _without_sha256(repository: Repository, cache: Path) -> set[str]:
    snapshots, _ = list_snapshots(repository)
    own = [snapshot for snapshot in snapshots if snapshot.record.real_cache == str(cache)]
    newest = newest_good(own) or newest_good(snapshots)
    if newest is None:
        return set()
    lacking = {
        entry.blake3
        for entry in repository.tree(newest.record)
        if entry.blake3 is not None and entry.sha256 is None
    }
    return lacking - known_sha256(repository).keys() if lacking else lacking


def _warn_not_recorded(error: ZitcacheError, session: Session) -> None:
    session.warn("not-recorded", f"No digest was recorded in the repository: {error.message}", error.hint)
