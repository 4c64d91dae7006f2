"""How much main memory programs here may still use: the machine's, or less where a control group says so.

Sources: ``proc_meminfo(5)``, the kernel's ``admin-guide/cgroup-v2.rst`` and ``cgroup-v1/memory.rst``.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

_NO_LIMIT = 1 << 60
"""Version 1 writes a number near 2^63 where there is no limit."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. ``limited_by``: "the machine" or "a control group" (a container's limit)."""

    total_bytes: int
    available_bytes: int
    limited_by: str


def main_memory(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> Memory:
    """The memory of this machine or container. Raises ``OSError`` or ``ValueError`` if it is not told."""
    fields = {
        key: int(value.split()[0]) * 1024
        for key, colon, value in (
            line.partition(":") for line in (proc / "meminfo").read_text(errors="replace").splitlines()
        )
        if colon and value.split()
    }
    found = Memory(fields["MemTotal"], fields["MemAvailable"], "the machine")
    limit = _limit(proc, cgroups)
    if limit is None or limit[0] >= found.total_bytes:
        return found
    total, used = limit
    return Memory(total, max(0, min(found.available_bytes, total - used)), "a control group")


def _limit(proc: Path, cgroups: Path) -> tuple[int, int] | None:
    """Limit and use of the tightest control group that this process is in; None without one."""
    limits: list[tuple[int, int]] = []
    with contextlib.suppress(OSError):
        for line in (proc / "self" / "cgroup").read_text().splitlines():
            number, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            if number == "0" and not controllers:
                limits += _of_groups(cgroups, path, "memory.max", "memory.current")
            elif "memory" in controllers.split(","):
                limits += _of_groups(
                    cgroups / "memory", path, "memory.limit_in_bytes", "memory.usage_in_bytes"
                )
    return min(limits, key=lambda limit: limit[0] - limit[1], default=None)


def _of_groups(mount: Path, path: str, limit_name: str, use_name: str) -> list[tuple[int, int]]:
    """In a container, the group's own path is often not there, and the mount itself is the group."""
    group = mount / path.lstrip("/")
    found: list[tuple[int, int]] = []
    for folder in (
        group,
        *(parent for parent in group.parents if parent == mount or mount in parent.parents),
    ):
        with contextlib.suppress(OSError, ValueError):
            limit = int((folder / limit_name).read_text())
            if limit < _NO_LIMIT:
                stat = _inactive_file(folder)
                found.append((limit, max(0, int((folder / use_name).read_text()) - stat)))
    return found


def _inactive_file(folder: Path) -> int:
    """Page cache that is given back at once when it is needed: it does not count as used."""
    with contextlib.suppress(OSError, ValueError):
        for line in (folder / "memory.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name in {"inactive_file", "total_inactive_file"}:
                return int(value)
    return 0
