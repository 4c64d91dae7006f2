"""Mounts, disks and free space. Decided by device and mount table, never by the look of a path."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from zitcache.machine.trees import device_of, nearest_existing

# fmt: off
_NETWORK = frozenset({
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "lustre", "glusterfs", "afs", "beegfs", "gpfs",
    "orangefs", "wekafs", "fuse",
})
_LOCAL_FUSE = frozenset({"fuse.mergerfs", "fuse.bindfs", "fuse.ntfs-3g", "fuse.exfat", "fuse.fuse-overlayfs"})
_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"})
_NOT_FOR_DATA = frozenset({
    "proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "debugfs", "tracefs", "securityfs", "pstore",
    "bpf", "configfs", "fusectl", "autofs", "binfmt_misc", "efivarfs", "rpc_pipefs", "nsfs", "selinuxfs",
    "nfsd", "squashfs", "iso9660", "udf", "erofs", "overlay", "aufs",
    "fuse.lxcfs", "fuse.portal", "fuse.gvfsd-fuse", "fuse.fuse-overlayfs", "fuse.snapfuse",
})
# fmt: on
_NOT_FOR_DATA_UNDER = ("/proc", "/sys", "/dev", "/boot", "/snap")
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


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """What an ordinary user may still use. ``inodes_free``: None where the file system has no such limit."""

    bytes_free: int
    inodes_free: int | None


def mounts(table: str | None = None) -> tuple[Mount, ...]:
    """The mounts in the order of ``/proc/self/mountinfo``, or of ``table`` in that form.

    Later ones hide earlier ones. Lines that make no sense are left out. Source: ``proc_pid_mountinfo(5)``.
    """
    if table is None:
        table = os.fsdecode(Path("/proc/self/mountinfo").read_bytes())
    parsed = (_parse(line) for line in table.split("\n"))
    return tuple(mount for mount in parsed if mount is not None)


def mount_of(path: str | os.PathLike[str]) -> Mount:
    """The mount on which ``path`` lies or would lie. Raises ``OSError``.

    The longest mount point that contains it; among several, one of its own device (a mount that another one
    hides is still in the table).
    """
    existing = nearest_existing(path)
    holding = [mount for mount in mounts() if _contains(mount.mount_point, str(existing))]
    holding.reverse()  # of equal mount points, the last mounted is the one seen; the sort below is stable
    holding.sort(key=lambda mount: len(mount.mount_point), reverse=True)
    device = existing.stat().st_dev
    for mount in holding:
        if mount.device == device:
            return mount
    if holding:
        return holding[0]
    # A chroot can hide its own root from the table.
    return Mount("/", device, "unknown", (), is_network=False, is_memory=False)


def same_disk(a: str | os.PathLike[str], b: str | os.PathLike[str]) -> bool:
    """Whether ``a`` and ``b`` lie (or would lie) on one file system, so that one reset takes both.

    Bind mounts of one device and subvolumes of one Btrfs count as the same disk. Raises ``OSError``.
    """
    return device_of(a) == device_of(b) or mount_of(a).device == mount_of(b).device


def is_system_disk(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` lies on the file system of ``/``, whatever its name promises. Raises ``OSError``."""
    return same_disk(path, "/")


def free_space(path: str | os.PathLike[str]) -> FreeSpace:
    """Free bytes and inodes where ``path`` lies or would lie. Raises ``OSError``."""
    found = os.statvfs(nearest_existing(path))
    # Btrfs and others make inodes as needed and report none at all.
    return FreeSpace(found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None)


def data_mounts() -> tuple[Mount, ...]:
    """Mounts that can hold data and outlive the system disk: real or network, not on the device of ``/``.

    Left out: memory, kernel and image file systems, ``/boot``, and single files that a container has bind
    mounted (``/etc/hosts``).
    """
    table = mounts()
    system = {device_of("/"), mount_of("/").device}
    visible = {mount.mount_point: mount for mount in table}
    return tuple(mount for mount in visible.values() if mount.device not in system and _holds_data(mount))


def _holds_data(mount: Mount) -> bool:
    if mount.is_memory or mount.fstype in _NOT_FOR_DATA:
        return False
    if any(_contains(place, mount.mount_point) for place in _NOT_FOR_DATA_UNDER):
        return False
    # A dead server makes stat hang, and single files are not exported: do not ask.
    return mount.is_network or Path(mount.mount_point).is_dir()


def _contains(directory: str, path: str) -> bool:
    return directory == "/" or path == directory or path.startswith(directory + "/")


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
    is_fuse = fstype.startswith("fuse.") and fstype not in _LOCAL_FUSE | _NOT_FOR_DATA
    return Mount(
        mount_point=_unescape(fields[4]),
        device=os.makedev(int(major), int(minor)),
        fstype=fstype,
        options=tuple(dict.fromkeys(options)),
        is_network=fstype in _NETWORK or is_fuse,
        is_memory=fstype in _MEMORY,
        source=_unescape(more[1]),
        root=_unescape(fields[3]),
    )


def _unescape(text: str) -> str:
    r"""The kernel writes space, tab, newline and backslash as ``\040``, ``\011``, ``\012``, ``\134``."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
