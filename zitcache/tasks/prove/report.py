"""What a proof is asked, and what it answers: part of the contract with scripts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from zitcache.proof.settings import DEFAULT_PROMPT, DEFAULT_SEED
from zitcache.proof.verdict import Tier, Verdict

if TYPE_CHECKING:
    from zitcache.cache.inventory import Model
    from zitcache.repository.repository import Repository

DTYPES = ("bf16", "fp32")


@dataclass(frozen=True, slots=True)
class ProofOptions:
    """How to draw and what to keep. None stands for what suits the model and the machine.

    ``model``: which one of the cache, where there are several. ``device``: "auto", "any" (the CPU where there
    is no GPU), "cpu", "cuda" or "cuda:1". ``all_gpus``: prove every GPU of the machine. ``directory``: where
    picture, contact sheet and attestation go; by default a new folder beside the repository.
    """

    model: str | None = None
    device: str = "auto"
    all_gpus: bool = False
    dtype: str | None = None
    size: int | None = None
    steps: int | None = None
    guidance: float | None = None
    prompt: str = DEFAULT_PROMPT
    seed: int = DEFAULT_SEED
    trust: bool = False
    save_golden: bool = False
    directory: Path | None = None


@dataclass(frozen=True, slots=True)
class ProofRequest:
    """``cache``: the root that the paths in ``model`` are relative to. ``repository``: where goldens are."""

    model: Model
    cache: Path
    repository: Repository | None = None
    options: ProofOptions = field(default_factory=ProofOptions)


class ProofReport(msgspec.Struct, kw_only=True):
    """The proof on one device.

    ``verdict``: "passed" | "warned" | "failed" | "skipped". ``tier``: "A" alive, "B" equal to the golden,
    "C" like it; None if nothing was drawn. ``image``, ``contact_sheet``, ``attestation``: absolute paths.
    ``golden``: id of what it was compared with; ``psnr`` (dB; None also for identical pixels, see
    ``identical``), ``ssim`` and ``phash_distance`` (of 64) to it. ``golden_saved``: id of the new golden.
    ``seconds_load``: without the time spent waiting for files that were still being verified.
    """

    verdict: Verdict
    tier: Tier | None
    reasons: list[str]
    model: str
    revision: str
    device: str | None = None
    device_name: str | None = None
    dtype: str | None = None
    placement: str | None = None
    size: int | None = None
    seconds_load: float | None = None
    seconds_draw: float | None = None
    image: str | None = None
    golden: str | None = None
    identical: bool | None = None
    psnr: float | None = None
    ssim: float | None = None
    phash_distance: int | None = None
    contact_sheet: str | None = None
    attestation: str | None = None
    golden_saved: str | None = None
    weights: str | None = None


_ORDER = (Verdict.FAILED, Verdict.WARNED, Verdict.PASSED, Verdict.SKIPPED)


def worst(reports: list[ProofReport]) -> ProofReport:
    """The one that decides for all: a failed one before any other."""
    return min(reports, key=lambda report: _ORDER.index(report.verdict))
