"""Mounts, disks and free space. Decided by device and mount table, never by the look of a path."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from zitcache.machine.block_devices import disks_of
from zitcache.machine.container import find_container
from zitcache.machine.mount_table import LAYERED, NOT_FOR_DATA, Mount, mounts
from zitcache.machine.providers import enclosing_place, find_provider, hint_for
from zitcache.machine.survival import Ground, Survival, judge
from zitcache.machine.trees import device_of, nearest_existing

__all__ = [
    "FreeSpace",
    "Mount",
    "OverlayRoot",
    "Survival",
    "data_mounts",
    "free_space",
    "is_system_disk",
    "mount_of",
    "mounts",
    "overlay_root",
    "same_disk",
    "survival_of_mount",
    "survives",
]

# fmt: off
_NOT_FOR_DATA_UNDER = (
    "/proc", "/sys", "/dev", "/boot", "/snap", "/etc", "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64",
)
# fmt: on
_LOSS_WARNINGS = ("DATALOSS_WARNING_README.txt",)
"""What Azure puts on its temporary disks."""


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """What an ordinary user may still use. ``inodes_free``: None where the file system has no such limit."""

    bytes_free: int
    inodes_free: int | None


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

    Bind mounts of one device, subvolumes of one Btrfs and datasets of one ZFS pool count as the same disk.
    Raises ``OSError``.
    """
    if device_of(a) == device_of(b):
        return True
    one, other = mount_of(a), mount_of(b)
    return one.device == other.device or _same_pool(one, other)


def is_system_disk(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` lies on the file system of ``/``, whatever its name promises. Raises ``OSError``."""
    return same_disk(path, "/")


@dataclass(frozen=True, slots=True)
class OverlayRoot:
    """``/`` is laid over others. ``upper``: where changes go, ``lower``: what the image brought (top first).

    As paths of whoever mounted it, most often the host, where they cannot be seen from here.
    """

    upper: str | None
    lower: tuple[str, ...]


def overlay_root() -> OverlayRoot | None:
    """How ``/`` is put together if it is an overlay, as in most containers; None otherwise."""
    root = mount_of("/")
    if root.fstype not in LAYERED:
        return None
    options = dict(option.partition("=")[::2] for option in root.options)
    lower = [option.removeprefix("lowerdir+=") for option in root.options if option.startswith("lowerdir+=")]
    lower += [part for part in options.get("lowerdir", "").split(":") if part]
    return OverlayRoot(options.get("upperdir"), tuple(lower))


def survives(path: str | os.PathLike[str]) -> Survival:
    """Whether what lies (or would lie) at ``path`` outlives a reset of the system disk. Raises ``OSError``.

    A path on a network mount whose server is dead does not answer: ask about the mount instead
    (:func:`survival_of_mount`), or not for long (``bounded``).
    """
    existing = nearest_existing(path)
    mount = mount_of(existing)
    return _judged(mount, os.path.realpath(path), shares_root=same_disk(existing, "/"))


def survival_of_mount(mount: Mount) -> Survival:
    """The same for a mount as a whole. Network mounts are judged without asking them."""
    root = mount_of("/")
    shares_root = mount.device in {device_of("/"), root.device} or _same_pool(mount, root)
    return _judged(mount, mount.mount_point, shares_root=shares_root)


def _judged(mount: Mount, path: str, *, shares_root: bool) -> Survival:
    table = mounts()
    root = mount_of("/")
    disks = disks_of(mount)
    provider = find_provider(entry.mount_point for entry in table)
    hint = enclosing_place(path, provider) if shares_root else hint_for(mount.mount_point, provider)
    ground = Ground(
        mount=mount,
        shares_root=shares_root,
        disks=disks,
        root_disks=disks_of(root),
        image_on_system=next((image for image in disks.image_files if _is_on_system(image)), None),
        has_loss_warning=not mount.is_network and _warns_of_loss(mount.mount_point),
        in_container=find_container().kind != "none",
    )
    return judge(ground, hint)


def _is_on_system(image: str) -> bool:
    try:
        return os.path.exists(image) and is_system_disk(image)
    except OSError:
        return False


def _warns_of_loss(mount_point: str) -> bool:
    with contextlib.suppress(OSError):
        return any(Path(mount_point, name).exists() for name in _LOSS_WARNINGS)
    return False


def _same_pool(a: Mount, b: Mount) -> bool:
    """Datasets of one ZFS pool have numbers of their own, and lie on the same disks."""
    return a.fstype == b.fstype == "zfs" and a.source.partition("/")[0] == b.source.partition("/")[0]


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
    if mount.is_memory or mount.fstype in NOT_FOR_DATA:
        return False
    if any(_contains(place, mount.mount_point) for place in _NOT_FOR_DATA_UNDER):
        return False
    # A dead server makes stat hang, and single files are not exported: do not ask.
    # Others may have mounts below folders that are closed to us: `Path.is_dir` would raise.
    return mount.is_network or os.path.isdir(mount.mount_point)


def _contains(directory: str, path: str) -> bool:
    return directory == "/" or path == directory or path.startswith(directory + "/")
