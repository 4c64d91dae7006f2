"""The one thing to know, and the one line to type: what a frightened user reads first."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from zitcache.errors import ZitcacheError
from zitcache.tasks.doctor.cache_facts import CacheFacts, Ground
from zitcache.tasks.doctor.disks import way_out
from zitcache.tasks.doctor.facts import Facts
from zitcache.tasks.doctor.protection import Protection, protection
from zitcache.tasks.doctor.report import Check
from zitcache.tasks.doctor.repository_facts import RepositoryFacts
from zitcache.tasks.doctor.wording import age, size


@dataclass(frozen=True, slots=True)
class Headline:
    """A sentence or two, and an exact command or None."""

    text: str
    command: str | None = None


def headline(facts: Facts, checks: Sequence[Check]) -> Headline:
    """Sum up. Never raises for what the checks have already told."""
    try:
        cache = facts.cache()
    except TimeoutError as error:
        return Headline(f"The disk with the model cache does not answer: {error}.")
    except (OSError, ZitcacheError) as error:
        hint = error.hint if isinstance(error, ZitcacheError) else None
        return Headline(f"The model cache cannot be looked at: {error}" + (f" {hint}" if hint else ""))
    try:
        repository: RepositoryFacts | None = facts.repository()
    except (OSError, ZitcacheError):
        repository = None
    if cache.located is None or cache.located.is_empty:
        return _without_cache(facts, cache, repository)
    shield = protection(cache, repository)
    if _in_danger(cache):
        return _in_the_way(facts, cache, repository, shield, checks)
    return _on_a_safe_disk(cache, repository, shield, checks)


def _in_danger(cache: CacheFacts) -> bool:
    return any(ground.survival.verdict != "survives" for ground in cache.grounds)


def _without_cache(facts: Facts, cache: CacheFacts, repository: RepositoryFacts | None) -> Headline:
    if cache.is_closed:
        return Headline(f"{cache.path} cannot be read by this user. Run doctor as its owner, or with sudo.")
    what = "The model cache is empty" if cache.located else "There is no model cache on this machine"
    if cache.dangling is not None:
        link, target = cache.dangling
        return Headline(
            f"{link} leads to {target}, which is not there. Mount its disk, or bring the cache back.",
            facts.command("restore"),
        )
    newest = repository.newest if repository is not None else None
    if repository is not None and newest is not None:
        return Headline(
            f"{what}, but {size(newest.record.size_bytes)} of it are in snapshot {newest.short_id} "
            f"in {repository.location}{_ago(repository)}.",
            facts.command("restore", repository=True),
        )
    if repository is not None and repository.is_remote:
        return Headline(
            f"{what}. There may be snapshots in {repository.location}.",
            facts.command("snapshots", repository=True),
        )
    migrated = _migrated(facts)
    if migrated is not None:
        return Headline(
            f"{what}, but a migrated one is alive in {migrated}: only the link to it is gone.",
            facts.command("restore"),
        )
    return Headline(f"{what}, and no snapshot of one was found.")


def _migrated(facts: Facts) -> str | None:
    """A migrated cache that only needs its link; looked for only here, because it takes a while."""
    from zitcache.events import Session
    from zitcache.tasks.discovery import migrated_caches

    if facts.disks().dead:
        return None
    return next((str(found.path) for found in migrated_caches(Session()) if found.alive), None)


def _in_the_way(
    facts: Facts,
    cache: CacheFacts,
    repository: RepositoryFacts | None,
    shield: Protection,
    checks: Sequence[Check],
) -> Headline:
    """What lies on a disk that is wiped, or may be."""
    worst = _worst(cache)
    amount = size(cache.bytes_lost or cache.bytes_uncertain or cache.size_bytes)
    does = "wipes" if worst.survival.verdict == "lost" else "may take"
    if shield.is_complete and repository is not None:
        moment = repository.moment("backup")
        kept = f"the snapshot in {repository.location}{_ago(repository)} brings them back"
        text = f"a reset {does} your {amount} {_where(worst)}, and {kept}"
        if moment is not None and moment.stale:
            again = facts.command("backup", cache=True, repository=True)
            return Headline(f"{_capital(text)}, but it is old.", again)
        return _ending(text, checks)
    text = f"Your {amount} are {_where(worst)}: a reset {does} them."
    if worst.survival.verdict == "unknown":
        text = f"{text} {worst.survival.reason}"
    fix, advice = way_out(facts, cache, facts.disks())
    if not shield.known and repository is not None and repository.is_remote:
        text += f" Whether {repository.location} holds them was not asked."
    return Headline(text if fix else f"{text} {advice}", fix)


def _worst(cache: CacheFacts) -> Ground:
    order = {"lost": 0, "unknown": 1, "survives": 2}
    return min(cache.grounds, key=lambda ground: (order[ground.survival.verdict], -ground.size_bytes))


def _where(ground: Ground) -> str:
    if "memory" in ground.survival.reason:
        return f"in memory ({ground.survival.mount_point})"
    if ground.survival.verdict == "lost":
        return "on the system disk"
    return f"on {ground.survival.mount_point}"


def _on_a_safe_disk(
    cache: CacheFacts, repository: RepositoryFacts | None, shield: Protection, checks: Sequence[Check]
) -> Headline:
    where = f"your {size(cache.size_bytes)} are on a disk that survives a reset"
    point = cache.grounds[0].survival.mount_point
    place = f"{where} ({point})" if os.path.isabs(point) else where
    if shield.is_complete and repository is not None:
        place += f", and a snapshot{_ago(repository)} holds all of it"
    return _ending(place, checks)


def _ending(text: str, checks: Sequence[Check]) -> Headline:
    """``text``, a sentence without its beginning and end, and whether that is all there is to say."""
    broken = next((check for check in checks if check.status == "fail"), None)
    if broken is not None:
        return Headline(f"{_capital(text)}, but: {broken.evidence}", broken.fix)
    doubts = sum(1 for check in checks if check.status == "warn")
    if not doubts:
        return Headline(f"All is well: {text}.")
    rest = "1 thing below deserves" if doubts == 1 else f"{doubts} things below deserve"
    return Headline(f"Nothing is in danger: {text}. {rest} a look.")


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _ago(repository: RepositoryFacts) -> str:
    moment = repository.moment("backup")
    if moment is None or moment.age_seconds is None:
        return ""
    return f" of {age(moment.age_seconds)} ago" if moment.age_seconds >= 60 else " of just now"
