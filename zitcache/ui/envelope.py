"""The one JSON object that ``--json`` prints, on success and on failure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import Enum

import msgspec

from zitcache.events import Notice
from zitcache.ui.text import json_text

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


def plain(value: object) -> object:
    """``value`` as JSON types: structs become objects, and every text valid Unicode (see ``ui.text``)."""
    if isinstance(value, str):
        return json_text(value.value if isinstance(value, Enum) else value)
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, msgspec.Struct):
        return {
            field.encode_name: plain(getattr(value, field.name)) for field in msgspec.structs.fields(value)
        }
    if isinstance(value, msgspec.Raw):
        return plain(msgspec.json.decode(value))
    if isinstance(value, dict):
        return {json_text(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return json_text(os.fspath(value))
    return value
