"""Everything that the checks need to know, asked all at once, each answer waited for only so long."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import msgspec

from zitcache.machine.bounded import Question
from zitcache.machine.container import Container, find_container
from zitcache.machine.gpus import Gpus, find_gpus
from zitcache.machine.mounts import mounts
from zitcache.machine.providers import Provider, find_provider
from zitcache.machine.schedule_entries import ScheduleEntries, capture
from zitcache.machine.schedulers import Schedulers, find_schedulers
from zitcache.tasks.doctor.cache_facts import CacheFacts, look_at_cache
from zitcache.tasks.doctor.disk_facts import DiskFacts, look_at_disks
from zitcache.tasks.doctor.repository_facts import RepositoryFacts, look_at_repository
from zitcache.tasks.doctor.wording import command
from zitcache.tasks.environment import VariableState, survey

PATIENCE_SECONDS = 10.0
"""After which a question counts as not answered: a local disk that is merely busy does answer."""

PATIENCE_WITH_DEAD_DISKS_SECONDS = 1.6
"""The same where a mount is known not to answer: what leads there through a link never will."""


class DoctorRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``cache``, ``repository``: as on the command line. ``fix``: do what is safe. ``strict``: warnings
    count as failures."""

    cache: str | None = None
    repository: str | None = None
    fix: bool = False
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Nights:
    """What is written down to run zitcache, and what would run it."""

    entries: ScheduleEntries
    schedulers: Schedulers


class Facts:
    """Each method gives its answer, raises what went wrong, or ``TimeoutError``; the same every time."""

    def __init__(self, request: DoctorRequest, environ: Mapping[str, str] = os.environ) -> None:
        self.request = request
        self.environ = dict(environ)
        self._begun = time.monotonic()
        self._disks = Question(look_at_disks)
        self._nights = Question(lambda: Nights(capture(), find_schedulers()))
        self._gpus = Question(lambda: find_gpus(self.environ))
        self._variables = Question(partial(survey, self.environ))
        self._cache = Question(lambda: look_at_cache(request.cache, self.environ, self.disks()))
        self._repository = Question(
            lambda: look_at_repository(request.repository, self.environ, self.disks())
        )

    def disks(self) -> DiskFacts:
        """The mounted disks."""
        return self._disks.answer(self._begun + PATIENCE_SECONDS)

    def cache(self) -> CacheFacts:
        """The cache, wherever it is."""
        return self._cache.answer(self._deadline())

    def repository(self) -> RepositoryFacts:
        """The repository and what is in it."""
        return self._repository.answer(self._deadline())

    def variables(self) -> list[VariableState]:
        """What is set, and by which line of which file."""
        return self._variables.answer(self._deadline())

    def nights(self) -> Nights:
        """The schedule."""
        return self._nights.answer(self._deadline())

    def gpus(self) -> Gpus:
        """The GPUs."""
        return self._gpus.answer(self._deadline())

    def provider(self) -> Provider | None:
        """Who rents this machine out."""
        return find_provider((mount.mount_point for mount in mounts()), self.environ)

    def container(self) -> Container:
        """What kind of container this is."""
        return find_container(environ=self.environ)

    def command(self, *words: str, cache: bool = False, repository: bool = False) -> str:
        """A line to type that means the same ``cache`` and ``repository`` as this command was given."""
        more: tuple[str, ...] = ()
        if cache and self.request.cache:
            more += ("--cache", self.request.cache)
        if repository and self.request.repository:
            more += ("-r", self.request.repository)
        return command(*words, *more)

    def _deadline(self) -> float:
        patience = PATIENCE_WITH_DEAD_DISKS_SECONDS if self.disks().dead else PATIENCE_SECONDS
        return self._begun + patience
