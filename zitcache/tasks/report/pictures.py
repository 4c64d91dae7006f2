"""The pictures of the page: the last one that a proof drew, and the golden of the same model."""

from __future__ import annotations

import contextlib
import os
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
    try:
        with (folder / "attestation.json").open("rb") as file:
            return msgspec.json.decode(file.read(_MAX_ATTESTATION_BYTES), type=_Attested)
    except (OSError, msgspec.MsgspecError):
        return _Attested()


def _read_png(path: Path) -> bytes | None:
    try:
        if os.path.getsize(path) > _MAX_PICTURE_BYTES:
            return None
        data = path.read_bytes()
    except OSError:
        return None
    return data if data.startswith(_PNG) else None
