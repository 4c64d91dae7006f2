"""What there is to draw on, and what of it can change pixels."""

from __future__ import annotations

import os
import platform
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from zitcache.errors import UsageError
from zitcache.proof.environment import Environment, Gpu, driver_version
from zitcache.proof.errors import NoGpu
from zitcache.proof.fits import ITEM_BYTES

_BF16_CAPABILITY = (8, 0)
"""Ampere. Older GPUs emulate bf16, slowly."""


def list_gpus(torch: Any) -> list[Gpu]:
    """All GPUs that torch can use."""
    if not torch.cuda.is_available():
        return []
    gpus = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        gpus.append(
            Gpu(
                index=index,
                name=torch.cuda.get_device_name(index),
                total_bytes=total,
                free_bytes=free,
                bf16=_has_bf16(torch, index),
            )
        )
    return gpus


def choose_device(wanted: str, gpus: list[Gpu]) -> str:
    """The GPU with most free memory for "auto" and "cuda"; for "any" that, or the CPU where there is none.

    Raises ``NoGpu`` or ``UsageError``.
    """
    if wanted == "cpu" or (wanted == "any" and not gpus):
        return "cpu"
    if not gpus:
        raise NoGpu("There is no GPU that torch can use.")
    if wanted in ("auto", "cuda", "any"):
        return f"cuda:{max(gpus, key=lambda gpu: (gpu.free_bytes, -gpu.index)).index}"
    known = [f"cuda:{gpu.index}" for gpu in gpus]
    if wanted not in known:
        raise UsageError(f"There is no device {wanted}.", hint=f"Use one of: cpu, {', '.join(known)}")
    return wanted


def choose_dtype(wanted: str | None, device: str, gpus: list[Gpu], elements: int) -> str:
    """bf16 where the GPU computes in it, else fp32; never fp16, in which the latents become NaN.

    On a CPU fp32 if the memory holds it, else bf16.
    """
    if wanted is not None:
        return wanted
    if device == "cpu":
        import psutil

        return "fp32" if elements * ITEM_BYTES["fp32"] * 1.3 < psutil.virtual_memory().available else "bf16"
    return "bf16" if gpus[int(device.partition(":")[2])].bf16 else "fp32"


def warm_up(torch: Any, device: str, dtype: Any) -> None:
    """Make the first kernels load while the disk is still being read."""
    if device == "cpu":
        return
    ones = torch.ones((64, 64), device=device, dtype=dtype)
    (ones @ ones).sum().item()
    torch.nn.functional.conv2d(ones.view(1, 1, 64, 64), ones[:3, :3].reshape(1, 1, 3, 3)).sum().item()


def describe(torch: Any, pipeline: Any, device: str, dtype: str, *, modelscope: bool) -> Environment:
    """Everything that may change the pixels."""
    on_gpu = device != "cpu"
    return Environment(
        device=device,
        device_name=torch.cuda.get_device_name(device) if on_gpu else _processor(),
        capability=(
            ".".join(map(str, torch.cuda.get_device_capability(device)))
            if on_gpu
            else str(torch.backends.cpu.get_cpu_capability())
        ),
        driver=driver_version() if on_gpu else None,
        cuda=str(torch.version.cuda or torch.version.hip) if on_gpu else None,
        cudnn=str(torch.backends.cudnn.version()) if on_gpu else None,
        torch=_version("torch"),
        diffusers=_version("diffusers"),
        transformers=_version("transformers"),
        modelscope=_version("modelscope") if modelscope else None,
        python=platform.python_version(),
        dtype=dtype,
        attention=_attention(torch, pipeline, on_gpu),
        threads=None if on_gpu else int(torch.get_num_threads()),
        pipeline=f"{type(pipeline).__module__}.{type(pipeline).__qualname__}",
    )


def _has_bf16(torch: Any, index: int) -> bool:
    if torch.version.hip:
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cuda.get_device_capability(index) >= _BF16_CAPABILITY)


def _attention(torch: Any, pipeline: Any, on_gpu: bool) -> str:
    """diffusers' backend, that of the text encoder, and which kernels torch may choose among."""
    try:
        registry = import_module("diffusers.models.attention_dispatch")._AttentionBackendRegistry
        backend = registry.get_active_backend()[0]
        parts = [str(getattr(backend, "value", backend))]
    except Exception:
        parts = [os.environ.get("DIFFUSERS_ATTN_BACKEND", "default")]
    config = getattr(getattr(pipeline, "text_encoder", None), "config", None)
    parts.append(str(getattr(config, "_attn_implementation", "default")))
    if on_gpu:
        kernels = ("flash", "mem_efficient", "math", "cudnn")
        checks = {name: getattr(torch.backends.cuda, f"{name}_sdp_enabled", None) for name in kernels}
        parts.append("+".join(name for name, enabled in checks.items() if enabled is not None and enabled()))
    return ", ".join(parts)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
