"""Goldens: what known good weights drew, kept in the repository next to the snapshots (``goldens/<id>``).

A golden is found by the fingerprint of the weights and the settings. Of several, one from an identical
environment is taken first, then the one whose environment is most alike, then the newest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from zitcache.cache.fingerprint import FileFingerprint, digest_of
from zitcache.proof.environment import Environment
from zitcache.proof.settings import Settings
from zitcache.repository.records import HexId
from zitcache.repository.repository import Repository

FOLDER = "goldens"
MAX_PICTURE_BYTES = 64 << 20
_INDEX = "model_index.json"

Picture = Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_PICTURE_BYTES)]


class GoldenRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One golden as it lies in the repository (fields are only ever added; see docs/FORMAT.md).

    ``weights``: :func:`weights_digest` of the files it was drawn from. ``pixels``: BLAKE3 of
    ``<height> <width> 3\\n`` and the raw RGB bytes. ``picture``: the PNG. ``alive``: whether it looks like a
    picture; random weights draw none.
    """

    version: Literal[1] = 1
    time: str
    host: str
    program: str
    model: str
    revision: str
    weights: HexId
    settings: Settings
    environment: Environment
    pixels: HexId
    alive: bool
    picture: Picture


@dataclass(frozen=True, slots=True)
class Golden:
    """A golden with its id."""

    id: str
    record: GoldenRecord


def weights_digest(files: Iterable[FileFingerprint]) -> str:
    """The fingerprint of what a pipeline loads: ``model_index.json`` and the files of its components.

    Documentation and a hub's own notes in the top folder do not count, so that the same weights from
    ModelScope and from Hugging Face have the same goldens.
    """
    return digest_of(file for file in files if file.path == _INDEX or _is_of_component(file.path))


def save_golden(repository: Repository, record: GoldenRecord) -> str:
    """Store a golden and return its id. The same golden again changes nothing."""
    return repository.store_record(FOLDER, record)


def load_goldens(repository: Repository) -> list[Golden]:
    """All goldens, in no order. A damaged one is passed over."""
    return [Golden(name, record) for name, record in repository.load_records_by_id(FOLDER, GoldenRecord)]


def choose_golden(
    goldens: Sequence[Golden], settings: Settings, environment: Environment, pixels: str
) -> Golden | None:
    """The golden to compare a picture with; None if none was drawn with these settings.

    Of several from an identical environment, one with equal ``pixels`` if there is one.
    """

    def rank(golden: Golden) -> tuple[bool, int, bool, str]:
        differences = len(environment.differences(golden.record.environment))
        equal = golden.record.pixels == pixels
        return (differences == 0 and equal, -differences, equal, golden.record.time)

    fitting = [golden for golden in goldens if golden.record.settings == settings]
    return max(fitting, key=rank, default=None)


def _is_of_component(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return bool(folder) and not name.startswith(".") and not folder.startswith((".", "assets"))
