"""Does it outlive a reset: on real disks, bind mounts, overlays and system disks."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.machine.system_roots import run_on
from tests.storage.disks import MIB, btrfs, ext4, mounted, overlay, tmpfs, xfs
from zitcache.machine import mounts as module
from zitcache.machine.mounts import mounts, overlay_root, survival_of_mount, survives

PROGRAM = """
import json, sys
from zitcache.machine.mounts import data_mounts, overlay_root, survives
found = {path: survives(path) for path in sys.argv[1:]}
root = overlay_root()
print(json.dumps({
    "survives": {path: [it.verdict, it.reason, it.confidence] for path, it in found.items()},
    "disks": [mount.mount_point for mount in data_mounts()],
    "overlay": None if root is None else [root.upper, list(root.lower)],
}))
"""


def ask_on(root: Path, *paths: str, disks: Mapping[str, Path], **more: Any) -> dict[str, Any]:
    done = run_on(root, ["-c", PROGRAM, *paths], disks=disks, **more)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def test_the_system_disk_is_lost_whatever_the_path_promises(tmp_path: Path) -> None:
    for path in ("/", "/root/autodl-tmp/cache", "/workspace", tmp_path / "data disk"):
        found = survives(path)
        assert found.verdict == "lost"
        assert found.confidence == "high"
    assert "a name keeps nothing" in survives("/root/autodl-tmp/cache").reason


@pytest.mark.root
@pytest.mark.parametrize("make", [ext4, xfs, btrfs])
def test_another_disk_survives(tmp_path: Path, make: Any) -> None:
    with make(tmp_path / "data") as disk:
        found = survives(disk / "cache" / "later")
        assert (found.verdict, found.mount_point, found.is_network) == ("survives", str(disk), False)
        assert "another disk than the system's" in found.reason
        assert survival_of_mount(module.mount_of(disk)).verdict == "survives"


@pytest.mark.root
def test_memory_is_lost(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "data") as disk:
        assert survives(disk).verdict == "lost"
        assert "memory" in survives(disk).reason


@pytest.mark.root
def test_a_bind_mount_of_the_system_disk_is_the_system_disk(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with mounted(["--bind", str(tmp_path / "folder")], tmp_path / "data disk") as place:
        found = survives(place / "cache")
        assert found.verdict == "lost"
        assert f"although {place} is a mount of its own" in found.reason
        assert survival_of_mount(module.mount_of(place)).verdict == "lost"


@pytest.mark.root
def test_a_link_to_a_data_disk_survives_and_one_back_does_not(tmp_path: Path) -> None:
    with ext4(tmp_path / "disk") as disk:
        (tmp_path / "link").symlink_to(disk)
        (disk / "back").symlink_to(tmp_path)
        assert survives(tmp_path / "link" / "cache").verdict == "survives"
        assert survives(disk / "back" / "cache").verdict == "lost"


@pytest.mark.root
def test_a_disk_in_a_file_on_the_system_disk_is_lost(tmp_path: Path) -> None:
    with ext4(tmp_path / "disk", keep_image=True) as disk:
        found = survives(disk)
        assert found.verdict == "lost"
        assert str(tmp_path / "disk.img") in found.reason


@pytest.mark.root
def test_an_overlay_that_is_not_the_root_is_not_known(tmp_path: Path) -> None:
    with (
        xfs(tmp_path / "disk") as disk,
        overlay(tmp_path / "top", lower=disk / "l", upper=disk / "u", work=disk / "w") as top,
    ):
        assert survives(top).verdict == "unknown"
        assert overlay_root() is None


@pytest.mark.root
def test_a_machine_with_a_system_disk_and_a_data_disk(tmp_path: Path) -> None:
    """The rented box: ``/`` is one loop disk, ``/data`` another, and ``/workspace`` looks like one."""
    with ext4(tmp_path / "system") as system, xfs(tmp_path / "data") as data:
        (system / "fake").mkdir()
        answer = ask_on(
            system,
            "/root/workspace/model_cache",
            "/data/cache",
            "/workspace/cache",
            disks={"/data": data, "/workspace": system / "fake"},
        )
    verdicts = {path: found[0] for path, found in answer["survives"].items()}
    assert verdicts == {
        "/root/workspace/model_cache": "lost",
        "/data/cache": "survives",
        "/workspace/cache": "lost",
    }
    assert "/data" in answer["disks"] and "/workspace" not in answer["disks"]


@pytest.mark.root
def test_a_container_with_an_overlay_root_and_a_volume(tmp_path: Path) -> None:
    with xfs(tmp_path / "host") as host, ext4(tmp_path / "data") as data:
        layers = {name: host / name for name in ("lower", "upper", "work")}
        with overlay(tmp_path / "root", **layers) as root:
            answer = ask_on(root, "/root/model_cache", "/data", disks={"/data": data})
    lost = answer["survives"]["/root/model_cache"]
    assert lost[0] == "lost" and "container's own layer" in lost[1]
    assert answer["survives"]["/data"][0] == "survives"
    assert answer["overlay"] == [str(layers["upper"]), [str(layers["lower"])]]


@pytest.mark.root
def test_a_subvolume_of_the_system_disk_is_the_system_disk(tmp_path: Path) -> None:
    with btrfs(tmp_path / "system", size=160 * MIB) as system:
        for name in ("root", "data"):
            subprocess.run(["btrfs", "-q", "subvolume", "create", str(system / name)], check=True)
        assert (system / "root").stat().st_dev != (system / "data").stat().st_dev
        device = module.mount_of(system).source
        with (
            mounted(["-o", "subvol=root", device], tmp_path / "root") as root,
            mounted(["-o", "subvol=data", device], tmp_path / "volume") as volume,
        ):
            answer = ask_on(root, "/root/cache", "/data/cache", disks={"/data": volume})
    assert answer["survives"]["/data/cache"][0] == "lost"
    assert "although /data is a mount of its own" in answer["survives"]["/data/cache"][1]
    assert "/data" not in answer["disks"]


@contextmanager
def two_partitions(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Device nodes of two partitions of one (loop) disk, told to the kernel as a partitioning tool does."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(48 * MIB)
    found = subprocess.run(["losetup", "-P", "-f", "--show", str(image)], capture_output=True, text=True)
    loop = found.stdout.strip()
    try:
        image.unlink()
        nodes = []
        for number in (1, 2):
            first = str((1 + 22 * (number - 1)) * 2048)
            told = subprocess.run(["addpart", loop, str(number), first, str(20 * 2048)], capture_output=True)
            if told.returncode:
                pytest.skip("loop devices take no partitions here")
            name = os.path.basename(loop)
            numbers = Path(f"/sys/block/{name}/{name}p{number}/dev").read_text().split(":")
            node = tmp_path / f"{name}p{number}"
            os.mknod(node, stat.S_IFBLK | 0o600, os.makedev(int(numbers[0]), int(numbers[1])))
            subprocess.run(["mkfs.ext4", "-q", str(node)], check=True)
            nodes.append(node)
        yield nodes[0], nodes[1]
    finally:
        subprocess.run(["losetup", "-d", loop], check=True)


@pytest.mark.root
def test_another_partition_of_the_system_disk_is_not_known(tmp_path: Path) -> None:
    with (
        two_partitions(tmp_path) as (first, second),
        mounted([str(first)], tmp_path / "system") as system,
        mounted([str(second)], tmp_path / "data") as data,
    ):
        assert system.stat().st_dev != data.stat().st_dev
        answer = ask_on(system, "/data/cache", disks={"/data": data})
    verdict, reason, _ = answer["survives"]["/data/cache"]
    assert verdict == "unknown"
    assert f"another partition of the disk that the system is on ({first.name[:-2]})" in reason


@pytest.mark.root
@pytest.mark.parametrize(
    ("place", "environ", "verdict", "said"),
    [
        ("/root/autodl-tmp", {"AutoDLContainerUUID": "x"}, "survives", "AutoDL's data disk"),
        ("/root/autodl-tmp", {}, "survives", "AutoDL's data disk"),
        ("/hy-tmp", {}, "unknown", "wipes this disk 24 hours after"),
        ("/root/workspace", {}, "unknown", "temporary data disk"),
        ("/workspace", {"RUNPOD_POD_ID": "x"}, "survives", "removes it with the pod"),
        ("/data", {"SPACE_ID": "x/y"}, "survives", "persistent storage of a Space"),
    ],
)
def test_what_a_landlord_says_of_a_disk_is_heard(
    tmp_path: Path, place: str, environ: dict[str, str], verdict: str, said: str
) -> None:
    with ext4(tmp_path / "system") as system, ext4(tmp_path / "data") as data:
        answer = ask_on(system, f"{place}/cache", disks={place: data}, environ=environ)
    found = answer["survives"][f"{place}/cache"]
    assert found[0] == verdict
    assert said in found[1]


NETWORKS = """
1 0 0:1 / / rw - ext4 /dev/vda1 rw
2 1 0:60 / /mnt/nfs rw - nfs4 10.0.0.9:/export rw
3 1 0:61 / /mnt/lustre rw - lustre 10.0.0.9@tcp:/scratch rw
4 1 0:62 / /mnt/9p rw - 9p share rw,trans=virtio
5 1 0:63 / /mnt/s3 rw - fuse.s3fs s3fs rw
6 1 0:64 / /mnt/cifs rw - cifs //server/share rw
"""


@pytest.mark.parametrize("name", ["nfs", "lustre", "9p", "s3", "cifs"])
def test_the_network_survives_but_is_slow(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Without asking the server, which may be dead."""
    table = {mount.mount_point: mount for mount in mounts(NETWORKS)}
    found = survival_of_mount(table[f"/mnt/{name}"])
    assert (found.verdict, found.confidence, found.is_network) == ("survives", "medium", True)
    assert "slower" in found.reason
