"""``doctor``: see what a reset would take, and what to do about it. Offline, in under two seconds.

``facts``: everything asked at once, each answer waited for only so long (``disk_facts``, ``cache_facts``,
``repository_facts``) · ``protection``: would the models come back · the checks: ``disks``, ``models``,
``variables``, ``backups``, ``nights``, ``gpu``, ``versions`` · ``summary``: the first line · ``fixes``: what
``--fix`` does · ``report``: what comes out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from zitcache.errors import Exit, ZitcacheError
from zitcache.events import Outcome, Session
from zitcache.tasks.doctor import backups, disks, gpu, models, nights, variables, versions
from zitcache.tasks.doctor.disk_facts import DiskFact
from zitcache.tasks.doctor.facts import DoctorRequest, Facts
from zitcache.tasks.doctor.fixes import apply_fixes
from zitcache.tasks.doctor.report import Check, DiskState, DoctorReport, Fixed, fail, skip
from zitcache.tasks.doctor.summary import Headline, headline

T = TypeVar("T")

__all__ = ["CHECKS", "Check", "DiskState", "DoctorReport", "DoctorRequest", "Fixed", "doctor"]

CHECKS: dict[str, Callable[[Facts], Iterator[Check]]] = {
    "cache-found": disks.check_cache_found,
    "cache-disk": disks.check_cache_disk,
    "last-backup": backups.check_last_backup,
    "repository": backups.check_repository,
    "repository-disk": backups.check_repository_disk,
    "repository-space": backups.check_repository_space,
    "schedule": nights.check_schedule,
    "last-check": backups.check_last_check,
    "last-drill": backups.check_last_drill,
    "last-proof": backups.check_last_proof,
    "kit": backups.check_kit,
    "models-complete": models.check_complete,
    "layouts-shadowing": models.check_shadowing,
    "leftovers": models.check_leftovers,
    "cache-space": disks.check_cache_space,
    "cache-speed": disks.check_cache_speed,
    "disks": disks.check_disks,
    "fake-data-disk": disks.check_fake_data_disk,
    "cache-choice": variables.check_cache_choice,
    "modelscope-cache": variables.check_modelscope,
    "huggingface-cache": variables.check_huggingface,
    "variables-differ": variables.check_conflicts,
    "variables-reach": variables.check_reach,
    "variables-ignored": variables.check_ignored,
    "variables-empty": variables.check_empty,
    "variables-relative": variables.check_relative,
    "variables-quoted": variables.check_quoted,
    "variables-unexpanded": variables.check_dollar,
    "gpu": gpu.check_gpu,
    "gpu-memory": gpu.check_gpu_memory,
    "memory": gpu.check_memory,
    "machine": disks.check_machine,
    "versions": versions.check_versions,
}
"""Every check by its id, which never changes, in the order in which they are told."""

_NEEDED = frozenset({"cache-found", "repository"})
"""When these cannot be looked at, that itself is the danger."""


def doctor(request: DoctorRequest, session: Session) -> Outcome[DoctorReport]:
    """Look at everything; with ``fix``, do what is safe and look again.

    The exit code is 1 when a check fails (``strict``: or warns). No check raises.
    """
    started = time.monotonic()
    session.progress.stage("Looking at the machine")
    facts = Facts(request)
    checks = _examine(facts, session)
    fixed: list[Fixed] = []
    if request.fix:
        fixed = apply_fixes(facts, checks, session)
        if fixed:
            facts = Facts(request)
            checks = _examine(facts, session)
    bad = {"fail", "warn"} if request.strict else {"fail"}
    report = _report(facts, checks, fixed)
    report.seconds = time.monotonic() - started
    code = Exit.DAMAGE if any(check.status in bad for check in checks) else Exit.OK
    return Outcome(data=report, warnings=session.warnings, exit_code=code)


def _examine(facts: Facts, session: Session) -> list[Check]:
    found: list[Check] = []
    for name, check in CHECKS.items():
        session.cancel.check()
        try:
            found += check(facts)
        except (OSError, ZitcacheError) as error:  # TimeoutError is an OSError
            hint = error.hint if isinstance(error, ZitcacheError) else None
            told = f"It could not be looked at: {_sentence(error)}"
            found.append(fail(name, told, advice=hint) if name in _NEEDED else skip(name, told))
        except Exception as error:
            # A doctor that falls over helps nobody; the tests know that none of these is expected.
            found.append(skip(name, f"It could not be looked at: {type(error).__name__}: {_sentence(error)}"))
    return found


def _report(facts: Facts, checks: list[Check], fixed: list[Fixed]) -> DoctorReport:
    summary = _summary(facts, checks)
    provider = _or_none(facts.provider)
    container = _or_none(facts.container)
    known_disks = _or_none(facts.disks)
    cache = _or_none(facts.cache)
    repository = _or_none(facts.repository)
    return DoctorReport(
        headline=summary.text,
        command=summary.command,
        checks=checks,
        disks=[_state(fact) for fact in (known_disks.system, *known_disks.data)] if known_disks else [],
        cache=str(cache.path) if cache and cache.path else None,
        cache_bytes=cache.size_bytes if cache else 0,
        repository=repository.location if repository else None,
        provider=provider.name if provider else None,
        container=container.kind if container else "none",
        seconds=0.0,
        fixed=fixed,
    )


def _sentence(error: Exception) -> str:
    return f"{str(error).rstrip('.')}."


def _summary(facts: Facts, checks: list[Check]) -> Headline:
    try:
        return headline(facts, checks)
    except Exception as error:
        worst = next((check for check in checks if check.status == "fail"), None)
        if worst is not None:
            return Headline(worst.evidence, worst.fix)
        return Headline(f"The machine could not be looked at: {type(error).__name__}: {error}.")


def _or_none(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except Exception:
        return None


def _state(fact: DiskFact) -> DiskState:
    return DiskState(
        mount_point=fact.mount_point,
        fstype=fact.mount.fstype,
        source=fact.mount.source,
        verdict=fact.survival.verdict,
        reason=fact.survival.reason,
        confidence=fact.survival.confidence,
        is_network=fact.survival.is_network,
        bytes_free=fact.free.bytes_free if fact.free else None,
    )
