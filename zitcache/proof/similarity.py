"""How alike two pictures are: PSNR, SSIM and a perceptual hash, in plain numpy.

SSIM after Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to
structural similarity" (2004), with a 7 x 7 uniform window and sample covariances, the defaults of
scikit-image. The hash is pHash: the signs of the lowest 8 x 8 coefficients of a DCT of the picture scaled
to 32 x 32, around their median.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

if TYPE_CHECKING:
    import numpy.typing as npt

    Pixels: TypeAlias = "npt.NDArray[Any]"

from zitcache.proof.measures import luminance

HASH_SIDE = 8
_SCALED_SIDE = 32
_WINDOW = 7
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


class Likeness(msgspec.Struct, frozen=True, kw_only=True):
    """``psnr`` in dB, None for identical pictures (it would be infinite); ``ssim`` up to 1, of the
    luminance; ``phash_distance``: how many of 64 bits differ; ``largest_difference``: of one value of one
    pixel, of 255."""

    identical: bool
    psnr: float | None
    ssim: float
    phash_distance: int
    largest_difference: int


def compare(a: Pixels, b: Pixels) -> Likeness | None:
    """Compare two pictures (uint8, height x width x 3); None when their sizes differ."""
    from zitcache.codec.arrays import np

    if a.shape != b.shape:
        return None
    difference = np.abs(a.astype(np.int16) - b.astype(np.int16))
    error = psnr(a, b)
    return Likeness(
        identical=error is None,
        psnr=None if error is None else round(error, 3),
        ssim=round(ssim(luminance(a), luminance(b)), 5),
        phash_distance=int((phash(a) ^ phash(b)).bit_count()),
        largest_difference=int(difference.max(initial=0)),
    )


def psnr(a: Pixels, b: Pixels) -> float | None:
    """Peak signal-to-noise ratio of 8-bit pictures in dB; None if they are identical."""
    from zitcache.codec.arrays import np

    mean_square = float(((a.astype(np.float32) - b.astype(np.float32)) ** 2).mean(dtype=np.float64))
    return 10 * float(np.log10(255**2 / mean_square)) if mean_square else None


def ssim(a: Pixels, b: Pixels) -> float:
    """Mean structural similarity of two luminances (0 to 255), at least 7 pixels on each side."""
    from zitcache.codec.arrays import np

    x, y = a.astype(np.float64), b.astype(np.float64)
    ux, uy = _window_mean(x), _window_mean(y)
    unbiased = _WINDOW**2 / (_WINDOW**2 - 1)
    vx = unbiased * (_window_mean(x * x) - ux * ux)
    vy = unbiased * (_window_mean(y * y) - uy * uy)
    vxy = unbiased * (_window_mean(x * y) - ux * uy)
    score = ((2 * ux * uy + _C1) * (2 * vxy + _C2)) / ((ux * ux + uy * uy + _C1) * (vx + vy + _C2))
    return float(score.mean())


def phash(pixels: Pixels) -> int:
    """64 bits that stay nearly the same when a picture is scaled, recompressed or slightly changed."""
    from zitcache.codec.arrays import np

    grey = luminance(pixels).astype(np.float64)
    small = _scale_matrix(grey.shape[0]) @ grey @ _scale_matrix(grey.shape[1]).T
    basis = _dct_matrix()
    lowest = basis @ small @ basis.T
    bits = (lowest > np.median(lowest)).ravel()
    return int("".join("1" if bit else "0" for bit in bits), 2)


def _window_mean(values: Pixels) -> Pixels:
    """Means over all 7 x 7 windows that lie inside, by summed areas."""
    from zitcache.codec.arrays import np

    sums = np.zeros((values.shape[0] + 1, values.shape[1] + 1))
    sums[1:, 1:] = values.cumsum(axis=0).cumsum(axis=1)
    w = _WINDOW
    means: Pixels = (sums[w:, w:] - sums[:-w, w:] - sums[w:, :-w] + sums[:-w, :-w]) / (w * w)
    return means


def _scale_matrix(length: int) -> Pixels:
    """32 rows of area weights: each of the 32 pixels becomes the mean of what it covers of ``length``."""
    from zitcache.codec.arrays import np

    edges = np.linspace(0, length, _SCALED_SIDE + 1)
    pixel = np.arange(length)
    covered = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    weights: Pixels = np.clip(covered, 0, None) * (_SCALED_SIDE / length)
    return weights


def _dct_matrix() -> Pixels:
    """The first 8 rows of the DCT-II of 32 points."""
    from zitcache.codec.arrays import np

    k, n = np.arange(HASH_SIDE)[:, None], np.arange(_SCALED_SIDE)
    rows: Pixels = np.cos(np.pi * k * (2 * n + 1) / (2 * _SCALED_SIDE))
    return rows
