"""The mount table: what is mounted where, and of which kind. Read as text: no disk is asked."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

# fmt: off
NETWORK = frozenset({
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "lustre", "glusterfs", "afs", "beegfs", "gpfs",
    "orangefs", "wekafs", "fuse",
})
LOCAL_FUSE = frozenset({"fuse.mergerfs", "fuse.bindfs", "fuse.ntfs-3g", "fuse.exfat", "fuse.fuse-overlayfs"})
MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"})
NOT_FOR_DATA = frozenset({
    "proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "debugfs", "tracefs", "securityfs", "pstore",
    "bpf", "configfs", "fusectl", "autofs", "binfmt_misc", "efivarfs", "rpc_pipefs", "nsfs", "selinuxfs",
    "nfsd", "squashfs", "iso9660", "udf", "erofs", "overlay", "aufs",
    "fuse.lxcfs", "fuse.portal", "fuse.gvfsd-fuse", "fuse.fuse-overlayfs", "fuse.snapfuse",
})
LAYERED = frozenset({"overlay", "aufs", "fuse.fuse-overlayfs"})
"""One directory laid over others: the root of most containers."""

# fmt: on
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the mount table.

    ``device`` is the file system's device number (as in ``st_dev``, except inside Btrfs subvolumes),
    ``source`` what was mounted ("/dev/vda1", "server:/export"), ``root`` which directory of it.
    """

    mount_point: str
    device: int
    fstype: str
    options: tuple[str, ...]
    is_network: bool
    is_memory: bool
    source: str = ""
    root: str = "/"


def mounts(table: str | None = None) -> tuple[Mount, ...]:
    """The mounts in the order of ``/proc/self/mountinfo``, or of ``table`` in that form.

    Later ones hide earlier ones. Lines that make no sense are left out. Source: ``proc_pid_mountinfo(5)``.
    """
    if table is None:
        table = os.fsdecode(Path("/proc/self/mountinfo").read_bytes())
    parsed = (_parse(line) for line in table.split("\n"))
    return tuple(mount for mount in parsed if mount is not None)


def _parse(line: str) -> Mount | None:
    """``36 35 98:0 /root /mount/point rw,noatime shared:1 - ext4 /dev/vda1 rw,errors=continue``."""
    head, separator, tail = line.partition(" - ")
    fields, more = head.split(" "), tail.split(" ")
    if not separator or len(fields) < 6 or len(more) < 2:
        return None
    major, _, minor = fields[2].partition(":")
    if not (major.isdecimal() and minor.isdecimal()):
        return None
    fstype = more[0]
    options = fields[5].split(",") + (more[2].split(",") if len(more) > 2 else [])
    is_fuse = fstype.startswith("fuse.") and fstype not in LOCAL_FUSE | NOT_FOR_DATA
    return Mount(
        mount_point=_unescape(fields[4]),
        device=os.makedev(int(major), int(minor)),
        fstype=fstype,
        options=tuple(dict.fromkeys(options)),
        is_network=fstype in NETWORK or is_fuse,
        is_memory=fstype in MEMORY,
        source=_unescape(more[1]),
        root=_unescape(fields[3]),
    )


def _unescape(text: str) -> str:
    r"""The kernel writes space, tab, newline and backslash as ``\040``, ``\011``, ``\012``, ``\134``."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
