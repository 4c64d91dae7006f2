"""Keep a kit up to date: what ``backup`` and ``migrate`` call when their own work is safe."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from zitcache import __version__
from zitcache.errors import Interrupted, Locked, ZitcacheError, from_os_error
from zitcache.events import Session
from zitcache.tasks.kit.fresh import current_manifest
from zitcache.tasks.kit.layout import KitManifest, parts_of, python_tag
from zitcache.tasks.kit.report import KitReport


def keep_kit(
    place: Path,
    session: Session,
    *,
    environment: Mapping[str, str],
    repository: str | None = None,
    cache: str | None = None,
) -> KitReport:
    """Have a kit in the folder ``place`` that is as new as this zitcache, with the settings of this machine.

    ``environment``: the variables that make programs find the cache; ``cache``: its real path, by default the
    folder around ``place``. A few milliseconds when nothing changed. What goes wrong is a warning: the backup
    or the migration before it is whole without a kit. Raises :class:`Interrupted` only.
    """
    started = time.monotonic()
    try:
        report = write_kit(place, session, environment=environment, repository=repository, cache=cache)
    except Interrupted:
        raise
    except Locked:
        # Another backup is doing just this.
        report = _report(place, "up to date", None)
    except (ZitcacheError, OSError) as error:
        problem = (
            error if isinstance(error, ZitcacheError) else from_os_error(error, f"writing the kit {place}")
        )
        session.warn(
            "kit-not-kept",
            f"The kit that brings a bare machine back could not be written: {problem.message}",
            problem.hint,
        )
        report = _report(place, "failed", None)
        report.problem = problem.message
    report.seconds = time.monotonic() - started
    return report


def write_kit(
    place: Path,
    session: Session,
    *,
    environment: Mapping[str, str],
    repository: str | None = None,
    cache: str | None = None,
    again: bool = False,
) -> KitReport:
    """As :func:`keep_kit`, with errors raised. ``again``: make it anew even if it looks up to date.

    Raises ``OSError``, ``NoSpace``, ``Locked`` and ``UsageError``.
    """
    from zitcache.tasks.kit.scripts import keep_pointer, shared_files, write_shared
    from zitcache.tasks.kit.settings import current_settings, save_settings

    kit = Path(os.path.abspath(place))
    manifest = None if again else current_manifest(kit)
    action = "up to date"
    scripts = shared_files()
    if manifest is None:
        from zitcache.tasks.kit.build import build_part, locked
        from zitcache.tasks.kit.sources import collect

        action = "updated" if parts_of(kit) else "made"
        session.progress.stage("Putting a kit on the disk")
        with locked(kit):
            # The part first: a script must never find a folder that it cannot use.
            manifest = build_part(kit, collect(), scripts, session)
            write_shared(kit, scripts)
    elif write_shared(kit, scripts):
        action = "updated"
    settings = current_settings(
        cache or os.path.realpath(kit.parent), environment, repository, f"zitcache {__version__}"
    )
    save_settings(kit, settings)
    pointer = keep_pointer(kit)
    report = _report(kit, action, manifest)
    report.pointer = str(pointer) if pointer else None
    return report


def _report(kit: Path, action: str, manifest: KitManifest | None) -> KitReport:
    return KitReport(
        action=action,
        path=str(kit),
        tag=python_tag(),
        program=manifest.program if manifest else __version__,
        parts=[part.name for part in parts_of(kit)],
        files=len(manifest.files) if manifest else 0,
        bytes=manifest.size_bytes if manifest else 0,
    )
