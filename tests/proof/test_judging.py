"""Every verdict of every tier, from figures alone."""

from __future__ import annotations

import pytest

from zitcache.proof.judging import Evidence, GoldenEvidence, Judgement, judge
from zitcache.proof.measures import Vitals
from zitcache.proof.similarity import Likeness
from zitcache.proof.verdict import Verdict

ALIVE = Vitals(finite=True, width=512, height=512, std=50.0, levels=250, spread=200.0, lag_correlation=0.8)
NOISE = Vitals(finite=True, width=512, height=512, std=50.0, levels=250, spread=200.0, lag_correlation=0.0)
NOT_FINITE = Vitals(finite=False, width=512, height=512, std=0.0, levels=1, spread=0.0, lag_correlation=0.0)
ELSEWHERE = ["device name NVIDIA A100, was NVIDIA H200", "torch 2.11.0, was 2.9.1"]


def like(psnr: float | None = 40.0, ssim: float = 0.98, distance: int = 2) -> Likeness:
    return Likeness(
        identical=psnr is None, psnr=psnr, ssim=ssim, phash_distance=distance, largest_difference=30
    )


def golden(
    *,
    equal: bool = False,
    differences: list[str] | None = None,
    likeness: Likeness | None = None,
    other_weights: bool = False,
) -> GoldenEvidence:
    return GoldenEvidence(
        id="ab" * 32,
        equal=equal,
        differences=differences or [],
        likeness=likeness,
        other_weights=other_weights,
    )


def judged(
    vitals: Vitals = ALIVE,
    golden: GoldenEvidence | None = None,
    *,
    repeats: bool | None = True,
    prompts_differ: bool | None = True,
    blessed: bool = False,
) -> Judgement:
    return judge(
        Evidence(
            vitals=vitals,
            size=512,
            repeats=repeats,
            prompts_differ=prompts_differ,
            golden=golden,
            blessed=blessed,
        )
    )


# -- A: alive -----------------------------------------------------------------------------------------


def test_a_picture_without_a_golden_passes_because_it_is_alive() -> None:
    found = judged()
    assert (found.verdict, found.tier, found.alive) == (Verdict.PASSED, "A", True)
    assert "no golden" in found.reasons[0]


def test_noise_without_a_golden_fails() -> None:
    found = judged(NOISE)
    assert (found.verdict, found.tier, found.alive, found.sound) == (Verdict.FAILED, "A", False, True)


def test_noise_from_weights_that_are_known_good_may_become_the_golden_with_a_warning() -> None:
    found = judged(NOISE, blessed=True)
    assert (found.verdict, found.tier, found.alive) == (Verdict.WARNED, "A", False)


@pytest.mark.parametrize("blessed", [False, True])
@pytest.mark.parametrize("equal", [False, True])
def test_nothing_excuses_nan(equal: bool, blessed: bool) -> None:
    found = judged(NOT_FINITE, golden(equal=equal), blessed=blessed)
    assert (found.verdict, found.tier, found.sound) == (Verdict.FAILED, "A", False)


@pytest.mark.parametrize("blessed", [False, True])
def test_the_same_seed_must_give_the_same_picture(blessed: bool) -> None:
    found = judged(repeats=False, blessed=blessed)
    assert (found.verdict, found.tier, found.sound) == (Verdict.FAILED, "A", False)
    assert "same seed" in found.reasons[0]


def test_another_prompt_must_give_another_picture() -> None:
    found = judged(prompts_differ=False)
    assert (found.verdict, found.tier) == (Verdict.FAILED, "A")
    assert "Another prompt" in found.reasons[0]


def test_what_was_not_tried_speaks_neither_way() -> None:
    assert judged(repeats=None, prompts_differ=None).verdict is Verdict.PASSED


# -- B: equal -----------------------------------------------------------------------------------------


def test_pixels_equal_to_the_golden_of_the_same_environment_pass() -> None:
    found = judged(golden=golden(equal=True, likeness=like(None, 1.0, 0)))
    assert (found.verdict, found.tier) == (Verdict.PASSED, "B")
    assert "abababab" in found.reasons[0]


def test_pixels_that_differ_in_the_same_environment_fail_however_similar() -> None:
    found = judged(golden=golden(likeness=like(60.0, 0.999, 0)))
    assert (found.verdict, found.tier, found.alive) == (Verdict.FAILED, "B", True)
    assert "PSNR 60.0 dB" in found.reasons[0]


def test_random_weights_equal_to_their_golden_pass_with_a_warning() -> None:
    found = judged(NOISE, golden(equal=True, likeness=like(None, 1.0, 0)), prompts_differ=False)
    assert (found.verdict, found.tier, found.alive) == (Verdict.WARNED, "B", False)
    assert any("noise" in reason for reason in found.reasons)


# -- C: alike -----------------------------------------------------------------------------------------


def test_a_picture_like_the_golden_of_another_gpu_passes_and_names_what_is_different() -> None:
    found = judged(golden=golden(differences=ELSEWHERE, likeness=like()))
    assert (found.verdict, found.tier) == (Verdict.PASSED, "C")
    assert "torch 2.11.0, was 2.9.1" in found.reasons[1]


@pytest.mark.parametrize(
    ("psnr", "ssim", "distance", "verdict"),
    [
        (24.0, 0.90, 10, Verdict.PASSED),
        (25.0, 0.50, 10, Verdict.PASSED),
        (24.9, 0.89, 10, Verdict.WARNED),
        (40.0, 0.99, 11, Verdict.WARNED),
        (10.0, 0.10, 18, Verdict.WARNED),
        (40.0, 0.99, 19, Verdict.FAILED),
    ],
)
def test_the_limits_of_likeness(psnr: float, ssim: float, distance: int, verdict: Verdict) -> None:
    found = judged(golden=golden(differences=ELSEWHERE, likeness=like(psnr, ssim, distance)))
    assert (found.verdict, found.tier) == (verdict, "C")


def test_equal_pixels_from_another_environment_pass() -> None:
    found = judged(golden=golden(equal=True, differences=ELSEWHERE, likeness=like(None, 1.0, 0)))
    assert (found.verdict, found.tier) == (Verdict.PASSED, "C")


def test_a_golden_that_cannot_be_compared_fails() -> None:
    found = judged(golden=golden(differences=ELSEWHERE))
    assert (found.verdict, found.tier) == (Verdict.FAILED, "C")


def test_noise_like_the_golden_of_another_gpu_passes_with_a_warning_but_not_if_it_is_hardly_alike() -> None:
    assert judged(NOISE, golden(differences=ELSEWHERE, likeness=like())).verdict is Verdict.WARNED
    hardly = golden(differences=ELSEWHERE, likeness=like(20.0, 0.5, 15))
    assert judged(NOISE, hardly).verdict is Verdict.FAILED


# -- other weights of the same model -------------------------------------------------------------------


@pytest.mark.parametrize("equal", [False, True])
def test_files_that_nobody_vouches_for_pass_with_a_warning_when_they_draw_the_same(equal: bool) -> None:
    likeness = like(None, 1.0, 0) if equal else like()
    found = judged(golden=golden(equal=equal, likeness=likeness, other_weights=True))
    assert (found.verdict, found.tier) == (Verdict.WARNED, "C")
    assert "The files are not those" in found.reasons[0]


def test_files_that_nobody_vouches_for_fail_when_they_draw_something_else() -> None:
    found = judged(golden=golden(likeness=like(9.0, 0.2, 30), other_weights=True))
    assert (found.verdict, found.tier) == (Verdict.FAILED, "C")
    assert "does not look like the golden" in found.reasons[0]
    assert "The files are not those" in found.reasons[1]
