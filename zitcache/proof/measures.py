"""Figures that tell a picture from black, from a constant, from noise and from undenoised latents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

if TYPE_CHECKING:
    import numpy.typing as npt

    Pixels: TypeAlias = "npt.NDArray[Any]"
    """uint8, height x width x 3."""

LAG = 8
"""Pixels. One cell of the latents is 8 pixels wide: neighbours at this distance were decoded from different
cells, so only a picture makes them alike. At distance 1 even undenoised latents reach 0.98."""


class Vitals(msgspec.Struct, frozen=True, kw_only=True):
    """Measured on one picture; grey levels are of 256.

    ``finite``: the latents and what the VAE made of them held neither NaN nor infinity, as seen before the
    cast to 8 bits; None where the pipeline did not let them be seen. ``std``: standard deviation of the
    luminance. ``levels``: how many different grey levels there are. ``spread``: from the 1st to the 99th
    percentile. ``lag_correlation``: of pixels :data:`LAG` apart, mean of both directions; 0 for a constant
    picture.
    """

    finite: bool | None
    width: int
    height: int
    std: float
    levels: int
    spread: float
    lag_correlation: float


def luminance(pixels: Pixels) -> Pixels:
    """Rec. 601 luma as float32, 0 to 255."""
    from zitcache.codec.arrays import np

    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    grey: Pixels = pixels[..., :3].astype(np.float32) @ weights
    return grey


def measure(pixels: Pixels, finite: bool | None) -> Vitals:
    """Measure a picture. ``finite`` is passed through: 8-bit pixels cannot tell any more."""
    from zitcache.codec.arrays import np

    grey = luminance(pixels)
    low, high = np.percentile(grey, [1, 99])
    correlations = [
        _correlation(grey[:, :-LAG], grey[:, LAG:]),
        _correlation(grey[:-LAG, :], grey[LAG:, :]),
    ]
    return Vitals(
        finite=finite,
        width=int(pixels.shape[1]),
        height=int(pixels.shape[0]),
        std=round(float(grey.std()), 3),
        levels=int(np.unique(np.rint(grey).astype(np.uint8)).size),
        spread=round(float(high - low), 3),
        lag_correlation=round(sum(correlations) / 2, 4),
    )


def pixel_digest(pixels: Pixels) -> str:
    """BLAKE3 of ``<height> <width> <channels>\\n`` and the raw 8-bit pixels, row by row."""
    from blake3 import blake3

    from zitcache.codec.arrays import np

    hasher = blake3(" ".join(map(str, pixels.shape)).encode() + b"\n")
    hasher.update(np.ascontiguousarray(pixels).data.cast("B"))
    return str(hasher.hexdigest())


def _correlation(a: Pixels, b: Pixels) -> float:
    from zitcache.codec.arrays import np

    if not a.size:
        return 0.0
    a, b = a - a.mean(dtype=np.float64), b - b.mean(dtype=np.float64)
    norm = float(np.sqrt((a * a).mean(dtype=np.float64) * (b * b).mean(dtype=np.float64)))
    # Below a hundredth of a grey level there is nothing to correlate but rounding.
    return float((a * b).mean(dtype=np.float64)) / norm if norm > 1e-4 else 0.0
