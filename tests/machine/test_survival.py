"""The verdict on a file system, for machines that cannot be had here."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from zitcache.machine.block_devices import Disks
from zitcache.machine.mounts import mounts
from zitcache.machine.providers import PlaceHint
from zitcache.machine.survival import Ground, judge

DATA = mounts("5 1 259:2 / /data rw - xfs /dev/nvme1n1 rw")[0]
ROOT = mounts("1 0 0:50 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/u")[0]
ANONYMOUS = f"/var/lib/docker/volumes/{'ab' * 32}/_data"
DISK = Disks(frozenset({"nvme1n1"}))
SDA1 = mounts("1 0 8:1 / / rw - ext4 /dev/sda1 rw")[0]
EC2 = Disks(DISK.names, (), ("Amazon EC2 NVMe Instance Storage",))
SYSTEM = Disks(frozenset({"nvme0n1"}))


def ground(**changes: Any) -> Ground:
    plain = Ground(DATA, shares_root=False, disks=DISK, root_disks=SYSTEM)
    return dataclasses.replace(plain, **changes)


@pytest.mark.parametrize(
    ("changes", "verdict", "said"),
    [
        ({}, "survives", "another disk than the system's (/dev/nvme1n1, xfs)"),
        ({"mount": ROOT, "shares_root": True}, "lost", "container's own layer (overlay)"),
        ({"mount": SDA1, "shares_root": True}, "lost", "It is on the system disk (/dev/sda1)."),
        ({"shares_root": True}, "lost", "although /data is a mount of its own"),
        ({"disks": Disks(frozenset({"zram0"}))}, "lost", "memory"),
        ({"root_disks": DISK}, "unknown", "another partition of the disk that the system is on (nvme1n1)"),
        ({"disks": EC2}, "unknown", "instance store"),
        ({"has_loss_warning": True}, "unknown", "The disk itself says"),
        ({"image_on_system": "/var/disk.img"}, "lost", "/var/disk.img"),
        (
            {"mount": dataclasses.replace(DATA, root="/kubelet/pods/1/volumes/kubernetes.io~empty-dir/x")},
            "lost",
            "emptyDir",
        ),
        ({"mount": dataclasses.replace(DATA, root=ANONYMOUS)}, "unknown", "volume without a name"),
        (
            {"mount": dataclasses.replace(DATA, root="/var/lib/docker/volumes/weights/_data")},
            "survives",
            "another disk",
        ),
        ({"mount": dataclasses.replace(DATA, fstype="unknown")}, "unknown", "does not say"),
    ],
)
def test_verdicts(changes: dict[str, Any], verdict: str, said: str) -> None:
    found = judge(ground(**changes))
    assert found.verdict == verdict
    assert said in found.reason
    assert found.reason.endswith(".")


def test_confidence_needs_a_disk_that_can_be_named() -> None:
    assert judge(ground()).confidence == "high"
    assert judge(ground(in_container=True)).confidence == "medium"
    assert judge(ground(disks=Disks())).confidence == "medium"


def test_a_hint_raises_confidence_or_lowers_the_verdict_and_never_saves_a_lost_disk() -> None:
    good = PlaceHint("AutoDL", "high", True, "It stays.")
    bad = PlaceHint("gpushare", "low", False, "It is wiped.")
    inside = ground(in_container=True)
    assert judge(inside, good).confidence == "high"
    assert judge(inside, dataclasses.replace(good, confidence="low")).confidence == "medium"
    assert (judge(inside, bad).verdict, judge(inside, bad).confidence) == ("unknown", "low")
    assert judge(inside, dataclasses.replace(bad, confidence="high")).confidence == "medium"
    assert judge(inside, bad).reason.endswith("It is wiped.")
    lost = ground(shares_root=True)
    assert judge(lost, good).verdict == "lost"
    assert "AutoDL, but a name keeps nothing" in judge(lost, good).reason
    assert judge(lost, bad) == judge(lost)
