"""The outlines of the shapes as signed distances, for the renderer and for the judge. Needs numpy alone.

Every shape is scaled to area 1 and moved so that its centroid lies at the origin; x goes right, y down.
Distances are negative inside.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from tools.scenes import SHAPES

Field = NDArray[np.float32]
# Half the side of the square that the textures cover, and their pixels.
EXTENT = 1.5
TEXTURE = 192
_FAR = 9.0


def grid(pixels: int, extent: float = EXTENT) -> tuple[Field, Field]:
    """x and y of the pixel centres of a square texture."""
    line = ((np.arange(pixels, dtype=np.float32) + 0.5) / pixels * 2 - 1) * np.float32(extent)
    x, y = np.meshgrid(line, line)
    return x, y


@cache
def textures() -> tuple[Field, Field]:
    """Distances to the outlines and to the cat's eyes (far away for all others): [shape, y, x] each."""
    x, y = grid(TEXTURE)
    outlines, eyes = zip(*(normalised(shape, x, y) for shape in SHAPES), strict=True)
    return np.stack(outlines), np.stack(eyes)


def normalised(shape: str, x: Field, y: Field) -> tuple[Field, Field]:
    """Distance to the outline of area 1 and to the eyes at the given points."""
    scale, centre_x, centre_y = _frame(shape)
    outline, eyes = _raw(shape, x * scale + centre_x, y * scale + centre_y)
    return (outline / scale).astype(np.float32), (eyes / scale).astype(np.float32)


@cache
def half_extent(shape: str) -> tuple[float, float]:
    """How far the shape of area 1 reaches from its centroid, in x and in y."""
    x, y = grid(512)
    inside = normalised(shape, x, y)[0] < 0
    return float(np.abs(x[inside]).max()), float(np.abs(y[inside]).max())


@cache
def _frame(shape: str) -> tuple[float, float, float]:
    x, y = grid(768)
    inside = _raw(shape, x, y)[0] < 0
    area = float(inside.mean()) * (2 * EXTENT) ** 2
    return area**0.5, float(x[inside].mean()), float(y[inside].mean())


def _raw(shape: str, x: Field, y: Field) -> tuple[Field, Field]:
    eyes = np.full_like(x, _FAR)
    if shape == "circle":
        return np.hypot(x, y) - 0.7, eyes
    if shape == "ring":
        return np.abs(np.hypot(x, y) - 0.60) - 0.20, eyes
    if shape == "cat":
        head = np.hypot(x, y * 1.15) - 0.7
        ears = [_polygon(x, y, [(s * 0.68, -0.05), (s * 0.62, -0.95), (s * 0.08, -0.5)]) for s in (-1, 1)]
        eyes = np.minimum(np.hypot(x - 0.27, (y + 0.05) * 0.75), np.hypot(x + 0.27, (y + 0.05) * 0.75)) - 0.12
        return np.minimum(head, np.minimum(*ears)) - 0.02, eyes
    return _polygon(x, y, _VERTICES[shape]) - 0.02, eyes


def _polygon(x: Field, y: Field, vertices: list[tuple[float, float]]) -> Field:
    """Exact signed distance to a simple polygon: the nearest edge, signed by the crossing rule."""
    squared = np.full_like(x, np.inf)
    inside = np.zeros(x.shape, dtype=bool)
    for (x0, y0), (x1, y1) in zip(vertices, [*vertices[1:], vertices[0]], strict=True):
        edge_x, edge_y = x1 - x0, y1 - y0
        along = np.clip(((x - x0) * edge_x + (y - y0) * edge_y) / (edge_x**2 + edge_y**2), 0, 1)
        squared = np.minimum(squared, (x - x0 - along * edge_x) ** 2 + (y - y0 - along * edge_y) ** 2)
        if edge_y:
            crosses = (y0 <= y) != (y1 <= y)
            inside ^= crosses & (x < x0 + (y - y0) * edge_x / edge_y)
    distance = np.sqrt(squared)
    signed: Field = np.where(inside, -distance, distance)
    return signed


def _star() -> list[tuple[float, float]]:
    angles = np.arange(10) * np.pi / 5 - np.pi / 2
    radii = np.where(np.arange(10) % 2 == 0, 0.9, 0.42)
    return [(float(r * np.cos(a)), float(r * np.sin(a))) for r, a in zip(radii, angles, strict=True)]


def _heart() -> list[tuple[float, float]]:
    t = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return [(float(a), float(b)) for a, b in zip(x / 20, y / 20, strict=True)]


_ARM, _END = 0.27, 0.8
_VERTICES: dict[str, list[tuple[float, float]]] = {
    "square": [(-0.6, -0.6), (0.6, -0.6), (0.6, 0.6), (-0.6, 0.6)],
    "triangle": [(0.0, -0.9), (0.85, 0.6), (-0.85, 0.6)],
    "diamond": [(0.0, -0.95), (0.7, 0.0), (0.0, 0.95), (-0.7, 0.0)],
    "star": _star(),
    "heart": _heart(),
    "cross": [
        *((-_ARM, -_END), (_ARM, -_END), (_ARM, -_ARM), (_END, -_ARM), (_END, _ARM), (_ARM, _ARM)),
        *((_ARM, _END), (-_ARM, _END), (-_ARM, _ARM), (-_END, _ARM), (-_END, -_ARM), (-_ARM, -_ARM)),
    ],
}
