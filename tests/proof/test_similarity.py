"""PSNR, SSIM and pHash against values of scikit-image 0.26 and ImageHash 4.3.

The references were computed once with ``skimage.metrics.peak_signal_noise_ratio``,
``structural_similarity`` (both with ``data_range=255``, the latter on the luminance) and
``imagehash.phash``.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.proof import pictures
from zitcache.proof.measures import luminance
from zitcache.proof.similarity import compare, phash, psnr, ssim


@pytest.mark.parametrize(
    ("amplitude", "expected_psnr", "expected_ssim"), [(2, 45.1100, 0.98891), (12, 30.9556, 0.78039)]
)
def test_psnr_and_ssim_are_those_of_scikit_image(
    amplitude: int, expected_psnr: float, expected_ssim: float
) -> None:
    picture = pictures.scene()
    changed = pictures.grain(picture, amplitude)
    assert psnr(picture, changed) == pytest.approx(expected_psnr, abs=1e-3)
    assert ssim(luminance(picture), luminance(changed)) == pytest.approx(expected_ssim, abs=1e-4)


@pytest.mark.parametrize(("seed", "expected"), [(0, 0xEC6846AFB11C69C3), (1, 0xB13263C3F40F9E61)])
def test_phash_is_nearly_that_of_imagehash(seed: int, expected: int) -> None:
    """Nearly: ImageHash scales with another filter, which moves a bit or two."""
    assert (phash(pictures.scene(seed)) ^ expected).bit_count() <= 4


def test_identical_pictures_have_no_psnr_and_a_ssim_of_one() -> None:
    likeness = compare(pictures.scene(), pictures.scene())
    assert likeness is not None
    assert likeness.identical
    assert likeness.psnr is None
    assert likeness.ssim == 1
    assert likeness.phash_distance == 0
    assert likeness.largest_difference == 0


def test_pictures_of_different_size_cannot_be_compared() -> None:
    assert compare(pictures.scene(), pictures.scene()[:128]) is None


def test_one_changed_value_is_no_longer_identical() -> None:
    changed = pictures.scene()
    changed[17, 5, 1] ^= 1
    likeness = compare(pictures.scene(), changed)
    assert likeness is not None
    assert not likeness.identical
    assert likeness.largest_difference == 1
    assert likeness.psnr is not None
    assert likeness.psnr > 90


def test_phash_survives_small_changes_and_tells_scenes_apart() -> None:
    hashes = [phash(pictures.scene(seed)) for seed in range(6)]
    for seed, value in enumerate(hashes):
        assert (value ^ phash(pictures.grain(pictures.scene(seed), 20))).bit_count() <= 6
        others = [(value ^ other).bit_count() for n, other in enumerate(hashes) if n != seed]
        assert min(others) > 10


def test_constant_pictures_can_be_compared() -> None:
    likeness = compare(pictures.constant(), np.full_like(pictures.constant(), 130))
    assert likeness is not None
    assert likeness.largest_difference == 3
