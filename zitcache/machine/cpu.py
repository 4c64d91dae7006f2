"""How many processors may be used, what they can do, and how much memory was used."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path


def worker_count() -> int:
    """How many threads can run at once: CPU affinity, limited by the container's CPU quota; at least 1."""
    available = len(os.sched_getaffinity(0))
    quota = cpu_quota()
    # 1.5 processors keep two threads busy.
    return available if quota is None else max(1, min(available, -int(-quota // 1)))


def cpu_quota(proc: Path = Path("/proc/self"), cgroups: Path = Path("/sys/fs/cgroup")) -> float | None:
    """The smallest CPU quota (in processors) of this process's control groups, v1 or v2; None without one.

    Source: the kernel's ``admin-guide/cgroup-v2.rst`` (``cpu.max``) and ``scheduler/sched-bwc.rst``.
    """
    try:
        lines = (proc / "cgroup").read_text().splitlines()
    except OSError:
        return None
    quotas: list[float] = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            quotas += _quotas(_with_parents(cgroups, path), _quota_v2)
        elif "cpu" in controllers.split(","):
            for name in dict.fromkeys((controllers, "cpu")):
                quotas += _quotas(_with_parents(cgroups / name, path), _quota_v1)
    return min(quotas, default=None)


@lru_cache(maxsize=1)
def has_sha_extensions() -> bool:
    """Whether this processor computes SHA-256 in hardware (``sha_ni`` on x86, ``sha2`` on arm64)."""
    try:
        return _lists_sha(Path("/proc/cpuinfo").read_text(errors="replace"))
    except OSError:
        return False


def peak_memory_bytes() -> int:
    """The most memory (resident set, bytes) this process has held so far."""
    # ru_maxrss is inherited through exec from a fat parent; VmHWM is not.
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text(errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _lists_sha(cpuinfo: str) -> bool:
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            return "sha_ni" in value.split()
        if key.strip() == "Features":
            return "sha2" in value.split()
    return False


def _with_parents(mount: Path, path: str) -> Iterator[Path]:
    """The group's own directory and those above it; a limit on any of them counts."""
    group = mount / path.lstrip("/")
    yield group
    if group != mount:
        yield from (parent for parent in group.parents if parent == mount or mount in parent.parents)


def _quotas(groups: Iterator[Path], read: Callable[[Path], float | None]) -> list[float]:
    found: list[float] = []
    for group in groups:
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            quota = read(group)
            if quota is not None and quota > 0:
                found.append(quota)
    return found


def _quota_v2(group: Path) -> float | None:
    limit, period = (group / "cpu.max").read_text().split()
    return None if limit == "max" else int(limit) / int(period)


def _quota_v1(group: Path) -> float | None:
    limit = int((group / "cpu.cfs_quota_us").read_text())
    return None if limit < 0 else limit / int((group / "cpu.cfs_period_us").read_text())
