"""Which size and placement the memory of a GPU allows.

The figures are from Z-Image-Turbo (20.5 GB of bf16 weights) at 1024 px on one GPU: a peak of 23.3 GB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

import msgspec

from zitcache.proof.settings import SMALLER_SIZES, Size

ACTIVATION_BYTES_PER_PIXEL = {"bf16": 2700, "fp32": 5400}
"""The most that is needed beside the weights, at the decoding by the VAE: 2.8 GB at 1024 px in bf16."""

RESERVE_BYTES = 600_000_000
"""Fragmentation, and what the libraries allocate for themselves."""

ITEM_BYTES = {"bf16": 2, "fp32": 4}
_LARGEST_LAYER_SHARE = 0.1


class Placement(str, Enum):
    """Where the weights are while the pipeline draws.

    ``GPU``: all on the GPU. ``MODEL_OFFLOAD``: one component at a time on the GPU, the others in the main
    memory. ``LAYER_OFFLOAD``: one layer at a time, which is slow. ``CPU``: nothing on a GPU.
    """

    GPU = "gpu"
    MODEL_OFFLOAD = "model-offload"
    LAYER_OFFLOAD = "layer-offload"
    CPU = "cpu"


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """A size in pixels and a placement. ``needs_bytes``: the GPU memory it is expected to need."""

    size: Size
    placement: Placement
    needs_bytes: int = 0

    def __str__(self) -> str:
        return f"{self.size} px, {_PLACES[self.placement]}"


_PLACES = {
    Placement.GPU: "all weights on the GPU",
    Placement.MODEL_OFFLOAD: "one component at a time on the GPU",
    Placement.LAYER_OFFLOAD: "one layer at a time on the GPU",
    Placement.CPU: "on the CPU",
}


def sizes_to_try(native: int, only: int | None) -> tuple[int, ...]:
    """``only`` if one was asked for; else the model's own size and the usual ones below it."""
    if only is not None:
        return (only,)
    return (native, *(size for size in SMALLER_SIZES if size < native))


def gpu_fits(elements: Mapping[str, int], dtype: str, sizes: Sequence[int]) -> list[Fit]:
    """All ways to draw on a GPU, the one to prefer first.

    ``elements``: numbers of weights by component. A smaller picture is preferred to weights that travel.
    """
    weights = [count * ITEM_BYTES[dtype] for count in elements.values()] or [0]
    held = {
        Placement.GPU: sum(weights),
        Placement.MODEL_OFFLOAD: max(weights),
        Placement.LAYER_OFFLOAD: int(max(weights) * _LARGEST_LAYER_SHARE),
    }
    return [
        Fit(size=size, placement=placement, needs_bytes=held[placement] + _working_bytes(dtype, size))
        for placement in held
        for size in sizes
    ]


def fits_within(fits: Sequence[Fit], free_bytes: int) -> list[Fit]:
    """The fits to try in order: the first that should do, then only ever smaller ones.

    Estimates err, so the smallest is tried even where it should not do.
    """
    first = next((fit for fit in fits if fit.needs_bytes <= free_bytes), None)
    if first is None:
        return [min(fits, key=lambda fit: fit.needs_bytes)] if fits else []
    chosen = [first]
    for fit in fits[fits.index(first) + 1 :]:
        if fit.needs_bytes < chosen[-1].needs_bytes:
            chosen.append(fit)
    return chosen


def _working_bytes(dtype: str, size: int) -> int:
    return ACTIVATION_BYTES_PER_PIXEL[dtype] * size * size + RESERVE_BYTES
