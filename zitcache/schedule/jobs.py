"""What runs when: the one source from which units, timers, crontabs and our own daemon are made."""

from __future__ import annotations

from dataclasses import dataclass, field

from zitcache.schedule.times import CronTimes, parse_times

DEFAULT_AT = "0 2 * * *"
PROOF_AT = "30 4 1 * *"
HOURLY_AT = "17 * * * *"
UNIT_PREFIX = "zitcache-"
JOB_NAMES = ("backup", "check", "proof")
PATIENCE = "12h"
"""How long a night of one unit waits for that of another: timers that come late come at the same time."""


@dataclass(frozen=True, slots=True)
class Installation:
    """Everything a scheduled run must be told, because it has no shell, no profile and no working directory.

    ``program``: the words that start zitcache, absolute. ``options``: what every run gets (``--repo …``), in
    the form of the command line. ``repository``: a directory or a URL. ``cache``: the cache's real path, None
    to find it anew each night. ``scratch``: where a drill may restore to, on a disk with room. ``writable``:
    further directories that are written to. ``home``, ``user``: whose. ``environment``: further
    variables (``ZITCACHE_CONFIG``).
    """

    program: tuple[str, ...]
    repository: str
    options: tuple[str, ...] = ()
    at: CronTimes = field(default_factory=lambda: parse_times(DEFAULT_AT))
    cache: str | None = None
    scratch: str | None = None
    writable: tuple[str, ...] = ()
    home: str = "/root"
    user: str = "root"
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def is_remote(self) -> bool:
        """Whether the repository is reached over the network by zitcache itself."""
        return "://" in self.repository

    @property
    def mounts(self) -> list[str]:
        """Paths that must be mounted before a run: else it would write into an empty mount point."""
        places = [] if self.is_remote else [self.repository]
        places += [self.cache] if self.cache else []
        places += [self.scratch] if self.scratch else []
        return list(dict.fromkeys(places))

    @property
    def read_write(self) -> list[str]:
        """The only places that a run may write to, under systemd's protection."""
        places = [] if self.is_remote else [self.repository]
        places += [self.scratch] if self.scratch else []
        return list(dict.fromkeys([*places, *self.writable]))


@dataclass(frozen=True, slots=True)
class Job:
    """One thing that runs by itself. ``words``: the command after the program. ``needs_gpu``: it draws."""

    name: str
    description: str
    words: tuple[str, ...]
    at: CronTimes
    needs_gpu: bool = False
    after: str | None = None

    @property
    def unit(self) -> str:
        """The name of its systemd units, without suffix."""
        return UNIT_PREFIX + self.name


def night_jobs(installation: Installation) -> list[Job]:
    """The jobs of a machine with systemd: each gets a unit with only the rights it needs.

    Together they do what ``zitcache night`` does in one go under cron and our own daemon.
    """
    return [
        Job(
            "backup",
            "Nightly backup of the model cache",
            ("night", "--only", "backup,forget,prune,report", "--wait", PATIENCE, *installation.options),
            installation.at,
        ),
        Job(
            "check",
            "Nightly check of the snapshots, and a drill each month",
            ("night", "--only", "check,drill,report", "--wait", PATIENCE, *installation.options),
            installation.at,
            after="backup",
        ),
        Job(
            "proof",
            "Monthly proof that the model weights load and draw",
            ("night", "--only", "proof,report", "--wait", PATIENCE, *installation.options),
            parse_times(PROOF_AT),
            needs_gpu=True,
            after="check",
        ),
    ]


def whole_night(installation: Installation) -> Job:
    """Everything in one command, for cron and for our own daemon."""
    return Job("night", "Nightly care of the model cache", ("night", *installation.options), installation.at)


def missed_night(installation: Installation) -> Job:
    """Makes up for a night that the machine was off for: cron does not. Nothing to do costs little."""
    words = ("night", "--if-missed", installation.at.text, *installation.options)
    return Job("missed", "The night that did not come", words, parse_times(HOURLY_AT))


def command_line(installation: Installation, job: Job) -> list[str]:
    """The words of the whole command, the program's absolute path first."""
    return [*installation.program, *job.words]


def example() -> Installation:
    """The machine that the files in ``systemd/`` and ``crontab.example`` are written for."""
    repository, cache = "/data/zitcache", "/root/workspace/model_cache"
    return Installation(
        program=("/usr/local/bin/zitcache",),
        repository=repository,
        options=("--repo", repository, "--cache", cache),
        cache=cache,
        scratch="/data/zitcache-drill",
        writable=("/data/zitcache-proofs",),
    )
