"""PNG in and out, and the contact sheet."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zitcache.machine.files import create_durably
from zitcache.proof.similarity import Likeness

if TYPE_CHECKING:
    from zitcache.proof.measures import Pixels

DIFFERENCE_GAIN = 8
_PANEL = 512
_MARGIN = 12
_TEXT_HEIGHT = 22
_MAX_GOLDEN_PIXELS = 64 << 20


def encode_png(pixels: Pixels, metadata: Mapping[str, str]) -> bytes:
    """A PNG with ``metadata`` as UTF-8 text chunks (iTXt)."""
    info = import_module("PIL.PngImagePlugin").PngInfo()
    for key, text in metadata.items():
        info.add_itxt(key, text.replace("\0", "\ufffd").encode(errors="backslashreplace").decode())
    buffer = io.BytesIO()
    _image(pixels).save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def decode_png(data: bytes) -> Pixels:
    """The pixels of a PNG as uint8 RGB. Raises ``OSError`` or ``ValueError`` when it is not one."""
    from zitcache.codec.arrays import np

    image = import_module("PIL.Image").open(io.BytesIO(data), formats=["PNG"])
    if image.width * image.height > _MAX_GOLDEN_PIXELS:
        raise ValueError(f"a picture of {image.width} x {image.height} pixels is too large")
    pixels: Pixels = np.asarray(image.convert("RGB"))
    return pixels


def write_new(path: str, data: bytes) -> str:
    """Write a file that was not there, durably; gives its path, with a number in the name if ``path`` exists.

    Raises ``OSError``.
    """
    wanted = Path(path)
    candidate, number = wanted, 1
    while not create_durably(candidate, data):
        number += 1
        candidate = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
    return os.fspath(candidate)


def contact_sheet(golden: Pixels, now: Pixels, likeness: Likeness) -> Pixels:
    """Golden, now and their difference side by side, the figures below."""
    from zitcache.codec.arrays import np

    difference = np.abs(golden.astype(np.int16) - now.astype(np.int16)) * DIFFERENCE_GAIN
    panels = {
        "golden": golden,
        "now": now,
        f"difference x {DIFFERENCE_GAIN}": np.clip(difference, 0, 255).astype(np.uint8),
    }
    error = "infinite (identical)" if likeness.psnr is None else f"{likeness.psnr:.2f} dB"
    figures = (
        f"PSNR {error}    SSIM {likeness.ssim:.4f}    pHash distance {likeness.phash_distance} of 64    "
        f"largest difference {likeness.largest_difference} of 255"
    )
    side = _PANEL + 2 * _MARGIN
    sheet = import_module("PIL.Image").new("RGB", (side * len(panels), _PANEL + 3 * _TEXT_HEIGHT), "white")
    pen = import_module("PIL.ImageDraw").Draw(sheet)
    for number, (title, pixels) in enumerate(panels.items()):
        left = number * side + _MARGIN
        pen.text((left, 4), title, fill="black")
        sheet.paste(_image(pixels).resize((_PANEL, _PANEL)), (left, _TEXT_HEIGHT))
    pen.text((_MARGIN, _PANEL + _TEXT_HEIGHT + 8), figures, fill="black")
    result: Pixels = np.asarray(sheet)
    return result


def _image(pixels: Pixels) -> Any:
    return import_module("PIL.Image").fromarray(pixels)
