"""The file that ``zitcache checksum -o`` writes: one fingerprint, or all those of a cache.

One model gives a plain fingerprint (see :mod:`zitcache.cache.fingerprint`), so that such files can be
compared as text; several give ``{"schema": "zitcache-fingerprints/1", "fingerprints": [...]}``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from zitcache.cache.fingerprint import Fingerprint, from_json, to_json
from zitcache.errors import UsageError

SCHEMA: Literal["zitcache-fingerprints/1"] = "zitcache-fingerprints/1"


class _WireSet(msgspec.Struct):
    schema: Literal["zitcache-fingerprints/1"]
    fingerprints: list[msgspec.Raw]


class _Probe(msgspec.Struct):
    """What tells a set from a single fingerprint."""

    schema: str = ""


_probe = msgspec.json.Decoder(_Probe)
_set_decoder = msgspec.json.Decoder(_WireSet)


def fingerprints_to_json(fingerprints: Sequence[Fingerprint]) -> bytes:
    """A single fingerprint as it is, any other number as a set; readable, with a newline at the end."""
    if len(fingerprints) == 1:
        return to_json(fingerprints[0])
    wire = _WireSet(SCHEMA, [msgspec.Raw(to_json(fingerprint)) for fingerprint in fingerprints])
    return msgspec.json.format(msgspec.json.encode(wire), indent=1) + b"\n"


def fingerprints_from_json(data: bytes) -> list[Fingerprint]:
    """Decode and check what :func:`fingerprints_to_json` wrote.

    Raises :class:`~zitcache.errors.UsageError` when it is neither a fingerprint nor a set of them, or when
    one of them is not whole.
    """
    try:
        is_set = _probe.decode(data).schema == SCHEMA
        raws = _set_decoder.decode(data).fingerprints if is_set else []
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(
            f"This is not a zitcache fingerprint: {error}.", hint="Write one with: zitcache checksum -o FILE"
        ) from error
    return [from_json(bytes(raw)) for raw in raws] if is_set else [from_json(data)]
