"""The pictures of the page: the last one that a proof drew, and the golden of the same model."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import msgspec

from zitcache.proof.goldens import load_goldens
from zitcache.repository.repository import Repository
from zitcache.schedule.history import state_directory
from zitcache.tasks.overview.ages import iso_of

_MAX_PICTURE_BYTES = 16 << 20
_MAX_ATTESTATION_BYTES = 4 << 20
_PNG = b"\x89PNG\r\n\x1a\n"


class Picture(msgspec.Struct, kw_only=True):
    """A PNG with when and of what it was drawn. ``verdict``: of the proof that drew it, "" if not known."""

    png: bytes
    model: str
    time: str
    detail: str = ""
    verdict: str = ""


class _Judged(msgspec.Struct, frozen=True):
    verdict: str = ""
    reasons: list[str] = []


class _Attested(msgspec.Struct):
    model: str = ""
    time: str = ""
    host: str = ""
    judgement: _Judged = _Judged()


def last_picture(repository: Repository) -> Picture | None:
    """The newest picture that a proof left beside the repository (``REPOSITORY-proofs/``)."""
    for path in _pictures(repository)[:3]:
        png = _read_png(path)
        if png is not None:
            told = _attested(path.parent)
            return Picture(
                png=png,
                model=told.model,
                time=told.time or iso_of(path.stat().st_mtime),
                detail=" ".join(told.judgement.reasons[:1]) or told.host,
                verdict=told.judgement.verdict,
            )
    return None


def last_picture_path(repository: Repository) -> str | None:
    """Where the newest picture of a proof lies, if there is one here."""
    return next((str(path) for path in _pictures(repository)), None)


def golden_picture(repository: Repository, model: str | None) -> Picture | None:
    """The newest golden: of ``model`` if there is one, so that the two pictures can be compared."""
    goldens = sorted(load_goldens(repository), key=lambda golden: golden.record.time)
    chosen = [golden for golden in goldens if golden.record.model == model] or goldens
    if not chosen or not chosen[-1].record.picture.startswith(_PNG):
        return None
    record = chosen[-1].record
    return Picture(png=record.picture, model=record.model, time=record.time, detail=record.host)


def _pictures(repository: Repository) -> list[Path]:
    """The pictures of proofs, the newest first."""
    found: list[tuple[float, Path]] = []
    for folder in _folders(repository.storage.location):
        with contextlib.suppress(OSError):
            found += [(path.stat().st_mtime, path) for path in folder.glob("*/**/picture.png")]
    return [path for _, path in sorted(found, reverse=True)]


def _folders(location: str) -> Sequence[Path]:
    if "://" in location:
        return [state_directory() / "proofs"]
    return [Path(f"{location.rstrip('/')}-proofs")]


def _attested(folder: Path) -> _Attested:
    data = _read(folder / "attestation.json", _MAX_ATTESTATION_BYTES)
    try:
        return _Attested() if data is None else msgspec.json.decode(data, type=_Attested)
    except msgspec.MsgspecError:
        return _Attested()


def _read_png(path: Path) -> bytes | None:
    data = _read(path, _MAX_PICTURE_BYTES)
    return data if data is not None and data.startswith(_PNG) else None


def _read(path: Path, most: int) -> bytes | None:
    """A plain file of at most ``most`` bytes; None for anything else, such as a link to something endless."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > most:
            return None
        try:
            return file.read(most)
        except OSError:
            return None
