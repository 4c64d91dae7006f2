"""``restore`` with nothing named: bring the machine back as it was before the reset.

A migrated cache that is alive is linked again. Else the newest good snapshot goes to where the cache was:
into the migrated cache, if that is there but damaged. Then variables, config, schedule.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from zitcache.cache.marker import KIT_NAME, MigrationMarker, read_marker
from zitcache.cache.variables import variables_for
from zitcache.errors import ZitcacheError
from zitcache.events import Outcome, Session
from zitcache.machine.mounts import is_system_disk
from zitcache.machine.ownership import distrust
from zitcache.tasks.discovery import FoundCache, FoundKit
from zitcache.tasks.environment.sources import set_anywhere
from zitcache.tasks.kit.layout import KIT_FOLDER, running_kit
from zitcache.tasks.kit.settings import MachineSettings, load_settings_by_file
from zitcache.tasks.restore.candidates import (
    SnapshotChoice,
    Survey,
    look_around,
    nothing_found,
    warn_of_several,
)
from zitcache.tasks.restore.report import RestoreReport, RestoreRequest
from zitcache.tasks.restore.surroundings import PutBack, Wishes, put_back, sound_variables

RestoreSnapshot = Callable[[SnapshotChoice, "str | None"], Outcome[RestoreReport]]
"""Restores a snapshot, to another place than it came from if one is given."""


def bring_machine_back(
    request: RestoreRequest,
    configured: str | None,
    restore_snapshot: RestoreSnapshot,
    session: Session,
    started: float,
) -> Outcome[RestoreReport]:
    """Find what there is, take the best of it, and put everything back.

    ``configured``: the repository of the configuration, if there is one. Raises ``RepositoryNotFound`` when
    there is nothing, and what restoring a snapshot raises.
    """
    survey = look_around(request.place, configured, session)
    if survey.alive and not survey.prefers_snapshot:
        return _relink(request, survey, session, started)
    for cache in survey.caches:
        if not cache.alive:
            problem = (cache.problem or "it is damaged").rstrip(".")
            session.warn("migrated-cache-dead", f"The migrated cache {cache.path} is not used: {problem}.")
    if not survey.choices:
        raise nothing_found(survey)
    return _restore(request, survey, restore_snapshot, session, started)


def _relink(
    request: RestoreRequest, survey: Survey, session: Session, started: float
) -> Outcome[RestoreReport]:
    chosen = survey.alive[0]
    caches = [chosen, *([] if _is_meant_alone(chosen, request) else _also(chosen, survey.alive[1:]))]
    candidates = survey.listed(chosen)
    further = {str(cache.path) for cache in caches[1:]}
    warn_of_several([row for row in candidates if row.place not in further], session)
    for row in candidates:
        row.chosen = row.chosen or row.place in further
    for cache in caches:
        if cache.problem:
            session.warn(
                "model-incomplete",
                f"In {cache.path}, {cache.problem}",
                f"Bring it back from a snapshot: zitcache verify --repair --cache {cache.path}",
            )
    kit, settings = _settings_for(survey.kits, chosen.marker.host, _names_of(chosen))
    variables: dict[str, str] = {}
    for cache in reversed(caches):
        variables |= _variables_of(cache)
    variables = sound_variables(variables, session)
    wishes = Wishes(
        links=_links_of(caches),
        variables=variables,
        moved={cache.marker.real_target: str(cache.path) for cache in caches} | _moved(kit, settings),
        kit=_kit_to_run(survey.kits, kit),
        settings=settings,
        with_links=request.relink,
        with_environment=request.environment,
        with_schedule=request.schedule,
    )
    done = put_back(wishes, session, dry_run=request.dry_run)
    report = RestoreReport(
        action="relinked" if done.anything else "nothing to do",
        snapshot_id="",
        repository="",
        target=str(chosen.path),
        files=0,
        files_kept=0,
        bytes_written=0,
        seconds=0.0,
        failed=[],
        dry_run=request.dry_run,
        candidates=candidates,
        models=sorted({model for cache in caches for model in cache.models}),
    )
    return _completed(Outcome(data=report), done, wishes, session, started)


def _restore(
    request: RestoreRequest,
    survey: Survey,
    restore_snapshot: RestoreSnapshot,
    session: Session,
    started: float,
) -> Outcome[RestoreReport]:
    choice = survey.choices[0]
    record = choice.snapshot.record
    candidates = survey.listed(choice)
    warn_of_several(candidates, session)
    damaged = _migrated_place(survey, record.real_cache)
    outcome = restore_snapshot(choice, str(damaged.path) if damaged else None)
    target = Path(outcome.data.target)
    kit, settings = _settings_for(survey.kits, record.host, {record.real_cache, str(target)})
    marker = _marker_of(target, damaged, settings)
    # Migrated caches of the same machine, which this snapshot is not of, are linked as well.
    others = [cache for cache in survey.alive if cache.marker.host == record.host]
    variables: dict[str, str] = {}
    for cache in reversed(others):
        variables |= _variables_of(cache)
    environment = settings.environment if settings else {}
    if not environment and not request.dry_run:
        environment = variables_for(target, set_anywhere(os.environ))
    variables |= {
        name: _elsewhere(value, record.real_cache, str(target)) for name, value in environment.items()
    }
    own_link = [(marker.real_source, target)] if marker and marker.real_source != str(target) else []
    wishes = Wishes(
        links=[*own_link, *_links_of(others)],
        variables=sound_variables(variables, session),
        moved={record.real_cache: str(target)} | _moved(kit, settings),
        kit=_kit_to_run(survey.kits, kit),
        settings=settings,
        with_links=request.relink,
        with_environment=request.environment,
        with_schedule=request.schedule,
    )
    done = put_back(wishes, session, dry_run=request.dry_run)
    report = outcome.data
    report.candidates = candidates
    report.models = [model.id for model in record.models]
    if report.action == "nothing to do" and done.anything:
        report.action = "relinked"
    if marker is not None and is_system_disk(target):
        session.warn(
            "on-system-disk",
            f"The cache was on a data disk. {target} lies on the system disk, which the next reset wipes.",
            "Move it off again: zitcache migrate /path/on/the/data/disk",
        )
    return _completed(outcome, done, wishes, session, started)


def _completed(
    outcome: Outcome[RestoreReport], done: PutBack, wishes: Wishes, session: Session, started: float
) -> Outcome[RestoreReport]:
    report = outcome.data
    report.links = done.links
    report.variables = dict(wishes.variables) if wishes.with_environment else {}
    report.environment_files = done.environment
    report.config, report.launcher, report.schedule = done.config, done.launcher, done.schedule
    report.seconds = time.monotonic() - started
    return Outcome(data=report, warnings=session.warnings, exit_code=outcome.exit_code)


def _is_meant_alone(chosen: FoundCache, request: RestoreRequest) -> bool:
    """Whether the user named this cache itself. Its kit stands for the whole machine."""
    return request.place is not None and os.path.realpath(request.place) == str(chosen.path)


def _also(chosen: FoundCache, others: list[FoundCache]) -> list[FoundCache]:
    """Further caches of the same machine that were somewhere else: all of them come back."""
    sources = {chosen.marker.real_source}
    found = []
    for cache in others:
        if cache.marker.host == chosen.marker.host and cache.marker.real_source not in sources:
            sources.add(cache.marker.real_source)
            found.append(cache)
    return found


def _links_of(caches: list[FoundCache]) -> list[tuple[str, Path]]:
    return [
        (cache.marker.real_source, cache.path)
        for cache in caches
        if cache.marker.linked and cache.marker.real_source != str(cache.path)
    ]


def _variables_of(cache: FoundCache) -> dict[str, str]:
    if cache.marker.variables:
        return cache.marker.variables_at(str(cache.path))
    return variables_for(cache.path, set_anywhere(os.environ))


def _names_of(cache: FoundCache) -> set[str]:
    return {str(cache.path), cache.marker.real_target, cache.marker.real_source}


def _migrated_place(survey: Survey, recorded: str) -> FoundCache | None:
    """The migrated cache that a snapshot is of, damaged as it is: what is good in it is kept."""
    for cache in survey.caches:
        if cache.trusted and recorded in _names_of(cache):
            return cache
    return None


def _marker_of(
    target: Path, damaged: FoundCache | None, settings: MachineSettings | None
) -> MigrationMarker | None:
    """The migration of the cache that was restored, from the cache itself or as the kit remembers it."""
    if damaged is not None:
        return damaged.marker if damaged.marker.linked else None
    marker = None
    try:
        if distrust(target) is None:
            marker = read_marker(target)
    except ZitcacheError:
        marker = None
    marker = marker or (settings.migration if settings else None)
    return marker if marker is not None and marker.linked else None


def _settings_for(
    kits: list[FoundKit], host: str, caches: set[str]
) -> tuple[Path | None, MachineSettings | None]:
    """The settings that a kit keeps of this user for this cache, else for this machine: the newest."""
    ranked = []
    for kit in kits:
        for path, kept_ns, settings in load_settings_by_file(kit.path):
            if settings.user != str(os.geteuid()) or not (kit.named or distrust(path) is None):
                continue
            fits = (settings.real_cache in caches, settings.host == host)
            if any(fits):
                ranked.append((fits, kept_ns, kit.path, settings))
    if not ranked:
        return None, None
    _, _, kit_path, best = max(ranked, key=lambda row: row[:2])
    return kit_path, best


def _moved(kit: Path | None, settings: MachineSettings | None) -> dict[str, str]:
    """Where the repository lies now, when the disk is mounted in another place than before."""
    if kit is None or settings is None or not settings.repository or kit.name != KIT_FOLDER:
        return {}
    return {settings.repository: str(kit.parent)} if settings.repository.startswith("/") else {}


def _kit_to_run(kits: list[FoundKit], preferred: Path | None) -> Path | None:
    """The kit that is to run zitcache from now on: the one that runs now, else the one with the settings."""
    running = running_kit()
    if running is not None:
        return running
    if preferred is not None:
        return preferred
    lasting = [kit.path for kit in kits if kit.path.name in (KIT_FOLDER, KIT_NAME)]
    return lasting[0] if lasting else None


def _elsewhere(value: str, old: str, new: str) -> str:
    if value == old or value.startswith(old + "/"):
        return new + value[len(old) :]
    return value
