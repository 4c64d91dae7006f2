"""Draw scenes softly lit, in batches, on any torch device: what the sample is trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from tools.scene_shapes import EXTENT, half_extent, textures
from tools.scenes import COLOURS, PLACES, SHAPES, SIZES, Scene

# sRGB of the plain colours, in the order of COLOURS.
RGB = (
    *((0.84, 0.13, 0.13), (0.95, 0.52, 0.10), (0.95, 0.85, 0.18), (0.18, 0.64, 0.26), (0.18, 0.78, 0.82)),
    *((0.16, 0.32, 0.86), (0.50, 0.22, 0.74), (0.96, 0.50, 0.72), (0.93, 0.93, 0.93), (0.10, 0.10, 0.11)),
)
# Square root of a thing's area over the image's side, by size.
SIDE = {"small": 0.24, "medium": 0.315, "large": 0.40}
# Two things are a little smaller, so that they never touch.
_PAIR_SCALE = 0.88
_OFFSET = 0.24
_MARGIN = 0.02
COLUMNS = 9


def to_row(scene: Scene) -> list[int]:
    """The scene as nine integers: background, then shape, colour, place and size of each thing (or -1)."""
    row = [COLOURS.index(scene.background)]
    for thing in scene.things:
        row += [SHAPES.index(thing.shape), COLOURS.index(thing.colour)]
        row += [PLACES.index(thing.place), SIZES.index(thing.size)]
    return row + [-1] * (COLUMNS - len(row))


class Renderer:
    """Holds the outlines on one device."""

    def __init__(self, device: torch.device | str) -> None:
        outlines, eyes = textures()
        self._maps = torch.stack([torch.from_numpy(outlines), torch.from_numpy(eyes)], 1).to(device)
        self._reach = torch.tensor([half_extent(shape) for shape in SHAPES], device=device)
        self._rgb = torch.tensor(RGB, device=device)
        self._side = torch.tensor([SIDE[size] for size in SIZES], device=device)
        steps = torch.tensor([-1.0, 0.0, 1.0], device=device)
        self._steps = torch.stack([steps.repeat(3), steps.repeat_interleave(3)], 1)
        self._bright_eyes = torch.tensor([0.9, 0.85, 0.3], device=device)
        self.device = torch.device(device)

    def __call__(
        self, rows: Tensor | Sequence[list[int]], size: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """Images [batch, 3, size, size] in 0..1 of the scenes (rows of :func:`to_row`), lit at random.

        Without ``generator`` the device's own decides, which a CUDA graph can record.
        """
        rows = torch.as_tensor(rows, device=self.device).long()
        batch = len(rows)

        def uniform(low: float, high: float, columns: int = 1) -> Tensor:
            values = torch.rand(batch, columns, generator=generator, device=self.device)
            return values * (high - low) + low

        line = (torch.arange(size, device=self.device) + 0.5) / size
        y, x = torch.meshgrid(line, line, indexing="ij")
        points = torch.stack([x, y], -1).expand(batch, size, size, 2)
        angle = uniform(-0.85, 0.85) - math.pi / 2
        light = torch.cat([angle.cos(), angle.sin()], 1)[:, None, None]
        image = self._background(
            self._rgb[rows[:, 0]] * uniform(0.95, 1.05, 3), points, light, uniform(0.8, 1.2)
        )
        scale = 1 - (1 - _PAIR_SCALE) * (rows[:, 5:6] >= 0).float()
        for first in (1, 5):
            present = (rows[:, first] >= 0).float()[:, None, None, None]
            shape, colour, place, extent = rows[:, first : first + 4].clamp(min=0).unbind(1)
            side = self._side[extent][:, None] * scale * uniform(0.96, 1.04)
            room = (0.5 - _MARGIN - self._reach[shape] * side).clamp(0, _OFFSET)
            centre = 0.5 + self._steps[place] * room + uniform(-0.015, 0.015, 2)
            rgb = self._rgb[colour] * uniform(0.95, 1.05, 3)
            image = self._thing(image, points, light, (shape, rgb, centre, side), present)
        return image.permute(0, 3, 1, 2).clamp(0, 1)

    def _background(self, rgb: Tensor, points: Tensor, light: Tensor, strength: Tensor) -> Tensor:
        offset = (points - 0.5) * 2
        toward = (offset * light).sum(-1, keepdim=True)
        vignette = 1 - 0.14 * (offset**2).sum(-1, keepdim=True)
        glow = torch.exp(-((offset - light * 0.9) ** 2).sum(-1, keepdim=True) / 0.8)
        strength = strength[:, :, None, None]
        image: Tensor = (
            rgb[:, None, None] * (0.88 + 0.26 * strength * toward) * vignette + 0.10 * strength * glow
        )
        return image

    def _thing(
        self,
        image: Tensor,
        points: Tensor,
        light: Tensor,
        thing: tuple[Tensor, Tensor, Tensor, Tensor],
        present: Tensor,
    ) -> Tensor:
        shape, rgb, centre, side = thing
        rgb, side = rgb[:, None, None], side[:, None, None]
        local = (points - centre[:, None, None]) / side
        outline, eyes = self._distances(shape, local).unbind(-1)
        outline, eyes = outline[..., None], eyes[..., None]
        pixels = side * image.shape[1]

        fallen, _ = self._distances(shape, local + light * 0.13).unbind(-1)
        shadow = 0.42 * torch.sigmoid(-(fallen[..., None] - 0.02) / 0.045) * present
        image = image * (1 - shadow)

        diffuse = 1 + (0.42 * (local * light).sum(-1, keepdim=True)).clamp(-0.3, 0.3)
        edge = (-outline / 0.16).clamp(0, 1)
        shaded = rgb * diffuse * (0.80 + 0.20 * edge * (2 - edge)) + 0.02
        spot = torch.exp(-((local - 0.26 * light) ** 2).sum(-1, keepdim=True) / 0.025)
        shaded = shaded + (1 - shaded) * 0.32 * spot * edge
        dark = (rgb.amax(-1, keepdim=True) < 0.3).float()
        iris = dark * self._bright_eyes + (1 - dark) * 0.07
        seen = (0.5 - eyes * pixels).clamp(0, 1)
        shaded = shaded * (1 - seen) + iris * seen
        cover = (0.5 - outline * pixels).clamp(0, 1) * present
        return image * (1 - cover) + shaded * cover

    def _distances(self, shape: Tensor, local: Tensor) -> Tensor:
        maps = self._maps[shape]
        sampled = functional.grid_sample(
            maps, local / EXTENT, mode="bilinear", padding_mode="border", align_corners=False
        )
        return sampled.permute(0, 2, 3, 1)
