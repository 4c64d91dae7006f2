"""Checks: is the cache on a disk that a reset wipes, which disks survive, is there room."""

from __future__ import annotations

import os
from collections.abc import Iterator

from zitcache.machine.mounts import survives
from zitcache.machine.providers import known_places
from zitcache.tasks.doctor.cache_facts import CLOSE_TO_FULL_BYTES, CacheFacts
from zitcache.tasks.doctor.disk_facts import DiskFact, DiskFacts, with_room
from zitcache.tasks.doctor.facts import Facts
from zitcache.tasks.doctor.protection import protection
from zitcache.tasks.doctor.report import Check, fail, ok, skip, warn
from zitcache.tasks.doctor.repository_facts import RepositoryFacts
from zitcache.tasks.doctor.wording import command, named, size

ROOM_TO_SPARE = 1.02
"""A copy takes a little more than the bytes: directories, the kit, blocks that are not full."""

SNAPSHOT_SHARE = 0.7
"""What a first snapshot takes of the size of the weights, at most: bf16 compresses to two thirds."""


def check_machine(facts: Facts) -> Iterator[Check]:
    """What kind of machine this is."""
    container, provider = facts.container(), facts.provider()
    kind = "No container" if container.kind == "none" else f"A container ({container.kind})"
    landlord = f"; {provider.name}, {provider.confidence} confidence: {provider.evidence}" if provider else ""
    yield ok("machine", f"{kind}: {container.evidence}{landlord}.")


def check_cache_found(facts: Facts) -> Iterator[Check]:
    """Is there a cache at all."""
    cache = facts.cache()
    if cache.located is None:
        if cache.dangling is not None:
            link, target = cache.dangling
            yield fail(
                "cache-found",
                f"{link} is a link to {target}, which is not there. Is its disk mounted?",
                fix=facts.command("restore"),
            )
            return
        told = "; ".join(line.strip() for line in cache.missing.splitlines())
        yield fail("cache-found", told.replace("Looked at:;", "Looked at:"), fix=_way_back(facts))
        return
    where = f"{cache.path} ({cache.located.origin})"
    if cache.is_closed:
        yield fail(
            "cache-found",
            f"{where} cannot be read by this user.",
            advice="Run it as the owner of the cache, or with sudo.",
        )
        return
    if cache.located.is_empty:
        yield fail("cache-found", f"There is no model in {where}.", fix=_way_back(facts))
        return
    models = len(cache.stock.models) if cache.stock else 0
    text = f"{size(cache.size_bytes)} in {models} model{'' if models == 1 else 's'} in {where}."
    others = [str(root.path) for root in cache.located.others]
    if others:
        yield warn(
            "cache-found",
            f"{text} Models lie in other places, too: {named(others)}.",
            fix=command("doctor", "--cache", others[0]),
        )
        return
    yield ok("cache-found", text)


def _way_back(facts: Facts) -> str | None:
    """``zitcache restore``, if there is something to restore."""
    repository = _repository(facts)
    if repository is not None and repository.is_usable and repository.newest is not None:
        return facts.command("restore", repository=True)
    return None


def check_cache_disk(facts: Facts) -> Iterator[Check]:
    """Does the cache outlive a reset."""
    cache = facts.cache()
    if cache.located is None or cache.located.is_empty:
        yield skip("cache-disk", "There is no cache with a model in it.")
        return
    told = " ".join(_ground_sentences(cache))
    if not cache.bytes_lost and not cache.bytes_uncertain and _all_survive(cache):
        yield ok("cache-disk", told)
        return
    repository = _repository(facts)
    shield = protection(cache, repository)
    moment = repository.moment("backup") if repository else None
    if shield.is_complete:
        place = repository.location if repository else ""
        text = f"{told} Every model is in a snapshot in {place}: `zitcache restore` brings it back."
        if moment is not None and moment.stale:
            yield warn("cache-disk", text, fix=facts.command("backup", cache=True, repository=True))
        else:
            yield ok("cache-disk", text)
        return
    fix, advice = way_out(facts, cache, facts.disks())
    if not shield.known:
        told += " Whether a snapshot holds it could not be looked at."
    certain = cache.bytes_lost or any(ground.survival.verdict == "lost" for ground in cache.grounds)
    yield (fail if certain and shield.known else warn)("cache-disk", told, fix=fix, advice=advice)


def _all_survive(cache: CacheFacts) -> bool:
    return all(ground.survival.verdict == "survives" for ground in cache.grounds)


def _ground_sentences(cache: CacheFacts) -> Iterator[str]:
    for ground in cache.grounds:
        share = f"{size(ground.size_bytes)} of it: " if len(cache.grounds) > 1 else ""
        yield f"{share}{ground.survival.reason}"


def way_out(facts: Facts, cache: CacheFacts, disks: DiskFacts) -> tuple[str | None, str | None]:
    """The exact command that saves the cache, or else what to do: (fix, advice)."""
    need = int(cache.size_bytes * ROOM_TO_SPARE)
    # From the network, weights load many times slower: what suits a snapshot does not suit the cache.
    place = with_room(disks, need, cache.files, local=True)
    if place is not None and cache.located is not None:
        target = _new_folder(place, cache)
        return facts.command("migrate", target, cache=True), None
    other = with_room(disks, int(cache.size_bytes * SNAPSHOT_SHARE))
    if other is not None:
        repository = os.path.join(other.mount_point, "zitcache")
        return facts.command("backup", "--init", "--repo", repository, cache=True), None
    if any(fact.survival.verdict == "survives" for fact in disks.data):
        return None, (
            f"No mounted disk that survives has room for {size(need)}. Free some, mount a larger disk, "
            "or keep snapshots in object storage: zitcache init s3://BUCKET/zitcache"
        )
    return None, (
        "No disk that survives is mounted. Add a data disk to the machine and mount it, "
        "or keep snapshots in object storage: zitcache init s3://BUCKET/zitcache"
    )


def _new_folder(place: DiskFact, cache: CacheFacts) -> str:
    """A name on that disk that is free, or where an earlier migration stopped."""
    assert cache.path is not None
    names = ["modelscope_cache", "model_cache", f"{cache.path.name}-2", f"{cache.path.name}-3"]
    for name in names:
        folder = os.path.join(place.mount_point, name)
        try:
            taken = [entry for entry in os.listdir(folder) if not entry.startswith(".zitcache-")]
        except OSError:
            return folder
        if not taken:
            return folder
    return os.path.join(place.mount_point, f"{cache.path.name}-{os.getpid()}")


def check_disks(facts: Facts) -> Iterator[Check]:
    """Which disks survive."""
    disks = facts.disks()
    told = [_disk_sentence(fact) for fact in disks.data]
    if disks.dead:
        yield warn("disks", f"{named(disks.dead)} did not answer. {' '.join(told)}")
    elif any(fact.survival.verdict == "survives" for fact in disks.data):
        yield ok("disks", " ".join(told))
    else:
        found = " ".join(told) or "No disk but the system disk is mounted."
        yield warn("disks", found, advice="Add a data disk to the machine and mount it.")


def _disk_sentence(fact: DiskFact) -> str:
    free = f"{size(fact.free.bytes_free)} free" if fact.free else "no answer"
    verdict = {"survives": "survives", "lost": "is lost", "unknown": "may or may not survive"}
    read_only = "" if fact.is_writable else ", read-only"
    return (
        f"{fact.mount.mount_point} ({fact.mount.fstype}, {free}{read_only}) {verdict[fact.survival.verdict]}."
    )


def check_fake_data_disk(facts: Facts) -> Iterator[Check]:
    """A folder that is named like the landlord's data disk, and is on the system disk."""
    provider = facts.provider()
    fakes: list[str] = []
    for place in known_places(provider):
        if facts.disks().is_below_dead(place) or not os.path.isdir(place):
            continue
        if survives(place).verdict == "lost":
            fakes.append(place)
    if fakes:
        yield warn(
            "fake-data-disk",
            f"{named(fakes)} is named like a data disk, but no disk is mounted there: it is the system disk.",
            advice="Mount the data disk there before you put anything into it.",
        )
        return
    yield ok("fake-data-disk", "No folder of the system disk is named like a data disk.")


def check_cache_speed(facts: Facts) -> Iterator[Check]:
    """Weights on the network load slowly."""
    cache = facts.cache()
    if cache.located is None:
        yield skip("cache-speed", "There is no cache.")
        return
    far = [ground for ground in cache.grounds if ground.survival.is_network]
    if far:
        yield warn(
            "cache-speed",
            f"{size(sum(ground.size_bytes for ground in far))} are on the network "
            f"({far[0].survival.fstype}): loading them can take many times longer than from a local disk.",
            advice="Keep the cache on a local disk, and its snapshots on the network.",
        )
        return
    yield ok("cache-speed", "The cache is on a local disk.")


def check_cache_space(facts: Facts) -> Iterator[Check]:
    """A download into a full disk leaves truncated shards."""
    cache = facts.cache()
    if cache.located is None or cache.free is None:
        yield skip("cache-space", "There is no cache.")
        return
    free = cache.free
    told = f"{size(free.bytes_free)} free on the disk of the cache"
    told += f", {free.inodes_free:,} inodes." if free.inodes_free is not None else "."
    few_inodes = free.inodes_free is not None and free.inodes_free < 1000
    if free.bytes_free < CLOSE_TO_FULL_BYTES or few_inodes:
        yield warn("cache-space", told, fix=facts.command("clean", cache=True))
        return
    yield ok("cache-space", told)


def _repository(facts: Facts) -> RepositoryFacts | None:
    try:
        return facts.repository()
    except Exception:
        return None  # its own checks tell why
