"""Processors and memory: what this process may use, and what it used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.storage.disks import python_environment
from zitcache.machine import cpu


def cgroup_v2(tmp_path: Path, limits: dict[str, str], path: str = "/a/b") -> tuple[Path, Path]:
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    proc.mkdir()
    (proc / "cgroup").write_text(f"0::{path}\n")
    for group, text in limits.items():
        (cgroups / group).mkdir(parents=True, exist_ok=True)
        (cgroups / group / "cpu.max").write_text(text)
    return proc, cgroups


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"a/b": "150000 100000\n"}, 1.5),
        ({"a/b": "max 100000\n"}, None),
        ({"a/b": "max 100000\n", "a": "200000 100000\n", ".": "400000 100000\n"}, 2.0),
        ({".": "50000 100000\n"}, 0.5),
        ({"a/b": "nonsense\n", "a": "1 0\n"}, None),
        ({}, None),
    ],
)
def test_the_smallest_quota_of_all_groups_counts(
    tmp_path: Path, limits: dict[str, str], expected: float | None
) -> None:
    assert cpu.cpu_quota(*cgroup_v2(tmp_path, limits)) == expected


def test_quotas_of_version_1_count(tmp_path: Path) -> None:
    proc, group = tmp_path / "proc", tmp_path / "cgroup" / "cpu,cpuacct" / "docker" / "x"
    proc.mkdir()
    (proc / "cgroup").write_text("5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n0::/\n")
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text("300000\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    (group.parent / "cpu.cfs_quota_us").write_text("-1\n")
    assert cpu.cpu_quota(proc, tmp_path / "cgroup") == 3.0


def test_a_group_whose_path_is_outside_the_mount_is_harmless(tmp_path: Path) -> None:
    limits = {".": "200000 100000\n"}
    assert cpu.cpu_quota(*cgroup_v2(tmp_path, limits, path="/../../elsewhere")) in {None, 2.0}


@pytest.mark.parametrize(("quota", "expected"), [(None, 8), (0.2, 1), (1.0, 1), (1.5, 2), (64.0, 8)])
def test_workers_fit_affinity_and_quota(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(cpu, "cpu_quota", lambda: quota)
    assert cpu.worker_count() == expected


def test_sha_instructions_are_found_in_both_families() -> None:
    assert cpu._lists_sha("processor\t: 0\nflags\t\t: fpu sse4_2 sha_ni avx2\n")
    assert not cpu._lists_sha("processor\t: 0\nflags\t\t: fpu sse4_2 avx2\n")
    assert cpu._lists_sha("processor\t: 0\nFeatures\t: fp asimd aes sha1 sha2\n")
    assert not cpu._lists_sha("processor\t: 0\nFeatures\t: fp asimd\n")
    assert not cpu._lists_sha("")
    assert isinstance(cpu.has_sha_extensions(), bool)


def test_peak_memory_is_our_own_and_in_bytes() -> None:
    """A large parent does not count, and a large allocation that is gone again does."""
    program = (
        "from zitcache.machine.cpu import peak_memory_bytes as peak\n"
        "first = peak()\n"
        "bytearray(b'x') * (100 << 20)\n"
        "print(first, peak())\n"
    )
    ballast = bytearray(b"x") * (200 << 20)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=python_environment()
    )
    del ballast
    first, second = map(int, done.stdout.split())
    assert 1 << 20 < first < 100 << 20
    assert first + (90 << 20) < second < 300 << 20
