"""Does a file system outlive a reset of the system disk? Judged by devices and mounts, never by a path.

Whatever shares a device with ``/`` dies with it: bind mounts, Btrfs subvolumes, the layer of a container.
What is on another partition of the same disk, or what a landlord calls temporary, is "unknown": it depends on
who resets, and how. See :func:`zitcache.machine.mounts.survives` for a path.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from zitcache.machine.block_devices import Disks
from zitcache.machine.mount_table import LAYERED, Mount
from zitcache.machine.providers import Confidence, PlaceHint

Verdict = Literal["survives", "lost", "unknown"]

_INSTANCE_STORES = ("EC2 NVMe Instance Storage", "EC2 Instance Storage")
_POD_FOLDER = "kubernetes.io~empty-dir"


@dataclass(frozen=True, slots=True)
class Survival:
    """``verdict``: "survives", "lost", or "unknown" (it depends). ``reason``: whole sentences.

    ``confidence`` in the verdict. ``is_network``: it can be reached, but slowly, and not always.
    ``mount_point``, ``fstype``: where it lies.
    """

    verdict: Verdict
    reason: str
    confidence: Confidence
    mount_point: str
    fstype: str
    is_network: bool = False


@dataclass(frozen=True, slots=True)
class Ground:
    """A mount with what is known of it. ``shares_root``: its device is that of ``/``.

    ``image_on_system``: the image file that its loop device is made of, if that lies on the system disk.
    ``has_loss_warning``: the disk itself says that it is temporary (Azure puts a file there).
    """

    mount: Mount
    shares_root: bool
    disks: Disks = field(default_factory=Disks)
    root_disks: Disks = field(default_factory=Disks)
    image_on_system: str | None = None
    has_loss_warning: bool = False
    in_container: bool = False


def judge(ground: Ground, hint: PlaceHint | None = None) -> Survival:
    """The verdict on ``ground``; ``hint``: what the landlord says of the place (see ``providers``)."""
    found = _by_device(ground)
    if hint is None:
        return found
    if found.verdict != "survives":
        named = f"The name is that of a place of {hint.provider}, but a name keeps nothing."
        no_disk = ground.shares_root and hint.keeps
        return replace(found, reason=f"{found.reason} {named}") if no_disk else found
    said = replace(found, reason=f"{found.reason} {hint.note}")
    if not hint.keeps:
        return replace(said, verdict="unknown", confidence="medium" if hint.confidence == "high" else "low")
    return replace(said, confidence="high") if hint.confidence == "high" else said


def _by_device(ground: Ground) -> Survival:
    mount = ground.mount

    def verdict(verdict: Verdict, reason: str, confidence: Confidence) -> Survival:
        return Survival(verdict, reason, confidence, mount.mount_point, mount.fstype, mount.is_network)

    if mount.is_memory or ground.disks.is_memory:
        return verdict("lost", f"It is in memory ({mount.fstype}): a restart empties it.", "high")
    if ground.shares_root:
        return verdict("lost", _as_root(mount), "high")
    if mount.fstype in LAYERED:
        return verdict("unknown", f"It is a layer over other directories ({mount.fstype}).", "low")
    if _POD_FOLDER in mount.root:
        return verdict("lost", "It is a pod's emptyDir volume: it goes with the pod.", "high")
    if mount.is_network:
        return verdict(
            "survives",
            f"It is on the network ({mount.fstype}, {mount.source or 'unnamed'}): loading weights from there "
            "can be many times slower.",
            "medium",
        )
    if ground.image_on_system is not None:
        return verdict(
            "lost", f"It is inside the file {ground.image_on_system}, which is on the system disk.", "high"
        )
    shared = ground.disks.names & ground.root_disks.names
    if shared:
        return verdict(
            "unknown",
            f"It is another partition of the disk that the system is on ({', '.join(sorted(shared))}): "
            "a reset that writes the whole disk anew takes it too.",
            "medium",
        )
    if any(store in model for model in ground.disks.models for store in _INSTANCE_STORES):
        return verdict("unknown", "It is an instance store: it is emptied when the machine stops.", "high")
    if ground.has_loss_warning:
        return verdict("unknown", "The disk itself says that data on it can be lost at any restart.", "high")
    if mount.fstype == "unknown":
        return verdict("unknown", "The mount table does not say what it lies on.", "low")
    if _is_anonymous_volume(mount.root):
        return verdict(
            "unknown", "It is a volume without a name: it is removed together with its container.", "medium"
        )
    source = mount.source or mount.fstype
    confidence: Confidence = "medium" if ground.in_container or not ground.disks.names else "high"
    reason = f"It is another disk than the system's ({source}, {mount.fstype})."
    return verdict("survives", reason, confidence)


def _as_root(mount: Mount) -> str:
    if mount.fstype in LAYERED:
        return f"It is in the container's own layer ({mount.fstype}): a reset starts over without it."
    source = mount.source if mount.source.startswith("/dev/") else mount.fstype
    if mount.mount_point == "/":
        return f"It is on the system disk ({source})."
    return f"It is on the system disk ({source}), although {mount.mount_point} is a mount of its own."


def _is_anonymous_volume(root: str) -> bool:
    """``/var/lib/docker/volumes/<64 hex digits>/_data``: what Docker makes for a ``VOLUME`` nobody named."""
    folder, _, last = root.rpartition("/")
    name = folder.rpartition("/")[2]
    return last == "_data" and len(name) == 64 and all(letter in "0123456789abcdef" for letter in name)
