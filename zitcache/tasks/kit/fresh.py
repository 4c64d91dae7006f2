"""Whether the part of a kit for this Python is what is installed here: a few milliseconds, every night."""

from __future__ import annotations

import os
from pathlib import Path

from zitcache import __version__
from zitcache.errors import ZitcacheError
from zitcache.tasks.kit.layout import LIBRARY, RUNNER, KitManifest, python_tag, read_manifest, running_kit
from zitcache.tasks.kit.sources import package_folder, source_fingerprint

_SAMPLES = 64
"""Files of which the size is looked at each time; ``kit --check`` reads all of them."""


def runs_from(kit: Path) -> bool:
    """Whether this very process runs from the kit in ``kit``, which is then as new as itself."""
    real = Path(os.path.realpath(kit))
    running = running_kit()
    return real in package_folder().parents or (running is not None and running.resolve() == real)


def current_manifest(kit: Path) -> KitManifest | None:
    """The manifest of this Python's part if that is up to date and looks complete, else None."""
    part = kit / python_tag()
    try:
        manifest = read_manifest(part)
        if runs_from(kit):
            return manifest
        if manifest.tag != python_tag() or manifest.program != __version__ or not _same_origin(manifest):
            return None
        return manifest if _looks_complete(part, manifest) else None
    except (OSError, ZitcacheError):
        return None


def _same_origin(manifest: KitManifest) -> bool:
    for each in manifest.distributions:
        if not each.origin:
            continue
        try:
            if os.stat(each.origin).st_mtime_ns != each.mtime_ns:
                return False
        except OSError:
            return False
    package = package_folder()
    return manifest.source_path == str(package) and manifest.source == source_fingerprint(package)


def _looks_complete(part: Path, manifest: KitManifest) -> bool:
    names = sorted(manifest.files)
    step = max(1, len(names) // _SAMPLES)
    for name in {RUNNER, f"{LIBRARY}/zitcache/__init__.py", *names[::step]}:
        expected = manifest.files.get(name)
        if expected is None or os.lstat(part / name).st_size != expected[0]:
            return False
    return True
