"""Pictures to judge, made of numbers."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Pixels: TypeAlias = npt.NDArray[Any]
SIDE = 256


def black() -> Pixels:
    """Nothing at all."""
    return np.zeros((SIDE, SIDE, 3), np.uint8)


def constant(level: int = 127) -> Pixels:
    """One grey."""
    return np.full((SIDE, SIDE, 3), level, np.uint8)


def noise() -> Pixels:
    """White noise."""
    return np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def undenoised() -> Pixels:
    """Like latents that were never denoised: every 8 x 8 cell independent, smoothly joined by the VAE."""
    cells = np.random.default_rng(2).normal(size=(SIDE // 8 + 2, SIDE // 8 + 2, 3))
    large = cells.repeat(8, axis=0).repeat(8, axis=1)
    smooth = _blur(_blur(large, 7), 5)[:SIDE, :SIDE]
    return _to_8_bits(smooth)


def gradient() -> Pixels:
    """Dark to bright, and nothing else."""
    row = np.linspace(0, 255, SIDE)
    return np.repeat(np.repeat(row[None, :, None], SIDE, 0), 3, 2).astype(np.uint8)


def scene(seed: int = 0) -> Pixels:
    """Softly shaded balls before a sky, with the grain of a photograph."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    picture = np.stack([90 + 80 * y, 120 + 60 * y, 220 - 90 * y], -1)
    for _ in range(8):
        cx, cy, radius = *random.random(2), 0.06 + random.random() / 6
        inside = (x - cx) ** 2 + (y - cy) ** 2 < radius**2
        shade = 1 - ((x - cx + radius / 3) ** 2 + (y - cy + radius / 3) ** 2) / (3 * radius**2)
        picture = np.where(inside[..., None], shade[..., None] * random.integers(80, 256, 3), picture)
    return (picture + random.normal(0, 3, picture.shape)).clip(0, 255).astype(np.uint8)


def grain(picture: Pixels, amplitude: int) -> Pixels:
    """The picture with noise of up to ``amplitude`` grey levels."""
    offsets = np.random.default_rng(3).integers(-amplitude, amplitude + 1, picture.shape)
    return (picture.astype(np.int16) + offsets).clip(0, 255).astype(np.uint8)


def _blur(values: Pixels, width: int) -> Pixels:
    kernel = np.ones(width) / width
    for axis in (0, 1):
        values = np.apply_along_axis(lambda line: np.convolve(line, kernel, "same"), axis, values)
    return values


def _to_8_bits(values: Pixels) -> Pixels:
    low, high = np.percentile(values, [1, 99])
    return ((values - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)
