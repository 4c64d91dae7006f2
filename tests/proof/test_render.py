"""How proofs and pictures are told."""

from __future__ import annotations

import msgspec
import pytest

from zitcache.proof.verdict import Verdict
from zitcache.tasks.generate import GeneratedImage, GenerateReport
from zitcache.tasks.prove import ProofReport
from zitcache.ui.render.generate import render_generate
from zitcache.ui.render.proof import render_proof
from zitcache.ui.report import View
from zitcache.ui.style import Style

VIEW = View(Style(False))
REPORT = ProofReport(
    verdict=Verdict.PASSED,
    tier="B",
    reasons=["The pixels are those of the golden 3fa4b2c1."],
    model="Tongyi-MAI/Z-Image-Turbo",
    revision="master",
    device="cuda:0",
    device_name="NVIDIA H200",
    dtype="bf16",
    placement="gpu",
    size=1024,
    seconds_load=6.0,
    seconds_draw=1.46,
    image="/data/zitcache-proofs/1/picture.png",
    contact_sheet="/data/zitcache-proofs/1/contact-sheet.png",
    attestation="/data/zitcache-proofs/1/attestation.json",
)
GENERATED = GenerateReport(
    images=[
        GeneratedImage(path=f"/tmp/fox-{n}.png", prompt="a fox\x1b[31m", seed=n, seconds=1.5, size=1024)
        for n in (1, 2)
    ],
    seconds_load=6.0,
    model="Tongyi-MAI/Z-Image-Turbo",
    revision="master",
    device="cuda:0",
    device_name="NVIDIA H200",
    dtype="bf16",
    placement="gpu",
    steps=9,
    guidance=0.0,
    pipeline="x",
    seconds=12.0,
)


def test_a_passed_proof_says_by_which_tier_on_what_and_where_the_picture_is() -> None:
    assert render_proof(REPORT, VIEW) == [
        "Proof passed (tier B, equal to the golden): 1024 px, bf16, NVIDIA H200 (cuda:0), loaded in 6.0 s, "
        "drawn in 1.5 s.",
        "  The pixels are those of the golden 3fa4b2c1.",
        "  Picture: /data/zitcache-proofs/1/picture.png",
        "  Golden, now, difference: /data/zitcache-proofs/1/contact-sheet.png",
    ]


def test_a_verbose_report_names_the_attestation() -> None:
    assert any("attestation.json" in line for line in render_proof(REPORT, View(Style(False), limit=None)))


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_is_said(verdict: Verdict) -> None:
    report = msgspec.structs.replace(REPORT, verdict=verdict)
    assert render_proof(report, VIEW)[0].startswith(f"Proof {verdict.value}")


def test_a_proof_that_drew_nothing_says_why() -> None:
    report = ProofReport(
        verdict=Verdict.SKIPPED, tier=None, reasons=["There is no GPU."], model="a/b", revision="c"
    )
    assert render_proof(report, VIEW) == ["Proof skipped:", "  There is no GPU."]


def test_generate_says_where_each_picture_is_and_how_long_it_took() -> None:
    assert render_generate(GENERATED, VIEW) == [
        "/tmp/fox-1.png",
        "/tmp/fox-2.png",
        "Drew 2 pictures with Tongyi-MAI/Z-Image-Turbo: 1024 px, 9 steps, bf16, on NVIDIA H200 (cuda:0).",
        "Loaded in 6.0 s, drawn in 3.0 s, 1.5 s each.",
    ]


def test_a_prompt_cannot_harm_the_terminal() -> None:
    lines = render_generate(GENERATED, View(Style(False), limit=None))
    assert "seed 1" in lines[0]
    assert all("\x1b" not in line for line in lines)
