"""Reports as JSON types with valid Unicode, and back: what is printed, sent and kept must be both."""

from __future__ import annotations

import os
from enum import Enum

import msgspec

from zitcache.machine.texts import exact_text, json_text


def plain(value: object) -> object:
    """``value`` as JSON types: structs become objects, and every text valid Unicode (see ``texts``)."""
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


def exact(value: object) -> object:
    """What :func:`plain` was given, as JSON types: every text as it was."""
    if isinstance(value, str):
        return exact_text(value)
    if isinstance(value, dict):
        return {exact_text(str(key)): exact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [exact(item) for item in value]
    return value
