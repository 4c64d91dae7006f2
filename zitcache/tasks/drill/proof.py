"""The last step of a drill: the restored weights draw, and draw what they drew before."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

from zitcache.cache.inventory import Model, inventory
from zitcache.errors import NotFound
from zitcache.events import Session
from zitcache.proof.drawing.packages import installed_packages
from zitcache.proof.errors import PackagesMissing
from zitcache.proof.settings import DEFAULT_PROMPT
from zitcache.proof.verdict import Verdict
from zitcache.repository.repository import Repository
from zitcache.tasks.prove import ProofOptions, ProofReport, ProofRequest, prove, worst
from zitcache.tasks.prove.choosing import choose_model

SAMPLE_PROMPT = "a red circle on a blue background"
SAMPLE_SIZE = 128
"""Pixels. What the sample was trained for; it is small enough to draw on a CPU."""


def options_for_sample(options: ProofOptions) -> ProofOptions:
    """``options`` with what suits the sample where nothing else was asked for."""
    return replace(
        options,
        device="any" if options.device == "auto" else options.device,
        size=options.size or SAMPLE_SIZE,
        prompt=SAMPLE_PROMPT if options.prompt == DEFAULT_PROMPT else options.prompt,
    )


def can_draw() -> bool:
    """Whether the packages that draw are installed."""
    try:
        installed_packages()
    except PackagesMissing:
        return False
    return True


def prove_restored(
    cache: Path, repository: Repository, options: ProofOptions, session: Session, *, passing: bool
) -> tuple[ProofReport | None, str]:
    """Draw with what lies in ``cache``; the report (None where no model can draw), and a remark.

    ``passing``: the repository is going to be removed, so the picture goes to the temporary folder. Without
    the packages that draw, the proof is skipped: a drill has to work on a bare machine.
    """
    try:
        model = choose_model(inventory(cache).models, options.model, session)
    except NotFound:
        return None, "skipped: no model in the cache can draw"
    if passing and options.directory is None:
        stamp = time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime())
        options = replace(options, directory=Path(tempfile.gettempdir(), f"zitcache-drill-proof-{stamp}"))
    try:
        report = worst(prove(ProofRequest(model, cache, repository, options), session, vouched=True))
    except PackagesMissing as error:
        session.warn("proof-skipped", f"Nothing was drawn: {error.message}", error.hint)
        return _skipped(model, error), f"skipped: {error.message}"
    return report, _remark(report)


def _remark(report: ProofReport) -> str:
    if report.image is None:
        return f"{report.verdict.value}: {report.reasons[0]}"
    tier = {"A": "alive", "B": "equal to the golden", "C": "like the golden"}[report.tier or "A"]
    said = f"{report.verdict.value}, {tier}" if report.verdict is not Verdict.FAILED else report.reasons[0]
    return f"{said}: {report.image}"


def _skipped(model: Model, error: PackagesMissing) -> ProofReport:
    return ProofReport(
        verdict=Verdict.SKIPPED,
        tier=None,
        reasons=[error.message],
        model=model.id,
        revision=model.revision,
    )
