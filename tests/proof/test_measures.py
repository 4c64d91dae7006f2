"""What the judge of tier A sees in pictures that are none, and in one that is."""

from __future__ import annotations

import numpy as np
import pytest

from tests.proof import pictures
from tests.proof.pictures import Pixels
from zitcache.proof.judging import Evidence, judge
from zitcache.proof.measures import measure, pixel_digest
from zitcache.proof.verdict import Verdict


def verdict_of(pixels: Pixels, finite: bool | None = True) -> Verdict:
    return judge(Evidence(vitals=measure(pixels, finite), size=pictures.SIDE)).verdict


@pytest.mark.parametrize("seed", range(5))
def test_a_shaded_scene_is_a_picture(seed: int) -> None:
    assert verdict_of(pictures.scene(seed)) is Verdict.PASSED


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (pictures.black(), "hardly varies"),
        (pictures.constant(), "hardly varies"),
        (pictures.noise(), "It is noise"),
        (pictures.undenoised(), "It is noise"),
        (pictures.gradient(), "plain gradient"),
        (pictures.scene() // 64 * 64, "grey levels"),
        (pictures.scene() // 8 + 100, "span"),
    ],
    ids=["black", "constant", "noise", "undenoised", "gradient", "posterized", "flat"],
)
def test_what_is_no_picture_fails_and_is_told_why(picture: Pixels, reason: str) -> None:
    judgement = judge(Evidence(vitals=measure(picture, True), size=pictures.SIDE))
    assert judgement.verdict is Verdict.FAILED
    assert judgement.tier == "A"
    assert not judgement.alive
    assert any(reason in sentence for sentence in judgement.reasons), judgement.reasons


def test_undenoised_latents_look_smooth_at_a_distance_of_one_pixel() -> None:
    """The reason for looking 8 pixels away."""
    grey = pictures.undenoised().mean(axis=2)
    assert np.corrcoef(grey[:, :-1].ravel(), grey[:, 1:].ravel())[0, 1] > 0.95
    assert measure(pictures.undenoised(), True).lag_correlation < 0.3


def test_nan_in_the_latents_fails_however_fine_the_picture_looks() -> None:
    judgement = judge(Evidence(vitals=measure(pictures.scene(), False), size=pictures.SIDE))
    assert judgement.verdict is Verdict.FAILED
    assert "NaN" in judgement.reasons[0]
    assert not judgement.sound


def test_a_picture_whose_latents_could_not_be_seen_is_judged_by_its_pixels() -> None:
    assert verdict_of(pictures.scene(), finite=None) is Verdict.PASSED
    assert verdict_of(pictures.black(), finite=None) is Verdict.FAILED


def test_a_picture_of_another_size_than_asked_for_fails() -> None:
    judgement = judge(Evidence(vitals=measure(pictures.scene()[:, :128], True), size=pictures.SIDE))
    assert judgement.verdict is Verdict.FAILED
    assert "128 x 256" in judgement.reasons[0]


def test_pictures_smaller_than_the_lag_can_be_measured() -> None:
    assert measure(pictures.scene()[:4, :4], True).lag_correlation == 0


def test_the_pixel_digest_knows_the_shape() -> None:
    flat = np.zeros((2, 8, 3), np.uint8)
    assert pixel_digest(flat) == pixel_digest(flat.copy())
    assert pixel_digest(flat) != pixel_digest(flat.reshape(8, 2, 3))
    assert pixel_digest(flat[:, ::-1]) == pixel_digest(flat), "strides do not count"
