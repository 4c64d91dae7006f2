"""The mounted disks: which survive, how much is free, which do not answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from zitcache.machine.bounded import Question
from zitcache.machine.mounts import (
    FreeSpace,
    Mount,
    Survival,
    data_mounts,
    free_space,
    mount_of,
    survival_of_mount,
)

PATIENCE_SECONDS = 0.6
"""How long a network mount may take to say how full it is before it counts as dead."""


@dataclass(frozen=True, slots=True)
class DiskFact:
    """A mounted file system. ``free``: None when it did not answer (``problem`` says why)."""

    mount: Mount
    survival: Survival
    free: FreeSpace | None
    problem: str | None = None

    @property
    def mount_point(self) -> str:
        """Where it is mounted."""
        return self.mount.mount_point

    @property
    def is_writable(self) -> bool:
        """Whether it is mounted for writing."""
        return "ro" not in self.mount.options


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """``system``: that of ``/``. ``data``: all others that can hold data, the roomiest survivors first."""

    system: DiskFact
    data: tuple[DiskFact, ...]

    @property
    def dead(self) -> tuple[str, ...]:
        """The mount points that do not answer."""
        return tuple(fact.mount.mount_point for fact in self.data if fact.free is None)

    def is_below_dead(self, path: str) -> bool:
        """Whether ``path`` lies, by its name, on a mount that does not answer."""
        return any(path == point or path.startswith(point.rstrip("/") + "/") for point in self.dead)


def look_at_disks() -> DiskFacts:
    """Ask all of them at once."""
    mounts = data_mounts()
    questions = [(mount, Question(partial(free_space, mount.mount_point))) for mount in mounts]
    deadline = time.monotonic() + PATIENCE_SECONDS
    found = [_fact(mount, question, deadline) for mount, question in questions]
    root = mount_of("/")
    system = DiskFact(root, survival_of_mount(root), free_space("/"))
    return DiskFacts(system, tuple(sorted(found, key=_preference)))


def _fact(mount: Mount, question: Question[FreeSpace], deadline: float) -> DiskFact:
    # A local disk that is slow is not dead: only for the network is there a limit of its own.
    try:
        free = question.answer(deadline if mount.is_network else None)
    except (OSError, TimeoutError) as error:
        reason = str(error) if isinstance(error, TimeoutError) else error.strerror or str(error)
        return DiskFact(mount, survival_of_mount(mount), None, reason)
    return DiskFact(mount, survival_of_mount(mount), free)


def _preference(fact: DiskFact) -> tuple[bool, bool, bool, int]:
    free = fact.free.bytes_free if fact.free else 0
    return (fact.survival.verdict != "survives", not fact.is_writable, fact.survival.is_network, -free)


def with_room(facts: DiskFacts, size_bytes: int, names: int = 0, *, local: bool = False) -> DiskFact | None:
    """The disk to take: it survives, can be written, has room. ``local``: not one on the network."""
    return next(
        (
            fact
            for fact in _survivors(facts.data)
            if fact.free is not None
            and not (local and fact.survival.is_network)
            and fact.free.bytes_free >= size_bytes
            and (fact.free.inodes_free is None or fact.free.inodes_free >= names)
        ),
        None,
    )


def _survivors(facts: Sequence[DiskFact]) -> list[DiskFact]:
    return [fact for fact in facts if fact.survival.verdict == "survives" and fact.is_writable]
