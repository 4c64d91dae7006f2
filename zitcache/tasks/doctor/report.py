"""What ``doctor`` reports."""

from __future__ import annotations

from typing import Literal

import msgspec

Status = Literal["ok", "warn", "fail", "skip"]


class Check(msgspec.Struct, kw_only=True):
    """One thing that was looked at.

    ``id``: stable, for scripts. ``status``: "ok"; "warn", which deserves a look; "fail", which endangers the
    models or their use; "skip", which could not be looked at or does not apply. ``evidence``: what was seen,
    in sentences. ``fix``: an exact command, None where there is none to type. ``advice``: what to do instead.
    """

    id: str
    status: Status
    evidence: str
    fix: str | None = None
    advice: str | None = None


class DiskState(msgspec.Struct, kw_only=True):
    """A mounted file system that can hold data, the system disk first.

    ``verdict``: "survives", "lost" or "unknown" when the system disk is reset; ``reason``: why, in sentences;
    ``confidence``: "high", "medium" or "low". ``bytes_free``: None when it does not answer.
    """

    mount_point: str
    fstype: str
    source: str
    verdict: str
    reason: str
    confidence: str
    is_network: bool
    bytes_free: int | None


class Fixed(msgspec.Struct, kw_only=True):
    """What ``--fix`` did. ``id``: of the fix; ``done``: a sentence; ``files``: what was written."""

    id: str
    done: str
    files: list[str] = []


class DoctorReport(msgspec.Struct, kw_only=True):
    """``headline``: the one thing to know, in a sentence or two; ``command``: what to run because of it.

    ``cache``: its path, None if there is none; ``cache_bytes``: the size of its models. ``provider``: who
    rents the machine out, as far as can be told; ``container``: its kind, "none" outside of one.
    """

    headline: str
    command: str | None
    checks: list[Check]
    disks: list[DiskState]
    cache: str | None
    cache_bytes: int
    repository: str | None
    provider: str | None
    container: str
    seconds: float
    fixed: list[Fixed] = []


def ok(check_id: str, evidence: str) -> Check:
    """Nothing to do."""
    return Check(id=check_id, status="ok", evidence=evidence)


def warn(check_id: str, evidence: str, fix: str | None = None, advice: str | None = None) -> Check:
    """It deserves a look."""
    return Check(id=check_id, status="warn", evidence=evidence, fix=fix, advice=advice)


def fail(check_id: str, evidence: str, fix: str | None = None, advice: str | None = None) -> Check:
    """The models, or their use, are in danger."""
    return Check(id=check_id, status="fail", evidence=evidence, fix=fix, advice=advice)


def skip(check_id: str, evidence: str, fix: str | None = None) -> Check:
    """It could not be looked at, or does not apply."""
    return Check(id=check_id, status="skip", evidence=evidence, fix=fix)
