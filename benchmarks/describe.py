"""One line about the machine, so that a number can be read with its circumstances."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def file_system(path: Path) -> tuple[str, str]:
    """Type and device of the file system that holds ``path``: its innermost mount; ("?", "?") if unknown."""
    resolved = path.resolve()
    best, depth = ("?", "?"), -1
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return best
    for line in lines:
        left, _, right = line.partition(" - ")
        mount_point = Path(left.split()[4].replace("\\040", " "))
        kind, source, *_ = right.split()
        # Of two mounts at one point the later one is seen.
        if resolved.is_relative_to(mount_point) and len(mount_point.parts) >= depth:
            best, depth = (kind, source), len(mount_point.parts)
    return best


def cpu_model() -> str:
    """The CPU's name, or the architecture where the kernel does not tell."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def memory_bytes() -> int:
    """The machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def machine_line(work: Path) -> str:
    """Cores, CPU, memory, kernel, file system and Python of this machine."""
    usable = len(os.sched_getaffinity(0))
    kind, device = file_system(work)
    return (
        f"{usable} cores ({cpu_model()}), {memory_bytes() / 1e9:.1f} GB of memory, "
        f"{platform.system()} {platform.release()}, {kind} on {device}, Python {platform.python_version()}"
    )
