"""Which whole disks a file system lies on: through partitions, LVM, RAID, encryption and loop devices.

Two partitions of one disk have two device numbers, and one "reset system disk" takes both. Source: the
kernel's ``ABI/stable/sysfs-block`` and ``ABI/testing/sysfs-block-loop``.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from zitcache.machine.mount_table import Mount

SYSFS = Path("/sys")
DEVICES = "/dev"
_DELETED = " (deleted)"
_MAX_LAYERS = 16
_IN_MEMORY = ("zram", "ram")


@dataclass(frozen=True, slots=True)
class Disks:
    """``names``: whole disks ("vda", "nvme0n1"); empty where the kernel names none (network, overlay).

    ``image_files``: files that loop devices in between are made of, as far as they can be seen from here.
    ``models``: what the hardware calls itself ("Amazon EC2 NVMe Instance Storage").
    """

    names: frozenset[str] = frozenset()
    image_files: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    @property
    def is_memory(self) -> bool:
        """Whether all of it is memory made to look like a disk."""
        return bool(self.names) and all(name.startswith(_IN_MEMORY) for name in self.names)


def disks_of(mount: Mount) -> Disks:
    """The disks that ``mount`` lies on. Reads ``/sys`` and ``/dev`` alone; raises nothing."""
    folder = _folder(mount)
    if folder is None:
        return Disks()
    names: set[str] = set()
    images: list[str] = []
    pending = [folder]
    for _ in range(_MAX_LAYERS):
        layer, pending = pending, []
        for device in layer:
            pending += _below(device, names, images)
        if not pending:
            break
    models = tuple(sorted({model for name in names if (model := _model(name))}))
    return Disks(frozenset(names), tuple(images), models)


def _folder(mount: Mount) -> Path | None:
    """The device's folder in ``/sys``: by the number of the file system, else (Btrfs) of what was mounted."""
    numbers = [mount.device]
    if mount.source.startswith(f"{DEVICES}/"):
        with contextlib.suppress(OSError):
            status = os.stat(mount.source)
            if stat.S_ISBLK(status.st_mode):
                numbers.append(status.st_rdev)
    for number in numbers:
        if os.major(number):  # 0: no block device
            link = SYSFS / "dev" / "block" / f"{os.major(number)}:{os.minor(number)}"
            with contextlib.suppress(OSError):
                return link.resolve(strict=True)
    return None


def _below(device: Path, names: set[str], images: list[str]) -> list[Path]:
    """What ``device`` is made of; a disk that is made of nothing else goes into ``names``."""
    if (device / "partition").exists():
        return [device.parent]
    with contextlib.suppress(OSError):
        made_of = sorted(path.resolve() for path in (device / "slaves").iterdir())
        if made_of:
            return made_of
    names.add(device.name)
    with contextlib.suppress(OSError):
        image = os.fsdecode((device / "loop" / "backing_file").read_bytes()).rstrip("\n")
        if image and not image.endswith(_DELETED):
            images.append(image)
    return []


def _model(name: str) -> str:
    with contextlib.suppress(OSError):
        return (SYSFS / "block" / name / "device" / "model").read_text(errors="replace").strip()
    return ""
