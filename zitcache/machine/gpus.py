"""Which GPUs are here, asked of the driver's own tools: torch takes seconds to say the same.

Sources: ``nvidia-smi --help-query-gpu``, ``/proc/driver/nvidia``, and the ``amdgpu`` files in ``/sys``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_SECONDS = 1.2
_FIELDS = ("index", "name", "memory.total", "memory.free", "driver_version")
_CAPABILITY = "compute_cap"
_BF16_SINCE = 8.0
_MIB = 1 << 20
_AMD = "0x1002"
_HIDING = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
_NONE_VISIBLE = ("", "-1", "none", "void", "NoDevFiles")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. Memory in bytes, None where the driver does not tell. ``bf16``: computed in hardware."""

    index: int
    name: str
    total_bytes: int | None = None
    free_bytes: int | None = None
    driver: str | None = None
    bf16: bool | None = None


@dataclass(frozen=True, slots=True)
class Gpus:
    """``found``: all GPUs of this machine. ``source``: who told. ``problem``: what did not work.

    ``hidden_by``: the variable that hides all of them from programs ("CUDA_VISIBLE_DEVICES"), or None.
    """

    found: tuple[Gpu, ...]
    source: str
    problem: str | None = None
    hidden_by: str | None = None


def find_gpus(
    environ: Mapping[str, str] = os.environ,
    *,
    proc: Path = Path("/proc/driver/nvidia"),
    sysfs: Path = Path("/sys"),
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Gpus:
    """The GPUs here: by ``nvidia-smi``, else by what the kernel driver shows. Raises nothing.

    Takes at most ``timeout_seconds`` and a little: a GPU that has fallen off its bus makes the tool hang.
    """
    hidden = next((name for name in _HIDING if environ.get(name) in _NONE_VISIBLE), None)
    program = shutil.which("nvidia-smi", path=environ.get("PATH"))
    problem = None
    if program is not None:
        try:
            found = _ask(program, timeout_seconds)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            problem = _reason(error)
        else:
            return Gpus(found, "nvidia-smi", hidden_by=hidden)
    found = _from_proc(proc)
    if found:
        return Gpus(found, str(proc), problem, hidden)
    found = _amd(sysfs)
    if found:
        return Gpus(found, "amdgpu", None, hidden)
    return Gpus((), "nvidia-smi" if program else "none", problem, hidden)


def parse_query(text: str) -> tuple[Gpu, ...]:
    """What ``--query-gpu=index,name,memory.total,memory.free,driver_version[,compute_cap]`` printed as CSV.

    A card that does not tell a number says ``[N/A]`` or the like. Raises ``ValueError`` for other text.
    """
    gpus: list[Gpu] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("No devices were found"):
            continue
        fields = [field.strip() for field in line.split(",")]
        if len(fields) < len(_FIELDS) or not fields[0].isdecimal():
            raise ValueError(f"nvidia-smi says: {line[:200]}")
        capability = _number(fields[5]) if len(fields) > len(_FIELDS) else None
        gpus.append(
            Gpu(
                index=int(fields[0]),
                name=fields[1],
                total_bytes=_mebibytes(fields[2]),
                free_bytes=_mebibytes(fields[3]),
                driver=None if fields[4].startswith("[") else fields[4],
                bf16=None if capability is None else capability >= _BF16_SINCE,
            )
        )
    return tuple(gpus)


def _ask(program: str, timeout_seconds: float) -> tuple[Gpu, ...]:
    """Older drivers do not know ``compute_cap`` and refuse the whole question: then without it."""
    answer = _query(program, (*_FIELDS, _CAPABILITY), timeout_seconds)
    if answer.returncode and _CAPABILITY in answer.stdout + answer.stderr:
        answer = _query(program, _FIELDS, timeout_seconds)
    if answer.returncode:
        said = (answer.stdout or answer.stderr).strip().splitlines()
        raise ValueError(f"nvidia-smi says: {said[0][:200] if said else f'exit {answer.returncode}'}")
    return parse_query(answer.stdout)


def _query(program: str, fields: tuple[str, ...], timeout_seconds: float) -> subprocess.CompletedProcess[str]:
    command = [program, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_seconds,
        stdin=subprocess.DEVNULL,
    )


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"nvidia-smi gave no answer within {error.timeout:g} s."
    return str(error)


def _from_proc(proc: Path) -> tuple[Gpu, ...]:
    """Names alone: ``/proc/driver/nvidia/gpus/<bus>/information`` says ``Model: NVIDIA A100``."""
    names: list[str] = []
    with contextlib.suppress(OSError):
        for card in sorted((proc / "gpus").iterdir()):
            fields = dict(
                line.partition(":")[::2]
                for line in (card / "information").read_text(errors="replace").splitlines()
            )
            names.append(fields.get("Model", "").strip() or "NVIDIA GPU")
    return tuple(Gpu(index, name) for index, name in enumerate(names))


def _amd(sysfs: Path) -> tuple[Gpu, ...]:
    gpus: list[Gpu] = []
    for card in sorted((sysfs / "class" / "drm").glob("card[0-9]*")):
        device = card / "device"
        with contextlib.suppress(OSError, ValueError):
            if "-" in card.name or (device / "vendor").read_text().strip() != _AMD:
                continue
            total = int((device / "mem_info_vram_total").read_text())
            used = int((device / "mem_info_vram_used").read_text())
            name = "AMD GPU"
            with contextlib.suppress(OSError):
                name = (device / "product_name").read_text(errors="replace").strip() or name
            gpus.append(Gpu(len(gpus), name, total, max(0, total - used)))
    return tuple(gpus)


def _mebibytes(text: str) -> int | None:
    number = _number(text)
    return None if number is None else int(number * _MIB)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
