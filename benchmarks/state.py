"""What one run of the benchmark knows: its caches, its settings, and every measurement so far."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cachemaker import MadeCache, listing
from contenders import Tool
from measure import Command, CommandError, Sample, make_cold, remove, run, sync_file_system


@dataclass(slots=True)
class Series:
    """All runs of one thing. ``scale``: what a time on a smaller cache is multiplied with."""

    title: str
    scale: float = 1.0
    measured_bytes: int = 0
    samples: list[Sample] = field(default_factory=list)
    failure: str | None = None

    def median(self) -> float | None:
        """Median seconds, scaled; None when nothing was measured or a run failed."""
        if self.failure or not self.samples:
            return None
        return statistics.median(sample.seconds for sample in self.samples) * self.scale

    def median_cpu(self) -> float | None:
        """Median CPU seconds, scaled."""
        if self.failure or not self.samples:
            return None
        return statistics.median(sample.cpu_seconds for sample in self.samples) * self.scale

    def peak_bytes(self) -> int | None:
        """The largest peak of all runs."""
        return max((sample.peak_bytes for sample in self.samples), default=None)


@dataclass(slots=True)
class Bench:
    """One run of the benchmark: where it works, what it measures, what it found."""

    scratch: Path
    cache: MadeCache
    small: MadeCache
    tiny: MadeCache
    rounds: int
    drop: bool
    warm_programs: bool
    check: bool
    full_size: frozenset[str]
    series: dict[str, Series] = field(default_factory=dict)
    stored: dict[str, float] = field(default_factory=dict)
    checked: list[str] = field(default_factory=list)

    def input_of(self, tool: Tool) -> MadeCache:
        """The cache that ``tool`` is measured on."""
        return self.cache if tool.key in self.full_size else self.small

    def rounds_of(self, tool: Tool) -> int:
        """How many times ``tool`` is measured."""
        return self.rounds if tool.key in self.full_size else 1

    def store_of(self, tool: Tool, cache: MadeCache) -> Path:
        """Where ``tool`` keeps its backup of ``cache``."""
        return self.scratch / f"{tool.key}-{'tiny' if cache is self.tiny else 'store'}"

    def measure(
        self,
        name: str,
        title: str,
        command: Command,
        warm_up: Callable[[], None] | None = None,
        cold: Sequence[Path] = (),
        sync: bool = False,
        scale: float = 1.0,
        measured_bytes: int = 0,
    ) -> bool:
        """Run ``command`` once and add it to the series ``name``; ``cold``: what must not be in memory."""
        series = self.series.setdefault(name, Series(title, scale, measured_bytes))
        if series.failure:
            return False
        if cold:
            make_cold(cold, self.drop)
        try:
            # A program read from a cold disk would count against the small caches of a benchmark, not
            # against 32 GB: by default only the data is cold.
            if warm_up is not None and (self.warm_programs or not cold):
                warm_up()
            sync_file_system(self.scratch)
            sample = run(command, self.scratch / "output.log", self.scratch if sync else None)
        except CommandError as failure:
            self.fail(name, title, str(failure))
            return False
        series.samples.append(sample)
        parts = f"sync {sample.sync_seconds:.2f} s, CPU {sample.cpu_seconds:.2f} s"
        scaled = "" if scale == 1 else f", to be scaled x {scale:.1f}"
        say(f"{name}: {sample.seconds:.2f} s ({parts}, peak {sample.peak_bytes / 1e6:.0f} MB){scaled}")
        return True

    def scale_of(self, tool: Tool) -> float:
        """What a measurement of ``tool`` is multiplied with."""
        return self.cache.size_bytes / self.input_of(tool).size_bytes

    def unmeasured_backup(self, tool: Tool, cache: MadeCache, store: Path) -> None:
        """Make a fresh backup of ``cache`` without measuring it. Raises :class:`CommandError`."""
        log = self.scratch / "output.log"
        remove(store)
        for command in (*tool.prepare(store), tool.backup(cache.root, store)):
            run(command, log)

    def fail(self, name: str, title: str, reason: str) -> None:
        """Record, and say, that the series ``name`` has no result."""
        self.series.setdefault(name, Series(title)).failure = reason
        say(f"{name}: FAILED, {reason}")

    def ensure_store(self, tool: Tool, *names: str) -> bool:
        """Make sure that ``tool`` has a backup of its cache; when it cannot, the series ``names`` failed."""
        try:
            for cache in (self.tiny, self.input_of(tool)):
                store = self.store_of(tool, cache)
                if not store.exists():
                    self.unmeasured_backup(tool, cache, store)
        except CommandError as failure:
            for name in names:
                self.fail(name, tool.title, f"no backup to start from: {failure}")
            remove(store)
            return False
        return True

    def same_tree(self, cache: MadeCache, other: Path, what: str) -> str | None:
        """Compare names and sizes of two trees; what differs, or None."""
        roots = [other, *(path.parent for path in sorted(other.rglob("models")) if path.is_dir())]
        if any(listing(root) == listing(cache.root) for root in roots):
            return None
        return f"{what}: {other} does not hold the same names and sizes as the cache"


def say(line: str) -> None:
    """Tell the person at the terminal how far we are; results go to stdout, this does not."""
    print(line, file=sys.stderr, flush=True)
