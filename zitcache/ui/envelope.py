"""The one JSON object that ``--json`` prints, on success and on failure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from zitcache.events import Notice
from zitcache.machine.plain import plain

SCHEMA = "zitcache/1"


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a command could not finish: a stable ``code``, what and why, and the next step."""

    code: str
    message: str
    hint: str | None
    exit_code: int


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """``ok`` is true exactly when ``exit_code`` is 0. Fields are only ever added."""

    schema: str = SCHEMA
    command: str | None
    ok: bool
    exit_code: int
    data: object
    warnings: Sequence[Notice]
    error: Failure | None


def encode(envelope: Envelope, *, indent: bool = False) -> str:
    """The envelope as one JSON object and a newline; ``indent`` spreads it over lines for a reader."""
    raw = msgspec.json.encode(plain(envelope))
    if indent:
        raw = msgspec.json.format(raw, indent=2)
    return raw.decode() + "\n"
