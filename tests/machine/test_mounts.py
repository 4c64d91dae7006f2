"""Which disk is which: from real mounts, and from mount tables of other machines."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.backup.world import unprivileged
from tests.storage.disks import ext4, mounted, tmpfs
from zitcache.machine import mounts as module
from zitcache.machine.mounts import data_mounts, free_space, is_system_disk, mount_of, mounts, same_disk

CONTAINER = r"""
1 0 0:50 / / rw,relatime - overlay overlay rw,lowerdir=/l,upperdir=/u
2 1 0:51 / /proc rw - proc proc rw
3 1 0:52 / /dev rw - tmpfs tmpfs rw,size=65536k
4 3 0:53 / /dev/shm rw - tmpfs shm rw
5 1 0:54 / /sys ro - sysfs sysfs ro
6 1 259:1 /var/lib/hosts /etc/hosts rw - ext4 /dev/nvme0n1p1 rw
16 1 259:1 /var/lib/key /srv/key rw - ext4 /dev/nvme0n1p1 rw
7 1 259:2 /vol/7 /root/autodl-tmp rw,noatime shared:3 master:4 - xfs /dev/nvme1n1 rw,prjquota
8 1 0:60 / /root/autodl-fs rw - nfs4 10.0.0.9:/export/a rw,vers=4.2
9 1 0:61 / /mnt/with\040space\011tab\134slash rw - fuse.juicefs JuiceFS:x rw
10 1 0:62 / /gz-fs rw - fuse.sshfs host: rw
11 1 0:63 / /boot/efi rw - vfat /dev/nvme0n1p0 rw
12 1 7:1 / /snap/core/1 ro - squashfs /dev/loop1 ro
13 1 0:64 / /var/lib/lxcfs rw - fuse.lxcfs lxcfs rw
14 1 0:65 / /mnt/ntfs rw - fuseblk /dev/sdz1 rw
this line is no mount
15 1 x:y / /nowhere rw - ext4 /dev/x rw
"""


def test_a_containers_mount_table_is_understood() -> None:
    table = {mount.mount_point: mount for mount in mounts(CONTAINER)}
    assert len(table) == 15
    data = table["/root/autodl-tmp"]
    assert (data.device, data.fstype, data.source, data.root) == (
        os.makedev(259, 2),
        "xfs",
        "/dev/nvme1n1",
        "/vol/7",
    )
    assert data.options == ("rw", "noatime", "prjquota")
    assert "/mnt/with space\ttab\\slash" in table
    assert sorted(place for place, mount in table.items() if mount.is_network) == [
        "/gz-fs",
        "/mnt/with space\ttab\\slash",
        "/root/autodl-fs",
    ]
    assert sorted(place for place, mount in table.items() if mount.is_memory) == ["/dev", "/dev/shm"]


def test_only_disks_for_data_are_data_mounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "mounts", lambda: mounts(CONTAINER))
    monkeypatch.setattr(os.path, "isdir", lambda path: path != "/srv/key")
    assert [mount.mount_point for mount in data_mounts()] == [
        "/root/autodl-tmp",
        "/root/autodl-fs",
        "/mnt/with space\ttab\\slash",
        "/gz-fs",
        "/mnt/ntfs",
    ]


def test_of_two_mounts_on_one_place_the_later_is_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    device = tmp_path.stat().st_dev
    line = f"1 0 {os.major(device)}:{os.minor(device)} {{}} {tmp_path} rw - ext4 /dev/x rw\n"
    table = mounts(line.format("/first") + line.format("/second"))
    monkeypatch.setattr(module, "mounts", lambda: table)
    assert mount_of(tmp_path).root == "/second"


@given(st.text())
def test_any_mount_table_can_be_read(table: str) -> None:
    mounts(table)


def test_the_real_mount_table_has_a_root() -> None:
    found = mount_of("/")
    assert found.mount_point == "/"
    assert found in mounts() or found.fstype == "unknown"


def test_what_does_not_exist_lies_where_its_parent_does(tmp_path: Path) -> None:
    assert mount_of(tmp_path / "a" / "b") == mount_of(tmp_path)
    assert same_disk(tmp_path / "a" / "b", tmp_path / "c")
    assert free_space(tmp_path / "a" / "b").bytes_free > 0


def test_the_root_is_the_system_disk_and_proc_is_not() -> None:
    assert is_system_disk("/")
    assert is_system_disk("/some/data/disk/that/is/none")
    assert not is_system_disk("/proc/self")
    assert not same_disk("/", "/proc")


@pytest.mark.root
def test_another_file_system_is_another_disk_and_a_bind_mount_is_not(tmp_path: Path) -> None:
    with ext4(tmp_path / "data disk") as disk:
        (disk / "folder").mkdir()
        found = mount_of(disk / "folder" / "later")
        assert (found.mount_point, found.fstype) == (str(disk), "ext4")
        assert not same_disk(disk, tmp_path)
        assert not is_system_disk(disk)
        assert str(disk) in [mount.mount_point for mount in data_mounts()]
        with mounted(["--bind", str(disk / "folder")], tmp_path / "bound") as bound:
            assert same_disk(bound, disk)
            assert mount_of(bound).mount_point == str(bound)
        with mounted(["--bind", str(tmp_path)], disk / "folder") as bound:
            assert same_disk(bound / "looks like the data disk", tmp_path)


@pytest.mark.root
def test_a_symlink_to_another_disk_lies_there(tmp_path: Path) -> None:
    with ext4(tmp_path / "disk") as disk:
        (tmp_path / "link").symlink_to(disk)
        assert same_disk(tmp_path / "link" / "new", disk)
        assert not same_disk(tmp_path / "link", tmp_path)


@pytest.mark.root
def test_a_mount_that_another_one_hides_is_not_seen(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    with tmpfs(folder / "b", size=1 << 20), ext4(folder) as disk:
        (disk / "b").mkdir()
        assert mount_of(folder / "b").fstype == "ext4"
    with tmpfs(folder, size=1 << 20), ext4(folder):
        assert mount_of(folder / "x").fstype == "ext4"


@pytest.mark.root
def test_memory_is_no_place_for_data(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "memory") as disk:
        assert mount_of(disk).is_memory
        assert str(disk) not in [mount.mount_point for mount in data_mounts()]


@pytest.mark.root
def test_a_single_file_is_no_place_for_data(tmp_path: Path) -> None:
    with ext4(tmp_path / "disk") as disk:
        (disk / "hosts").write_bytes(b"x")
        (tmp_path / "hosts").write_bytes(b"x")
        done = subprocess.run(["mount", "--bind", str(disk / "hosts"), str(tmp_path / "hosts")])
        if done.returncode:
            pytest.skip("cannot bind mount a file here")
        try:
            assert str(tmp_path / "hosts") not in [mount.mount_point for mount in data_mounts()]
        finally:
            subprocess.run(["umount", str(tmp_path / "hosts")], check=True)


@pytest.mark.root
def test_free_inodes_are_told(tmp_path: Path) -> None:
    with ext4(tmp_path / "disk", inodes=64) as disk:
        before = free_space(disk)
        assert before.inodes_free is not None
        assert before.inodes_free < 64
        (disk / "file").write_bytes(bytes(1 << 20))
        os.sync()
        after = free_space(disk)
        assert after.inodes_free == before.inodes_free - 1
        assert after.bytes_free <= before.bytes_free - (1 << 20)


@pytest.mark.root
def test_subvolumes_of_one_btrfs_are_one_disk(tmp_path: Path) -> None:
    import shutil

    if shutil.which("mkfs.btrfs") is None or shutil.which("btrfs") is None:
        pytest.skip("needs mkfs.btrfs (package btrfs-progs)")
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(128 << 20)
    subprocess.run(["mkfs.btrfs", "-q", "-M", str(image)], check=True, capture_output=True)
    with mounted(["-o", "loop", str(image)], tmp_path / "disk") as disk:
        for name in ("system", "data"):
            subprocess.run(["btrfs", "-q", "subvolume", "create", str(disk / name)], check=True)
        assert (disk / "system").stat().st_dev != (disk / "data").stat().st_dev
        assert same_disk(disk / "system", disk / "data")
        assert free_space(disk).inodes_free is None


@pytest.mark.root
def test_a_mount_below_a_folder_that_is_closed_to_this_user(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    with ext4(closed / "disk"):
        closed.chmod(0o700)
        with unprivileged():
            assert str(closed / "disk") not in {mount.mount_point for mount in data_mounts()}
        assert str(closed / "disk") in {mount.mount_point for mount in data_mounts()}
