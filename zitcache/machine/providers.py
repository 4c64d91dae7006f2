"""Whose machine this is, and what its landlord says of its disks. Hints, never decisions.

A hint explains or lowers a verdict that the mount table gave (see ``survival``); it never makes a disk out of
a folder. What each landlord promises is from its documentation and from reports of users.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Confidence = Literal["high", "medium", "low"]


@dataclass(frozen=True, slots=True)
class Place:
    """A mount point that a landlord gives a meaning. ``pattern``: a regular expression for all of it.

    ``keeps``: whether data there outlives a reset of the system disk, a stop, and all short of giving the
    machine back. ``note``: one sentence.
    """

    pattern: str
    keeps: bool
    note: str


@dataclass(frozen=True, slots=True)
class _Landlord:
    name: str
    variables: tuple[str, ...]
    host: str
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Provider:
    """Who rents this machine out, as far as can be told. ``evidence``: what gave it away."""

    name: str
    confidence: Confidence
    evidence: str


@dataclass(frozen=True, slots=True)
class PlaceHint:
    """What ``provider`` says of a mount point. ``keeps`` and ``note`` as in :class:`Place`."""

    provider: str
    confidence: Confidence
    keeps: bool
    note: str


_LANDLORDS = (
    _Landlord(
        "AutoDL",
        ("AutoDLContainerUUID", "AutoDLRegion", "AutoDLServiceURL"),
        r"autodl-container-.*",
        (
            Place("/root/autodl-tmp", True, "AutoDL's data disk outlives a reset of the system disk."),
            Place("/root/autodl-fs", True, "AutoDL's file storage is on the network, for all your machines."),
        ),
    ),
    _Landlord(
        "DAMODEL",
        (),
        r"damodel-.*",
        (Place("/root/workspace", False, "DAMODEL calls this a temporary data disk."),),
    ),
    _Landlord(
        "RunPod",
        ("RUNPOD_POD_ID", "RUNPOD_ENDPOINT_ID", "RUNPOD_DC_ID"),
        "",
        (
            Place(
                "/workspace",
                True,
                "RunPod keeps a pod's volume when the pod stops, and removes it with the pod "
                "(a network volume stays).",
            ),
            Place("/runpod-volume", True, "RunPod's network volume outlives its workers."),
        ),
    ),
    _Landlord(
        "gpushare",
        (),
        r".*gpushare.*",
        (
            Place("/hy-tmp", False, "gpushare wipes this disk 24 hours after the machine stops."),
            Place("/hy-nas", True, "gpushare's network storage outlives the machine."),
        ),
    ),
    _Landlord(
        "GPUGEEK",
        (),
        r".*gpugeek.*",
        (
            Place("/gz-data", True, "GPUGEEK's data disk outlives a reset of the system disk."),
            Place("/gz-fs", True, "GPUGEEK's file storage is on the network."),
        ),
    ),
    _Landlord(
        "Paperspace",
        ("PAPERSPACE_FQDN", "PAPERSPACE_NOTEBOOK_REPO_ID"),
        "",
        (Place("/storage", True, "Paperspace's shared storage outlives the machine."),),
    ),
    _Landlord(
        "Hugging Face Spaces",
        ("SPACE_ID", "SPACE_HOST"),
        "",
        (Place("/data", True, "The persistent storage of a Space outlives its restarts."),),
    ),
    _Landlord(
        "Lambda",
        (),
        "",
        (Place(r"/lambda/nfs/[^/]+", True, "Lambda's file system outlives the instance."),),
    ),
)
_AMBIGUOUS = frozenset({"/data", "/storage", "/workspace"})
"""Anybody may call a mount point so: it says nothing of the landlord."""


def find_provider(
    mount_points: Iterable[str], environ: Mapping[str, str] = os.environ, host: str | None = None
) -> Provider | None:
    """Who rents this machine out: by variables (high), the host's name (medium), mount points (low)."""
    for landlord in _LANDLORDS:
        for name in landlord.variables:
            if environ.get(name):
                return Provider(landlord.name, "high", f"{name} is set")
    host = os.uname().nodename if host is None else host
    for landlord in _LANDLORDS:
        if landlord.host and re.fullmatch(landlord.host, host, re.IGNORECASE):
            return Provider(landlord.name, "medium", f"the host is called {host}")
    for point in mount_points:
        for landlord in _LANDLORDS:
            if point not in _AMBIGUOUS and _place(landlord, point) is not None:
                return Provider(landlord.name, "low", f"{point} is mounted")
    return None


def hint_for(path: str, provider: Provider | None) -> PlaceHint | None:
    """What a landlord says of the mount point ``path``: ``provider``, else one whose names are its own.

    Where the landlord is not known, the hint has a low confidence.
    """
    for landlord in _LANDLORDS:
        place = _place(landlord, path)
        if place is None:
            continue
        if provider is not None and provider.name == landlord.name:
            return PlaceHint(landlord.name, provider.confidence, place.keeps, place.note)
        if provider is None and path not in _AMBIGUOUS:
            return PlaceHint(landlord.name, "low", place.keeps, place.note)
    return None


def enclosing_place(path: str, provider: Provider | None) -> PlaceHint | None:
    """The hint for ``path`` or the nearest folder above it that a landlord gives a meaning."""
    while path not in ("/", ""):
        hint = hint_for(path, provider)
        if hint is not None:
            return hint
        path = path.rpartition("/")[0]
    return None


def known_places(provider: Provider | None) -> list[str]:
    """The mount points that the landlord gives a meaning; where none is known, all unmistakable ones."""
    return [
        place.pattern
        for landlord in _LANDLORDS
        for place in landlord.places
        if "[" not in place.pattern
        and (
            provider.name == landlord.name
            if provider is not None
            else place.pattern not in _AMBIGUOUS and place.keeps
        )
    ]


def _place(landlord: _Landlord, path: str) -> Place | None:
    return next((place for place in landlord.places if re.fullmatch(place.pattern, path)), None)
