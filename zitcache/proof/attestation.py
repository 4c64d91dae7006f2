"""The attestation: what was drawn, from what, on what, when, how it was judged. JSON, for an archive."""

from __future__ import annotations

from typing import Literal

import msgspec

from zitcache.proof.environment import Environment
from zitcache.proof.fits import Fit
from zitcache.proof.judging import Judgement
from zitcache.proof.measures import Vitals
from zitcache.proof.settings import Settings
from zitcache.proof.similarity import Likeness

SCHEMA: Literal["zitcache-attestation/1"] = "zitcache-attestation/1"


class Attestation(msgspec.Struct, frozen=True, kw_only=True):
    """``weights``: fingerprint of the files that were loaded. ``files_verified``: whether a source vouched
    for every one of them. ``pixels``: BLAKE3 of ``<height> <width> 3\\n`` and the raw RGB bytes;
    ``picture_blake3``: of the PNG. ``golden``: id of what was compared with. ``network_attempts``: refused
    ones. Times in seconds."""

    schema: Literal["zitcache-attestation/1"] = SCHEMA
    time: str
    host: str
    program: str
    model: str
    revision: str
    weights: str
    files_verified: bool
    judgement: Judgement
    settings: Settings
    environment: Environment
    fit: Fit
    vitals: Vitals
    pixels: str
    picture: str
    picture_blake3: str
    golden: str | None
    likeness: Likeness | None
    seconds_load: float
    seconds_draw: float
    network_attempts: list[str]


def encode_attestation(attestation: Attestation) -> bytes:
    """Readable JSON with a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(attestation), indent=2) + b"\n"
