"""What lies where in a kit, and for which Python a part of it is.

::

    kit/
      recover.sh            the one line to type after a reset
      zitcache              runs any command from here: sh zitcache verify
      RESTORE.md            for a person
      read_repository.py    the last resort: reads a repository without zitcache
      machines/*.json       settings of each machine and cache: config, variables, schedule
      cp311-x86_64/         zitcache for one Python; there may be several
        manifest.json       what must be in it
        run.py              starts it with nothing but this folder
        lib/                zitcache and its dependencies
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from zitcache.errors import IntegrityError
from zitcache.repository.records import decode_record

KIT_FOLDER = "kit"
"""The kit of a repository lies in this folder of it."""

RECOVER = "recover.sh"
LAUNCHER = "zitcache"
README = "RESTORE.md"
READER = "read_repository.py"
SCRIPTS = (RECOVER, LAUNCHER, README, READER)
"""The files that all Pythons share, in the top folder."""

RUNNER = "run.py"
MANIFEST = "manifest.json"
LIBRARY = "lib"
MACHINES = "machines"
LOCK = ".lock"
_MAX_MANIFEST_BYTES = 64 << 20
_MAX_FILES = 200_000

Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
Size = Annotated[int, msgspec.Meta(ge=0)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


class KitDistribution(msgspec.Struct, frozen=True, kw_only=True):
    """A package in the kit. ``origin``: its metadata folder where it was copied from, with its mtime."""

    name: Name
    version: str
    origin: str
    mtime_ns: int


class KitManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What the part of a kit for one Python holds. Untrusted like everything on a disk.

    ``files``: size and SHA-256 by path below the part's folder. ``source``: fingerprint of zitcache's own
    files where they were copied from (``source_path``); ``libc``: "glibc 2.36", ``machine``: "x86_64".
    """

    format: Literal["zitcache-kit"] = "zitcache-kit"
    version: Literal[1] = 1
    program: str
    python: str
    tag: str
    machine: str
    libc: str
    time: str
    source: str
    source_path: str
    distributions: list[KitDistribution]
    files: dict[Name, tuple[Size, Digest]]
    scripts: dict[Name, tuple[Size, Digest]] = {}

    @property
    def size_bytes(self) -> int:
        """The size of all its files together."""
        return sum(size for size, _ in self.files.values())


def running_kit() -> Path | None:
    """The kit that this very process runs from, as ``run.py`` tells it through the environment."""
    place = os.environ.get("ZITCACHE_KIT_DIR")
    if not place or os.environ.get("ZITCACHE_KIT_PID") != str(os.getpid()):
        return None
    return Path(place) if is_kit(Path(place)) else None


def python_tag() -> str:
    """Which compiled modules this Python can load: ``cp311-x86_64``, ``cp313t-aarch64-musl``.

    ``data/recover.sh`` and ``data/zitcache`` compute the same.
    """
    implementation = sys.implementation
    name = "cp" if implementation.name == "cpython" else implementation.name
    flags = "".join(flag for flag in sys.abiflags if flag in "td")
    libc = "-musl" if "musl" in getattr(implementation, "_multiarch", "") else ""
    width = "" if sys.maxsize > 1 << 32 else "-32"
    return f"{name}{sys.version_info[0]}{sys.version_info[1]}{flags}-{os.uname().machine}{width}{libc}"


def read_manifest(part: Path) -> KitManifest:
    """The manifest of the part of a kit in ``part``.

    Raises ``OSError``, and :class:`IntegrityError` for one that makes no sense: paths stay in the folder.
    """
    path = part / MANIFEST
    with path.open("rb") as file:
        data = file.read(_MAX_MANIFEST_BYTES + 1)
    if len(data) > _MAX_MANIFEST_BYTES:
        raise IntegrityError(f"{path} is larger than a kit's manifest can be.")
    manifest = decode_record(data, KitManifest, f"kit manifest {path}")
    if len(manifest.files) > _MAX_FILES:
        raise IntegrityError(f"{path} lists {len(manifest.files)} files, more than a kit can have.")
    for name in (*manifest.files, *manifest.scripts):
        if "\0" in name or not {"", ".", ".."}.isdisjoint(name.split("/")):
            raise IntegrityError(f"{path} names {name[:100]!r}, which is no file of a kit.")
    return manifest


def parts_of(kit: Path) -> list[Path]:
    """The folders of a kit that hold zitcache for one Python each, sorted. None if there is no kit."""
    try:
        children = sorted(kit.iterdir())
    except OSError:
        return []
    return [child for child in children if (child / MANIFEST).is_file() and not child.name.startswith(".")]


def is_kit(directory: Path) -> bool:
    """Whether a kit lies in ``directory``."""
    return (directory / RECOVER).is_file() and (directory / LAUNCHER).is_file()
