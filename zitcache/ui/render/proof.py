"""How a proof is shown, in the reports of several commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zitcache.ui.render.common import short
from zitcache.ui.text import duration, printable

if TYPE_CHECKING:
    from zitcache.tasks.prove import ProofReport
    from zitcache.ui.report import View

_TIERS = {"A": "the picture is alive", "B": "equal to the golden", "C": "like the golden"}


def render_proofs(reports: Sequence[ProofReport], view: View) -> list[str]:
    """Each proof: the verdict and which tier gave it, why, and where the picture is."""
    return [line for report in reports for line in render_proof(report, view)]


def render_proof(report: ProofReport, view: View) -> list[str]:
    """One proof."""
    lines = [_headline(report, view)]
    lines += [f"  {printable(reason)}" for reason in report.reasons]
    if report.image is not None:
        lines.append(f"  Picture: {printable(report.image)}")
    if report.contact_sheet is not None:
        lines.append(f"  Golden, now, difference: {printable(report.contact_sheet)}")
    if report.golden_saved is not None:
        lines.append(f"  Saved as golden {short(report.golden_saved)}: later proofs are compared with it.")
    if report.attestation is not None and view.limit is None:
        lines.append(f"  Attestation: {printable(report.attestation)}")
    return lines


def _headline(report: ProofReport, view: View) -> str:
    style = {
        "passed": view.style.good,
        "warned": view.style.caution,
        "failed": view.style.bad,
        "skipped": view.style.caution,
    }[report.verdict.value]
    text = style(f"Proof {report.verdict.value}")
    if report.tier is not None and report.verdict.value in ("passed", "warned"):
        text += f" (tier {report.tier}, {_TIERS[report.tier]})"
    elif report.tier is not None:
        text += f" (tier {report.tier})"
    facts = []
    if report.size is not None:
        facts.append(f"{report.size} px")
    if report.dtype is not None:
        facts.append(printable(report.dtype))
    if report.device_name is not None:
        facts.append(
            printable(report.device_name)
            + ("" if report.device == "cpu" else f" ({printable(str(report.device))})")
        )
    if report.seconds_load is not None and report.seconds_draw is not None:
        facts.append(f"loaded in {duration(report.seconds_load)}, drawn in {duration(report.seconds_draw)}")
    return text + (f": {', '.join(facts)}." if facts else ":")
