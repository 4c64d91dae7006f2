"""Measure what a picture shows: background, and each thing's colour, shape, place and size; numpy alone.

The judge knows nothing of the prompt. A pixel that is no lighter or darker version of the background belongs
to a thing; each connected thing is compared with all outlines, brought to its area and centroid.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tools.scene_shapes import normalised
from tools.scenes import PLACES, SHAPES, Scene, Thing

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
# Hue (degrees) up to which a colour goes by its name; past the last it is red again.
_HUES = (
    *((14.0, "red"), (41.0, "orange"), (80.0, "yellow"), (158.0, "green"), (205.0, "cyan"), (250.0, "blue")),
    *((299.0, "purple"), (346.0, "pink"), (360.0, "red")),
)
# Saturation and value below which a pixel counts as grey.
_GREY_CHROMA = 0.10
# A thing in the shadow or in the light is the background times a factor within these.
_SHADES = (0.5, 1.3)
# Least distance to every shade of the background, of 255.
_LEAST_CONTRAST = 22.0
_LEAST_AREA = 0.008
# A thing whose best outline fits worse than this has no shape that can be told.
LEAST_OVERLAP = 0.75
_CENTRE_BAND = 0.07
_SIZE_LIMITS = ((0.258, "small"), (0.355, "medium"), (9.0, "large"))


@dataclass(frozen=True, slots=True)
class Found:
    """One thing. ``overlap``: how well the outline fits (intersection over union)."""

    shape: str
    colour: str
    place: str
    size: str
    overlap: float


@dataclass(frozen=True, slots=True)
class Seen:
    """The picture in words; ``things``: the largest first."""

    background: str
    things: tuple[Found, ...]


def look(image: Image) -> Seen:
    """What the picture [height, width, 3] shows."""
    pixels = image.astype(np.float64)
    background, contrast = _against_background(pixels)
    names = _colour_names(pixels)
    # A first cut finds the things, a second one, at half of each thing's own contrast, its exact outline.
    rough = _components(contrast > _LEAST_CONTRAST)
    cuts = [max(_LEAST_CONTRAST, 0.5 * float(np.median(contrast[mask]))) for mask in rough]
    exact = [mask & (contrast > cut) for mask, cut in zip(rough, cuts, strict=True)]
    return Seen(background, tuple(_describe(_components(mask)[0], names) for mask in exact))


def compare(scene: Scene, seen: Seen) -> dict[str, bool]:
    """Which of background, colour, shape, place and size are as asked (``count``: the number of things).

    With two things each attribute must be right for both. A shape that fits no outline well is not right.
    """
    pairs = _match(scene.things, seen.things)
    right = {
        "background": seen.background == scene.background,
        "count": len(seen.things) == len(scene.things),
    }
    for attribute in ("colour", "shape", "place", "size"):
        right[attribute] = all(
            found is not None and getattr(thing, attribute) == getattr(found, attribute)
            for thing, found in pairs
        )
    right["shape"] &= all(found is not None and found.overlap >= LEAST_OVERLAP for _, found in pairs)
    return right


def _match(things: tuple[Thing, ...], found: tuple[Found, ...]) -> list[tuple[Thing, Found | None]]:
    remaining = list(found)
    pairs: list[tuple[Thing, Found | None]] = []
    for thing in things:
        # With two things the place tells them apart, else the largest is meant.
        here = next((other for other in remaining if other.place == thing.place), None)
        best = here or (remaining[0] if remaining else None)
        if best is not None:
            remaining.remove(best)
        pairs.append((thing, best))
    return pairs


def _against_background(pixels: NDArray[np.float64]) -> tuple[str, NDArray[np.float64]]:
    """The background's colour, and each pixel's distance to the nearest shade of it."""
    height, width, _ = pixels.shape
    edge = np.zeros((height, width), dtype=bool)
    border = max(2, height // 24)
    edge[:border] = edge[-border:] = edge[:, :border] = edge[:, -border:] = True
    names = _colour_names(pixels)
    background = Counter(names[edge].tolist()).most_common(1)[0][0]
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    terms = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], -1)
    # Twice, so that a thing that touches the border does not bend the fit.
    chosen = edge & (names == background)
    smooth = np.broadcast_to(pixels[chosen].mean(0), pixels.shape)
    for _ in range(2):
        weights, *_ = np.linalg.lstsq(terms[chosen], pixels[chosen], rcond=None)
        smooth = np.clip(terms @ weights, 4, 255)
        distance = np.linalg.norm(pixels - smooth, axis=-1)
        if not chosen.any():
            break  # noise: there is no background
        chosen &= distance < max(20.0, 2 * float(np.median(distance[chosen])))
    shade = (pixels * smooth).sum(-1) / (smooth * smooth).sum(-1)
    shade = np.clip(shade, *_SHADES)[..., None]
    contrast: NDArray[np.float64] = np.linalg.norm(pixels - shade * smooth, axis=-1)
    return background, contrast


def _colour_names(pixels: NDArray[np.float64]) -> NDArray[np.str_]:
    high, low = pixels.max(-1), pixels.min(-1)
    chroma = (high - low) / 255
    value = high / 255
    red, green, blue = np.moveaxis(pixels, -1, 0)
    spread = np.maximum(high - low, 1e-6)
    hue = np.where(
        high == red,
        (green - blue) / spread % 6,
        np.where(high == green, (blue - red) / spread + 2, (red - green) / spread + 4),
    )
    limits, hue_names = zip(*_HUES, strict=True)
    chromatic = np.array(hue_names)[np.searchsorted(limits, hue * 60)]
    grey = (chroma < _GREY_CHROMA) | (value < 0.16)
    names: NDArray[np.str_] = np.where(grey, np.where(value > 0.45, "white", "black"), chromatic)
    return names


def _components(mask: Mask) -> list[Mask]:
    """The connected parts that are no specks, largest first."""
    height, width = mask.shape
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        # Each pixel takes the largest label around it; following labels as pointers makes that fast.
        padded = np.pad(labels, 1)
        around = [padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width] for dy, dx in _NEIGHBOURS]
        grown = np.where(mask, np.maximum.reduce([labels, *around]), 0)
        flat = np.concatenate([[0], grown.ravel()])
        grown = np.where(mask, flat[grown], 0)
        if np.array_equal(grown, labels):
            break
        labels = grown
    values, counts = np.unique(labels[labels > 0], return_counts=True)
    least = max(_LEAST_AREA * mask.size, 0.12 * counts.max(initial=0))
    kept = sorted(((count, value) for value, count in zip(values, counts, strict=True) if count >= least))
    return [labels == value for _, value in reversed(kept)]


_NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


def _describe(mask: Mask, names: NDArray[np.str_]) -> Found:
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    # The outlines' own centroids were measured in the same way, holes left out.
    x, y, side = columns.mean() + 0.5, rows.mean() + 0.5, math.sqrt(len(rows))
    grid_y, grid_x = np.mgrid[0:height, 0:width] + 0.5
    local_x = ((grid_x - x) / side).astype(np.float32)
    local_y = ((grid_y - y) / side).astype(np.float32)
    overlaps = {}
    for shape in SHAPES:
        outline, eyes = normalised(shape, local_x, local_y)
        inside = outline < 0
        seen = mask | ((eyes < 0.02) & inside) if shape == "cat" else mask
        overlaps[shape] = float((inside & seen).sum() / (inside | seen).sum())
    shape = max(overlaps, key=lambda name: overlaps[name])
    core = mask & _shifted_all(mask)
    colour = Counter(names[core if core.any() else mask].tolist()).most_common(1)[0][0]
    fraction = side / math.sqrt(mask.size)
    size = next(name for limit, name in _SIZE_LIMITS if fraction < limit)
    return Found(shape, colour, _place(x / width, y / height), size, round(overlaps[shape], 3))


def _shifted_all(mask: Mask) -> Mask:
    inner = np.zeros_like(mask)
    inner[1:-1, 1:-1] = mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    return inner


def _place(x: float, y: float) -> str:
    def third(position: float) -> int:
        return int(position > 0.5 - _CENTRE_BAND) + int(position > 0.5 + _CENTRE_BAND)

    return PLACES[third(y) * 3 + third(x)]
