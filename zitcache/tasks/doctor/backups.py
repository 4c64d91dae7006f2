"""Checks: the repository, the age of the last backup, check and proof, and the kit."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from zitcache.cache.marker import KIT_NAME
from zitcache.errors import ZitcacheError
from zitcache.tasks.doctor.facts import Facts
from zitcache.tasks.doctor.protection import protection
from zitcache.tasks.doctor.report import Check, fail, ok, skip, warn
from zitcache.tasks.doctor.repository_facts import RepositoryFacts, shares_disk
from zitcache.tasks.doctor.wording import age, named, size
from zitcache.tasks.kit.layout import KIT_FOLDER, RECOVER
from zitcache.tasks.overview.ages import Moment

_LITTLE_ROOM_BYTES = 2 << 30
_REMOTE = "It is on the network, and doctor asks nothing there."


def check_repository(facts: Facts) -> Iterator[Check]:
    """Is there one, and can it be read."""
    found = facts.repository()
    if found.problem is not None:
        if found.location is None:
            yield warn("repository", f"No repository: {found.problem}.")
            return
        yield fail("repository", f"{found.location} cannot be used: {found.problem}", advice=found.hint)
        return
    if found.location is None:
        yield warn("repository", "There is no repository: nothing is backed up.", fix=_first_backup(facts))
        return
    if found.is_remote:
        yield ok("repository", f"{found.location}. {_REMOTE}")
        return
    if found.others:
        yield warn(
            "repository",
            f"Several lie around and none is named: {named([found.location, *found.others])}.",
            fix=f"export ZITCACHE_REPO={shlex.quote(found.location)}",
        )
        return
    if found.unreadable:
        yield fail(
            "repository",
            f"{found.unreadable} snapshot(s) in {found.location} cannot be read.",
            fix=facts.command("check", repository=True),
        )
        return
    count = len(found.snapshots)
    yield ok("repository", f"{found.location} with {count} snapshot{'' if count == 1 else 's'}.")


def _first_backup(facts: Facts) -> str | None:
    """On a disk that survives and is not the cache's own."""
    try:
        cache = facts.cache()
    except (OSError, ZitcacheError):
        return None  # its own checks tell why
    if cache.located is None:
        return None
    own = {ground.survival.mount_point for ground in cache.grounds}
    for fact in facts.disks().data:
        is_good = fact.survival.verdict == "survives" and fact.is_writable and fact.mount_point not in own
        if is_good and fact.free is not None and fact.free.bytes_free > cache.size_bytes * 0.7:
            place = f"{fact.mount_point.rstrip('/')}/zitcache"
            return facts.command("backup", "--init", "--repo", place, cache=True)
    return None


def check_repository_disk(facts: Facts) -> Iterator[Check]:
    """Snapshots on the disk that they are to save from."""
    found = facts.repository()
    if found.location is None:
        yield skip("repository-disk", "There is no repository.")
        return
    if found.is_remote:
        yield ok("repository-disk", f"{found.location} outlives this machine.")
        return
    if found.survival is None:
        yield skip("repository-disk", f"The disk of {found.location} could not be looked at.")
        return
    told = f"{found.location}: {found.survival.reason}"
    cache = facts.cache()
    if found.survival.verdict == "lost":
        yield fail("repository-disk", f"{told} A reset takes the snapshots, too.", fix=_first_backup(facts))
    elif cache.path is not None and shares_disk(found, cache.path):
        yield warn(
            "repository-disk",
            f"{told} The cache is on the same disk: when that fails, both are gone.",
            advice="Keep a copy elsewhere: zitcache copy (see its help).",
        )
    elif found.survival.verdict == "unknown":
        yield warn("repository-disk", told, fix=_first_backup(facts))
    else:
        yield ok("repository-disk", told)


def check_repository_space(facts: Facts) -> Iterator[Check]:
    """Room for the nights to come."""
    found = facts.repository()
    if not found.is_usable or found.free is None:
        yield skip("repository-space", _why_not(found))
        return
    free = found.free.bytes_free
    if free < _LITTLE_ROOM_BYTES:
        fix = facts.command("forget", "--dry-run", repository=True)
        yield warn(
            "repository-space", f"Only {size(free)} are free on the disk of {found.location}.", fix=fix
        )
        return
    yield ok("repository-space", f"{size(free)} free on the disk of {found.location}.")


def check_last_backup(facts: Facts) -> Iterator[Check]:
    """Does a good snapshot hold every model, and how old is it."""
    found = facts.repository()
    if not found.is_usable:
        yield skip("last-backup", _why_not(found))
        return
    fix = facts.command("backup", cache=True, repository=True)
    newest = found.newest
    moment = found.moment("backup")
    if newest is None:
        reason = "none of the snapshots is good" if found.snapshots else "there is no snapshot yet"
        yield fail("last-backup", f"In {found.location}, {reason}.", fix=fix)
        return
    told = f"The newest good snapshot is {newest.short_id}{_ago(moment)}."
    last = found.snapshots[-1]
    if last.is_suspect:
        reasons = " ".join(last.suspect_reasons[:2])
        yield fail(
            "last-backup",
            f"The newest snapshot, {last.short_id}, is suspect: {reasons} {told}",
            fix=facts.command("verify", cache=True, repository=True),
        )
        return
    bare = protection(facts.cache(), found).unprotected if facts.cache().stock else ()
    if bare:
        yield fail("last-backup", f"In no good snapshot: {named(bare)}. {told}", fix=fix)
    elif moment is not None and moment.stale:
        yield warn("last-backup", f"{told} That is more than {age(moment.limit_seconds)}.", fix=fix)
    else:
        yield ok("last-backup", told)


def check_last_check(facts: Facts) -> Iterator[Check]:
    """When all of the repository was last read back."""
    yield _moment(facts, "last-check", "check", ("check", "--read-data"), "Nothing was ever read back")


def check_last_drill(facts: Facts) -> Iterator[Check]:
    """When a restore was last rehearsed."""
    yield _moment(facts, "last-drill", "drill", ("drill",), "No drill was ever recorded")


def check_last_proof(facts: Facts) -> Iterator[Check]:
    """When the weights last drew a picture."""
    found = facts.repository()
    moment = found.moment("proof") if found.is_usable else None
    if moment is not None and moment.time is None and not facts.gpus().found:
        yield skip("last-proof", "No proof was ever recorded, and there is no GPU here to draw one.")
        return
    yield _moment(facts, "last-proof", "proof", ("verify", "--generate"), "No picture was ever drawn")


def _moment(facts: Facts, check_id: str, what: str, words: tuple[str, ...], never: str) -> Check:
    found = facts.repository()
    moment = found.moment(what) if found.is_usable else None
    if moment is None:
        return skip(check_id, _why_not(found))
    fix = facts.command(*words, repository=True)
    if moment.last_exit_code:
        return fail(check_id, f"The last attempt failed with exit code {moment.last_exit_code}.", fix=fix)
    if moment.time is None:
        detail = f": {moment.detail}" if moment.detail else ""
        # A repository made today is not late with anything.
        return (warn if moment.stale else skip)(check_id, f"{never}{detail}.", fix=fix)
    told = f"Last done{_ago(moment)}."
    if moment.stale:
        return warn(check_id, f"{told} That is more than {age(moment.limit_seconds)}.", fix=fix)
    return ok(check_id, told)


def _ago(moment: Moment | None) -> str:
    if moment is None or moment.age_seconds is None:
        return ""
    return f", {age(moment.age_seconds)} ago" if moment.age_seconds >= 60 else ", just now"


def check_kit(facts: Facts) -> Iterator[Check]:
    """What a bare machine needs to run zitcache, on a disk that survives."""
    found = facts.repository()
    cache = facts.cache()
    places = [Path(found.location, KIT_FOLDER)] if found.is_usable and found.location is not None else []
    if cache.path is not None and cache.marker is not None:
        places.append(cache.path / KIT_NAME)
    for place in places:
        if (place / RECOVER).is_file():
            yield ok("kit", f"After a reset: {shlex.join(['sh', str(place / RECOVER)])}")
            return
    if places:
        yield warn(
            "kit",
            "There is no kit: after a reset, zitcache must be installed before it can bring anything back.",
            fix=facts.command("kit", str(places[0])),
        )
        return
    yield skip("kit", _why_not(found))


def _why_not(found: RepositoryFacts) -> str:
    if found.location is None:
        return "There is no repository."
    return _REMOTE if found.is_remote else f"{found.location} cannot be used."
