"""On what a picture was drawn: everything that may change its pixels."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

_DRIVER_FILE = Path("/proc/driver/nvidia/version")
_DRIVER_VERSION = re.compile(r"Kernel Module.*?\s(\d+\.\d+(?:\.\d+)*)\s")


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU as torch sees it. Memory in bytes. ``bf16``: whether it computes in bf16 without emulation."""

    index: int
    name: str
    total_bytes: int
    free_bytes: int
    bf16: bool


_IDENTITY = (
    "device_name", "capability", "driver", "cuda", "cudnn", "torch", "diffusers", "transformers", "dtype",
    "attention", "threads",
)  # fmt: skip
"""What must be equal for raw pixels to be comparable. Which of several equal GPUs it is does not count."""


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """The machine and the libraries. Without :meth:`differences` two proofs draw equal pixels.

    ``device``: "cuda:0" or "cpu"; ``device_name``: of the GPU or the processor. ``capability``: "9.0", or the
    instruction set torch uses on a CPU. ``driver``, ``cuda``, ``cudnn``: None on a CPU. ``attention``: which
    implementation is active. ``threads``: of torch on a CPU, where they decide the order of additions.
    ``pipeline``: the class that drew, with its module. ``modelscope``: None where it was not used.
    """

    device: str
    device_name: str
    capability: str
    driver: str | None
    cuda: str | None
    cudnn: str | None
    torch: str
    diffusers: str
    transformers: str
    modelscope: str | None
    python: str
    dtype: str
    attention: str
    threads: int | None
    pipeline: str

    def differences(self, other: Environment) -> list[str]:
        """``torch 2.11.0, was 2.9.1`` for everything in which ``other`` (the earlier one) is not the same."""
        return [
            f"{name.replace('_', ' ')} {mine}, was {theirs}"
            for name in _IDENTITY
            if (mine := getattr(self, name)) != (theirs := getattr(other, name))
        ]


def driver_version(path: Path = _DRIVER_FILE) -> str | None:
    """The version of NVIDIA's kernel module; None where there is none or it cannot be read."""
    try:
        match = _DRIVER_VERSION.search(path.read_text(errors="replace"))
    except OSError:
        return None
    return match[1] if match else None
