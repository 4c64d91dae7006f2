"""Sentences for frightened users: what is wrong with which file, and the exact next command."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from zitcache.cache.damage import ByteRange, DamageKind, Diagnosis
from zitcache.repository.selection import LATEST
from zitcache.tasks.verify.findings import Wrong
from zitcache.tasks.verify.report import VerifyRequest


def describe(diagnosis: Diagnosis, size: int, expected_size: int | None) -> str:
    """What is wrong with a file of ``size`` bytes, to follow its name and a colon."""
    kind = diagnosis.kind
    if kind is DamageKind.TRUNCATED and expected_size is not None:
        cut = f"it ends after {size:,} of {expected_size:,} bytes"
        inside = [pair for pair in diagnosis.ranges if pair[0] < size]
        return f"{cut}, and {_places(inside)} differ" if inside else cut
    if kind is DamageKind.ZERO_FILLED and diagnosis.ranges:
        return f"{_places(diagnosis.ranges)} are zero"
    if kind is DamageKind.BIT_FLIPS and diagnosis.ranges:
        return f"{_places(diagnosis.ranges)} differ; the rest is good"
    if kind is DamageKind.EXTENDED and expected_size is not None:
        return f"it has {size - expected_size:,} bytes more than the {expected_size:,} it should have"
    if kind is DamageKind.DIFFERS and expected_size is not None and expected_size != size:
        return f"it has another content, and {size:,} bytes instead of {expected_size:,}"
    if kind is DamageKind.DIFFERS:
        return "it has another content"
    return diagnosis.message[:1].lower() + diagnosis.message[1:].rstrip(".")


def _places(ranges: Sequence[ByteRange]) -> str:
    """``4,096 bytes at 1,234,567``, or the total with the first of several places."""
    total = sum(end - start for start, end in ranges)
    count = f"{total:,} byte{'' if total == 1 else 's'}"
    if len(ranges) == 1:
        return f"{count} at {ranges[0][0]:,}"
    return f"{count} in {len(ranges)} places, the first at {ranges[0][0]:,},"


def message_of(wrong: Wrong, name: str, failure: str | None, request: VerifyRequest) -> str:
    """One sentence about a damaged file: which, what is wrong with it, what to do."""
    content = wrong.content or wrong.path
    shown = name
    if not f"/{content}".endswith(f"/{name}"):
        shown = f"{name} (blob {content.rpartition('/')[2][:12]}…)"
    text = f"{shown}: {wrong.detail}"
    if wrong.repaired:
        return f"{text}; repaired"
    if failure is not None:
        return f"{text}; not repaired: {failure}"
    if not wrong.repairable:
        # Bytes can be had elsewhere; a directory or pipe in the place of a file is an obstacle.
        advice = ": download this file again" if wrong.content is not None else ""
        return f"{text}; {wrong.why_not or 'no snapshot has it'}{advice}"
    if request.repair and request.dry_run:
        return f"{text}; would be repaired"
    if wrong.written_after:
        text += " and was written after the snapshot (if that was on purpose: zitcache backup)"
    return f"{text}; repair with: {repair_command(request)}"


def repair_command(request: VerifyRequest) -> str:
    """The command that repairs what this one found."""
    words = ["zitcache", "verify"]
    if request.path is not None:
        words.append(request.path)
    words.append("--repair")
    if request.snapshot != LATEST:
        words += ["--snapshot", request.snapshot]
    if request.repository is not None:
        words += ["--repo", request.repository]
    return " ".join(map(shlex.quote, words))
