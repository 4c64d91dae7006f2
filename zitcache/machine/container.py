"""Is this a container, and of which kind.

Sources: ``systemd-detect-virt(1)``, https://systemd.io/CONTAINER_INTERFACE, and the files that Docker and
Podman leave.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from zitcache.machine.mount_table import LAYERED, mounts

Kind = Literal["docker", "podman", "kubernetes", "lxc", "nspawn", "other", "none"]

_NAMES: dict[str, Kind] = {
    "docker": "docker",
    "podman": "podman",
    "lxc": "lxc",
    "lxc-libvirt": "lxc",
    "systemd-nspawn": "nspawn",
    "kubernetes": "kubernetes",
}
_GROUPS: tuple[tuple[str, Kind], ...] = (
    ("kubepods", "kubernetes"),
    ("libpod", "podman"),
    ("docker", "docker"),
    ("/lxc", "lxc"),
    ("machine.slice/machine-", "nspawn"),
)


@dataclass(frozen=True, slots=True)
class Container:
    """``kind``: "none" on a machine of its own, "other" in a container of unknown make. ``evidence``: why."""

    kind: Kind
    evidence: str


def find_container(root: Path = Path("/"), environ: Mapping[str, str] = os.environ) -> Container:
    """What kind of container this process is in. ``root``: where to look for files. Raises nothing."""
    return next(_signs(root, environ), Container("none", "nothing tells of a container"))


def _signs(root: Path, environ: Mapping[str, str]) -> Iterator[Container]:
    """What gives a container away, the most exact first."""
    if environ.get("KUBERNETES_SERVICE_HOST"):
        yield Container("kubernetes", "KUBERNETES_SERVICE_HOST is set")
    if _exists(root / "var/run/secrets/kubernetes.io"):
        yield Container("kubernetes", "/var/run/secrets/kubernetes.io exists")
    if _exists(root / "run/.containerenv"):
        yield Container("podman", "/run/.containerenv exists")
    if _exists(root / ".dockerenv"):
        yield Container("docker", "/.dockerenv exists")
    for name in ("run/systemd/container", "run/host/container-manager"):
        manager = _text(root / name).strip()
        if manager:
            yield Container(_NAMES.get(manager, "other"), f"/{name} says {manager}")
    for field in _text(root / "proc/1/environ").split("\0"):
        if field.startswith("container=") and field != "container=":
            manager = field.removeprefix("container=")
            yield Container(_NAMES.get(manager, "other"), f"the first process has container={manager}")
    groups = _text(root / "proc/1/cgroup")
    for sign, kind in _GROUPS:
        if sign in groups:
            yield Container(kind, f"the first process is in a control group of {kind}")
    if root == Path("/"):
        with contextlib.suppress(OSError):
            for mount in mounts():
                if mount.mount_point == "/" and mount.fstype in LAYERED:
                    yield Container("other", f"/ is an {mount.fstype}")


def _exists(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.exists()
    return False


def _text(path: Path) -> str:
    with contextlib.suppress(OSError):
        return os.fsdecode(path.read_bytes())
    return ""
