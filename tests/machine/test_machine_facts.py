"""Landlords, containers, GPUs, schedulers, disks under disks, and questions that nobody answers."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zitcache.machine import block_devices
from zitcache.machine.block_devices import disks_of
from zitcache.machine.bounded import Question, within
from zitcache.machine.container import find_container
from zitcache.machine.gpus import find_gpus, parse_query
from zitcache.machine.memory import Memory, main_memory
from zitcache.machine.mounts import mounts
from zitcache.machine.providers import enclosing_place, find_provider, hint_for, known_places
from zitcache.machine.schedulers import find_schedulers

# -- landlords ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "environ", "host", "expected"),
    [
        ((), {"RUNPOD_POD_ID": "x"}, "box", ("RunPod", "high")),
        ((), {"AutoDLContainerUUID": "x"}, "box", ("AutoDL", "high")),
        ((), {}, "autodl-container-8a5b119e3c-1", ("AutoDL", "medium")),
        (("/", "/hy-tmp"), {}, "box", ("gpushare", "low")),
        (("/gz-data",), {}, "box", ("GPUGEEK", "low")),
        (("/root/workspace",), {}, "box", ("DAMODEL", "low")),
        (("/lambda/nfs/weights",), {}, "box", ("Lambda", "low")),
        ((), {"SPACE_ID": "a/b"}, "box", ("Hugging Face Spaces", "high")),
        ((), {"PAPERSPACE_FQDN": "x"}, "box", ("Paperspace", "high")),
        (("/", "/data", "/workspace", "/storage"), {"RUNPOD_POD_ID": ""}, "box", None),
    ],
)
def test_landlords(
    points: tuple[str, ...], environ: dict[str, str], host: str, expected: tuple[str, str] | None
) -> None:
    found = find_provider(points, environ, host)
    assert (None if found is None else (found.name, found.confidence)) == expected


def test_a_name_that_anybody_uses_means_something_only_at_its_landlord() -> None:
    runpod = find_provider((), {"RUNPOD_POD_ID": "x"}, "box")
    hint = hint_for("/workspace", runpod)
    assert hint is not None and (hint.provider, hint.confidence, hint.keeps) == ("RunPod", "high", True)
    assert hint_for("/workspace", None) is None
    assert hint_for("/hy-tmp", runpod) is None
    unknown = hint_for("/hy-tmp", None)
    assert unknown is not None and (unknown.confidence, unknown.keeps) == ("low", False)
    inside = enclosing_place("/root/autodl-tmp/a/b", None)
    assert inside is not None and inside.provider == "AutoDL"
    assert enclosing_place("/root/a", None) is None


def test_the_places_of_a_landlord() -> None:
    autodl = find_provider((), {"AutoDLRegion": "x"}, "box")
    assert known_places(autodl) == ["/root/autodl-tmp", "/root/autodl-fs"]
    unknown = known_places(None)
    assert "/root/autodl-tmp" in unknown
    assert not {"/workspace", "/data", "/storage", "/hy-tmp", "/root/workspace"} & set(unknown)


# -- containers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "environ", "kind"),
    [
        ({}, {}, "none"),
        ({".dockerenv": ""}, {}, "docker"),
        ({"run/.containerenv": ""}, {}, "podman"),
        ({".dockerenv": ""}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ({"var/run/secrets/kubernetes.io/token": "x"}, {}, "kubernetes"),
        ({"run/systemd/container": "lxc\n"}, {}, "lxc"),
        ({"run/host/container-manager": "something-new"}, {}, "other"),
        ({"proc/1/environ": "A=b\0container=systemd-nspawn\0"}, {}, "nspawn"),
        ({"proc/1/environ": "container=\0"}, {}, "none"),
        ({"proc/1/cgroup": "0::/kubepods.slice/x\n"}, {}, "kubernetes"),
        ({"proc/1/cgroup": "4:memory:/docker/0123\n"}, {}, "docker"),
        ({"proc/1/cgroup": "0::/machine.slice/libpod-1.scope\n"}, {}, "podman"),
        ({"proc/1/cgroup": "0::/init.scope\n"}, {}, "none"),
    ],
)
def test_containers(tmp_path: Path, files: dict[str, str], environ: dict[str, str], kind: str) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = find_container(tmp_path, environ)
    assert found.kind == kind
    assert found.evidence


# -- GPUs ---------------------------------------------------------------------------------------------


def nvidia_smi(folder: Path, script: str) -> dict[str, str]:
    """An ``nvidia-smi`` that answers with ``script``; gives the environment in which it is found."""
    folder.mkdir(exist_ok=True)
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


def test_gpus_are_asked_of_the_drivers_own_tool(tmp_path: Path) -> None:
    environ = nvidia_smi(
        tmp_path / "bin",
        'case "$1 $2" in "--query-gpu=index,name,memory.total,memory.free,driver_version,compute_cap '
        '--format=csv,noheader,nounits") ;; *) exit 9;; esac\n'
        'echo "0, NVIDIA H200, 143771, 143100, 570.86.15, 9.0"\n'
        'echo "1, Tesla T4, 15360, 12, 570.86.15, 7.5"',
    )
    found = find_gpus(environ)
    assert found.source == "nvidia-smi" and found.problem is None and found.hidden_by is None
    first, second = found.found
    assert (first.name, first.total_bytes, first.bf16) == ("NVIDIA H200", 143771 << 20, True)
    assert (second.index, second.free_bytes, second.bf16, second.driver) == (1, 12 << 20, False, "570.86.15")


def test_an_old_driver_that_does_not_know_a_field_is_asked_without_it(tmp_path: Path) -> None:
    environ = nvidia_smi(
        tmp_path / "bin",
        'case "$1" in *compute_cap*) echo "Field \\"compute_cap\\" is not a valid field."; exit 2;; esac\n'
        'echo "0, Tesla V100, 16160, 16000, 440.33"',
    )
    (gpu,) = find_gpus(environ).found
    assert (gpu.name, gpu.bf16) == ("Tesla V100", None)


def test_a_gpu_that_tells_no_numbers(tmp_path: Path) -> None:
    environ = nvidia_smi(tmp_path / "bin", 'echo "0, NVIDIA GB10, [N/A], [N/A], 580.95.05, 12.1"')
    (gpu,) = find_gpus(environ).found
    assert (gpu.total_bytes, gpu.free_bytes, gpu.bf16) == (None, None, True)


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("sleep 60", "no answer within 0.3 s"),
        (
            "echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'; exit 9",
            "failed",
        ),
        ("exit 12", "exit 12"),
        ("echo nonsense", "nonsense"),
    ],
)
def test_a_broken_driver_is_reported_and_the_kernel_still_knows_names(
    tmp_path: Path, script: str, problem: str
) -> None:
    environ = nvidia_smi(tmp_path / "bin", script)
    proc = tmp_path / "nvidia"
    (proc / "gpus" / "0000:00:05.0").mkdir(parents=True)
    (proc / "gpus" / "0000:00:05.0" / "information").write_text("Model: \t\t NVIDIA A100\nIRQ:   43\n")
    start = time.monotonic()
    found = find_gpus(environ, proc=proc, timeout_seconds=0.3 if "sleep" in script else 5)
    assert time.monotonic() - start < 5
    assert [gpu.name for gpu in found.found] == ["NVIDIA A100"]
    assert found.problem is not None and problem in found.problem


def test_without_a_driver_there_is_no_gpu_and_no_problem(tmp_path: Path) -> None:
    found = find_gpus({"PATH": str(tmp_path)}, proc=tmp_path, sysfs=tmp_path)
    assert (found.found, found.source, found.problem) == ((), "none", None)


def test_an_amd_gpu_is_seen(tmp_path: Path) -> None:
    device = tmp_path / "class" / "drm" / "card1" / "device"
    device.mkdir(parents=True)
    for name, text in {
        "vendor": "0x1002\n",
        "mem_info_vram_total": f"{24 << 30}\n",
        "mem_info_vram_used": f"{1 << 30}\n",
    }.items():
        (device / name).write_text(text)
    (gpu,) = find_gpus({"PATH": ""}, proc=tmp_path, sysfs=tmp_path).found
    assert (gpu.total_bytes, gpu.free_bytes) == (24 << 30, 23 << 30)


@pytest.mark.parametrize(
    ("environ", "hidden"),
    [
        ({}, None),
        ({"CUDA_VISIBLE_DEVICES": "0"}, None),
        ({"CUDA_VISIBLE_DEVICES": ""}, "CUDA_VISIBLE_DEVICES"),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, "CUDA_VISIBLE_DEVICES"),
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, "NVIDIA_VISIBLE_DEVICES"),
    ],
)
def test_a_variable_can_hide_every_gpu(tmp_path: Path, environ: dict[str, str], hidden: str | None) -> None:
    assert find_gpus({"PATH": "", **environ}, proc=tmp_path, sysfs=tmp_path).hidden_by == hidden


@given(st.text())
def test_any_answer_is_understood_or_refused(text: str) -> None:
    try:
        parse_query(text)
    except ValueError as error:
        assert "nvidia-smi says" in str(error)


# -- schedulers ---------------------------------------------------------------------------------------


def proc_with(tmp_path: Path, **command_lines: bytes) -> Path:
    proc = tmp_path / "proc"
    for pid, line in command_lines.items():
        (proc / pid.lstrip("p")).mkdir(parents=True)
        (proc / pid.lstrip("p") / "cmdline").write_bytes(line)
    proc.mkdir(exist_ok=True)
    return proc


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (b"/usr/sbin/cron\0-f\0", "cron"),
        (b"/usr/sbin/CRON\0-f\0", "cron"),
        (b"crond\0", "crond"),
        (b"busybox\0crond\0-f\0", "crond"),
        (b"/usr/local/bin/supercronic\0/etc/crontab\0", "supercronic"),
        (b"vim\0cron\0", None),
        (b"", None),
        (b"/usr/bin/cronolog\0", None),
    ],
)
def test_a_cron_daemon_is_known_by_what_runs(tmp_path: Path, line: bytes, name: str | None) -> None:
    found = find_schedulers(proc_with(tmp_path, p12=line), tmp_path / "no systemd")
    assert (found.cron, found.cron_daemon) == (name is not None, name)
    assert found.any is (name is not None)


def test_a_cron_daemon_of_another_container_runs_nothing_for_us(tmp_path: Path) -> None:
    proc = proc_with(tmp_path, p12=b"cron\0", pself=b"")
    for name, namespace in (("self", "mnt:[1]"), ("12", "mnt:[2]")):
        (proc / name / "ns").mkdir(parents=True, exist_ok=True)
        (proc / name / "ns" / "mnt").symlink_to(namespace)
    assert not find_schedulers(proc, tmp_path / "none").cron


def test_our_own_daemon_is_known(tmp_path: Path) -> None:
    for line in (
        b"/usr/bin/python3\0/usr/local/bin/zitcache\0schedule\0run\0",
        b"python\0-m\0zitcache\0schedule\0run\0--at\0x\0",
    ):
        place = tmp_path / str(len(line))
        assert find_schedulers(proc_with(place, p77=line), tmp_path / "none").own_daemon == 77
    other = b"/usr/bin/python3\0/usr/local/bin/zitcache\0schedule\0status\0"
    assert find_schedulers(proc_with(tmp_path / "x", p77=other), tmp_path / "none").own_daemon is None


def test_systemd_counts_where_it_is_the_init(tmp_path: Path) -> None:
    (tmp_path / "systemd").mkdir()
    assert find_schedulers(proc_with(tmp_path), tmp_path / "systemd").systemd
    assert not find_schedulers(proc_with(tmp_path), tmp_path / "none").systemd


def test_a_real_daemon_is_seen_while_it_lives(tmp_path: Path) -> None:
    """A process of that name; a real cron would run the jobs of the machine."""
    program = tmp_path / "crond"
    program.symlink_to("/bin/sleep")
    before = find_schedulers().cron
    child = subprocess.Popen([str(program), "60"])
    try:
        deadline = time.monotonic() + 10
        while not find_schedulers().cron:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        child.kill()
        child.wait()
    assert find_schedulers().cron == before


# -- disks under disks --------------------------------------------------------------------------------


@pytest.fixture
def sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a partitioned disk, LVM over two disks, a mapped loop device, and a named disk."""
    root = tmp_path / "sys"
    numbers = root / "dev" / "block"
    numbers.mkdir(parents=True)

    def device(path: str, number: str, *, partition: bool = False, slaves: tuple[str, ...] = ()) -> Path:
        folder = root / "devices" / path
        folder.mkdir(parents=True, exist_ok=True)
        (numbers / number).symlink_to(folder)
        if partition:
            (folder / "partition").write_text("1\n")
        (folder / "slaves").mkdir(exist_ok=True)
        for name in slaves:
            (folder / "slaves" / os.path.basename(name)).symlink_to(root / "devices" / name)
        return folder

    device("pci/vda", "254:0")
    device("pci/vda/vda2", "254:2", partition=True)
    device("pci/sdb", "8:16")
    device("virtual/dm-0", "253:0", slaves=("pci/sdb", "pci/vda/vda2"))
    device("virtual/dm-1", "253:1", slaves=("virtual/dm-0",))
    loop = device("virtual/loop3", "7:3")
    (loop / "loop").mkdir()
    (loop / "loop" / "backing_file").write_text("/var/disk.img\n")
    model = root / "block" / "sdb" / "device"
    model.mkdir(parents=True)
    (model / "model").write_text("Amazon EC2 NVMe Instance Storage \n")
    endless = device("virtual/dm-9", "253:9")
    (endless / "slaves" / "dm-9").symlink_to(endless)
    monkeypatch.setattr(block_devices, "SYSFS", root)
    return root


def names(number: str, source: str = "/dev/nothing-of-the-kind") -> list[str]:
    mount = mounts(f"1 0 {number} / /x rw - ext4 {source} rw")[0]
    return sorted(disks_of(mount).names)


def test_a_disk_is_found_under_partitions_and_volumes(sysfs: Path) -> None:
    assert names("254:0") == ["vda"]
    assert names("254:2") == ["vda"]
    assert names("253:1") == ["sdb", "vda"]
    assert names("0:50") == []
    assert names("99:9") == []
    assert names("253:9") == []  # goes round in a circle


def test_the_file_and_the_model_of_a_disk_are_told(sysfs: Path) -> None:
    assert disks_of(mounts("1 0 7:3 / /x rw - ext4 /dev/none rw")[0]).image_files == ("/var/disk.img",)
    (sysfs / "devices/virtual/loop3/loop/backing_file").write_text("/var/disk.img (deleted)\n")
    assert disks_of(mounts("1 0 7:3 / /x rw - ext4 /dev/none rw")[0]).image_files == ()
    assert disks_of(mounts("1 0 8:16 / /x rw - ext4 /dev/none rw")[0]).models == (
        "Amazon EC2 NVMe Instance Storage",
    )


@pytest.mark.root
def test_btrfs_is_found_by_what_was_mounted(
    sysfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files have a device number that no block device has."""
    node = tmp_path / "node"
    os.mknod(node, stat.S_IFBLK | 0o600, os.makedev(254, 2))
    mount = mounts(f"1 0 0:40 / /x rw - btrfs {node} rw")[0]
    monkeypatch.setattr(block_devices, "DEVICES", str(tmp_path))
    assert disks_of(mount).names == {"vda"}


# -- main memory --------------------------------------------------------------------------------------


def memory_of(tmp_path: Path, groups: str, files: dict[str, str]) -> Memory:
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 1000000 kB\nMemFree: 1 kB\nMemAvailable: 600000 kB\nX:\n")
    (proc / "self" / "cgroup").write_text(groups)
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return main_memory(proc, tmp_path / "cgroup")


@pytest.mark.parametrize(
    ("groups", "files", "total", "available"),
    [
        ("0::/\n", {}, 1_024_000_000, 614_400_000),
        ("0::/a\n", {"a/memory.max": "max\n"}, 1_024_000_000, 614_400_000),
        (
            "0::/a/b\n",
            {"a/memory.max": "500000000", "a/memory.current": "100000000"},
            500_000_000,
            400_000_000,
        ),
        (
            "0::/a\n",
            {
                "a/memory.max": "500000000",
                "a/memory.current": "450000000",
                "a/memory.stat": "anon 1\ninactive_file 300000000\n",
            },
            500_000_000,
            350_000_000,
        ),
        (
            "0::/not/there\n",
            {"memory.max": "500000000", "memory.current": "100000000"},
            500_000_000,
            400_000_000,
        ),
        (
            "5:memory:/docker/x\n",
            {"memory/memory.limit_in_bytes": "700000000", "memory/memory.usage_in_bytes": "650000000"},
            700_000_000,
            50_000_000,
        ),
        (
            "5:memory:/\n",
            {"memory/memory.limit_in_bytes": str(2**63 - 4096), "memory/memory.usage_in_bytes": "1"},
            1_024_000_000,
            614_400_000,
        ),
    ],
)
def test_the_memory_of_a_container_is_what_its_group_allows(
    tmp_path: Path, groups: str, files: dict[str, str], total: int, available: int
) -> None:
    found = memory_of(tmp_path, groups, files)
    assert (found.total_bytes, found.available_bytes) == (total, available)
    assert found.limited_by == ("the machine" if total == 1_024_000_000 else "a control group")


def test_the_real_memory_is_told() -> None:
    found = main_memory()
    assert 0 < found.available_bytes <= found.total_bytes


# -- questions ----------------------------------------------------------------------------------------


def test_a_question_is_asked_for_a_limited_time() -> None:
    never = threading.Event()
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=r"no answer within"):
        within(0.05, never.wait)
    assert time.monotonic() - start < 5
    never.set()
    assert within(60, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        within(60, lambda: 1 // 0)


def test_a_question_can_be_asked_ahead_and_answered_often() -> None:
    asked: list[int] = []

    def ask() -> int:
        asked.append(1)
        return len(asked)

    question = Question(ask)
    assert [question.answer() for _ in range(3)] == [1, 1, 1]
    failing = Question(lambda: 1 // 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            failing.answer(time.monotonic() + 60)


def test_a_question_without_an_answer_does_not_keep_the_process() -> None:
    program = (
        "import threading\n"
        "from zitcache.machine.bounded import within\n"
        "try:\n"
        "    within(0.05, threading.Event().wait)\n"
        "except TimeoutError:\n"
        "    print('gave up')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "gave up\n")
