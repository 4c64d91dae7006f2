"""From measurements to a verdict, by three tiers.

A, alive: the picture is one. B, equal: a golden from an identical environment must have identical pixels.
C, alike: a golden from another GPU or other versions must look the same. The highest tier that can be asked
decides. The thresholds of A were calibrated so that black, constant, noise and undenoised latents fail and
the 17 photographs that scikit-image and scikit-learn ship pass at 512 px and more. Close-ups of grass or
gravel, and star fields, would fail by themselves, so prompts for proofs should not ask for them.
"""

from __future__ import annotations

import msgspec

from zitcache.proof.measures import LAG, Vitals
from zitcache.proof.similarity import Likeness
from zitcache.proof.verdict import Tier, Verdict

MIN_STD = 8.0
"""Grey levels. Photographs: 10 to 76; a constant picture: 0."""

MIN_LEVELS = 64
"""Different grey levels of 256. Photographs: 83 and more."""

MIN_SPREAD = 40.0
"""Grey levels from the 1st to the 99th percentile. Photographs: 49 and more."""

MIN_LAG_CORRELATION = 0.3
"""Photographs at 512 px: 0.35 (a brick wall) to 0.97; undenoised latents decoded by the VAE: 0.14; noise:
0."""

MAX_LAG_CORRELATION = 0.995
"""A plain gradient has more; photographs at 1024 px reach 0.98."""

MAX_HASH_DISTANCE = 10
"""Of 64 bits. pHash's authors take pictures to be the same up to 10 and different from 22."""

WARN_HASH_DISTANCE = 18
MIN_SSIM = 0.90
MIN_PSNR = 25.0
"""dB. Other kernels and versions differ by rounding, which nine steps amplify to some 30 dB."""


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """``tier``: which one decided. ``alive``: whether tier A found no fault."""

    verdict: Verdict
    tier: Tier
    reasons: list[str]
    alive: bool = True
    sound: bool = True
    """Whether the picture is finite, of the right size, and the same when drawn again: what a golden must
    be."""


class GoldenEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """A golden of the same weights and settings. ``differences``: of its environment to this one, in words.

    ``likeness``: None when the pictures could not be compared. ``other_weights``: it was drawn from other
    files of the same model, and nobody says that those which are here now are good.
    """

    id: str
    equal: bool
    differences: list[str]
    likeness: Likeness | None = None
    other_weights: bool = False


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known about one picture.

    ``size``: what was asked for. ``repeats``: whether the same seed gave the same picture again;
    ``prompts_differ``: whether another prompt gave another picture; None: not tried. ``blessed``: the user
    says that these weights are good, and their files are known to be so.
    """

    vitals: Vitals
    size: int
    repeats: bool | None = None
    prompts_differ: bool | None = None
    golden: GoldenEvidence | None = None
    blessed: bool = False


def judge(evidence: Evidence) -> Judgement:
    """The verdict, which tier spoke, and why: one sentence for each reason, the decisive first."""
    broken = _broken(evidence)
    if broken:
        return Judgement(verdict=Verdict.FAILED, tier="A", reasons=broken, alive=False, sound=False)
    faults = _not_alive(evidence)
    golden = evidence.golden
    if golden is None:
        return _by_itself(faults, evidence.blessed)
    if golden.other_weights:
        return _by_other_weights(golden, faults)
    if golden.equal:
        tier: Tier = "C" if golden.differences else "B"
        reasons = [f"The pixels are those of the golden {golden.id[:8]}."]
        return _found_good(tier, reasons, faults)
    if not golden.differences:
        return _failed("B", _unequal(golden), faults)
    return _by_likeness(golden, faults)


def _broken(evidence: Evidence) -> list[str]:
    """What no golden can excuse."""
    vitals, reasons = evidence.vitals, []
    if vitals.finite is False:
        reasons.append(
            "The latents hold NaN or infinity: the weights are damaged, or the dtype is too narrow."
        )
    if (vitals.width, vitals.height) != (evidence.size, evidence.size):
        reasons.append(
            f"The picture is {vitals.width} x {vitals.height}, not {evidence.size} x {evidence.size}."
        )
    if evidence.repeats is False:
        reasons.append("The same seed gave another picture the second time.")
    return reasons


def _not_alive(evidence: Evidence) -> list[str]:
    """Why it is not a picture, as far as figures can tell."""
    vitals, reasons = evidence.vitals, []
    if vitals.std <= MIN_STD:
        reasons.append(
            f"The luminance hardly varies: standard deviation {vitals.std:.1f}, needed {MIN_STD:.0f}."
        )
    if vitals.levels < MIN_LEVELS:
        reasons.append(f"It has {vitals.levels} grey levels; a picture has {MIN_LEVELS} or more.")
    if vitals.spread <= MIN_SPREAD:
        reasons.append(
            f"Its grey levels span {vitals.spread:.0f} of 255; a picture spans {MIN_SPREAD:.0f} or more."
        )
    if vitals.lag_correlation <= MIN_LAG_CORRELATION:
        reasons.append(
            f"It is noise: pixels {LAG} apart correlate by {vitals.lag_correlation:.2f}, "
            f"in a picture by more than {MIN_LAG_CORRELATION}."
        )
    if vitals.lag_correlation >= MAX_LAG_CORRELATION:
        reasons.append(
            f"It is a plain gradient: pixels {LAG} apart correlate by {vitals.lag_correlation:.4f}, "
            f"in a picture by less than {MAX_LAG_CORRELATION}."
        )
    if evidence.prompts_differ is False:
        reasons.append("Another prompt gave the same picture.")
    return reasons


def _by_itself(faults: list[str], blessed: bool) -> Judgement:
    if not faults:
        alive = ["There is no golden to compare with; the picture is alive."]
        return Judgement(verdict=Verdict.PASSED, tier="A", reasons=alive)
    if blessed:
        reasons = [*faults, "It is kept as the golden all the same: the files are known to be good."]
        return Judgement(verdict=Verdict.WARNED, tier="A", reasons=reasons, alive=False)
    return Judgement(verdict=Verdict.FAILED, tier="A", reasons=faults, alive=False)


def _by_likeness(golden: GoldenEvidence, faults: list[str]) -> Judgement:
    where = "; ".join(golden.differences)
    elsewhere = (
        f"The golden is from another environment: {where}." if where else "The environment is the same."
    )
    likeness = golden.likeness
    if likeness is None:
        return _failed("C", ["The golden has another size.", elsewhere], faults)
    figures = _figures(likeness)
    close = likeness.ssim >= MIN_SSIM or likeness.psnr is None or likeness.psnr >= MIN_PSNR
    if likeness.phash_distance <= MAX_HASH_DISTANCE and close:
        return _found_good("C", [f"It looks like the golden {golden.id[:8]}: {figures}.", elsewhere], faults)
    if likeness.phash_distance <= WARN_HASH_DISTANCE and not faults:
        reasons = [f"It resembles the golden {golden.id[:8]}, but not closely: {figures}.", elsewhere]
        return Judgement(verdict=Verdict.WARNED, tier="C", reasons=reasons)
    return _failed("C", [f"It does not look like the golden {golden.id[:8]}: {figures}.", elsewhere], faults)


def _by_other_weights(golden: GoldenEvidence, faults: list[str]) -> Judgement:
    """Weights that are not those of the golden can be a new version, or damaged. Likeness tells."""
    others = (
        f"The files are not those that the golden {golden.id[:8]} was drawn from, and no snapshot or "
        "fingerprint says which are right."
    )
    found = _by_likeness(golden, faults)
    if found.verdict is Verdict.FAILED:
        return msgspec.structs.replace(found, reasons=[found.reasons[0], others, *faults])
    return msgspec.structs.replace(found, verdict=Verdict.WARNED, reasons=[others, *found.reasons])


def _found_good(tier: Tier, reasons: list[str], faults: list[str]) -> Judgement:
    if not faults:
        return Judgement(verdict=Verdict.PASSED, tier=tier, reasons=reasons)
    # Random weights draw no picture, and are still exactly what they were.
    reasons = [*reasons, "But it was no picture then either.", *faults]
    return Judgement(verdict=Verdict.WARNED, tier=tier, reasons=reasons, alive=False)


def _failed(tier: Tier, reasons: list[str], faults: list[str]) -> Judgement:
    return Judgement(verdict=Verdict.FAILED, tier=tier, reasons=[*reasons, *faults], alive=not faults)


def _unequal(golden: GoldenEvidence) -> list[str]:
    figures = f" ({_figures(golden.likeness)})" if golden.likeness is not None else ""
    return [
        f"The pixels are not those of the golden {golden.id[:8]}{figures}, "
        "although GPU, driver, versions, dtype and weights are the same."
    ]


def _figures(likeness: Likeness) -> str:
    error = "identical" if likeness.psnr is None else f"PSNR {likeness.psnr:.1f} dB"
    return f"{error}, SSIM {likeness.ssim:.3f}, {likeness.phash_distance} of 64 hash bits differ"
