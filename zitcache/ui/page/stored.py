"""What is stored: sizes before and after, and the pictures side by side."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from zitcache.ui.page.charts import bars
from zitcache.ui.page.parts import badge, escape, legend
from zitcache.ui.text import local_time, size

if TYPE_CHECKING:
    from zitcache.tasks.report import ReportData
    from zitcache.tasks.report.pictures import Picture

_VERDICTS = {"passed": "good", "warned": "warn", "failed": "bad"}


def sizes(data: ReportData) -> str:
    """By kind of weights and by model, and what deduplication and compression do together."""
    if not data.by_dtype:
        return "<p>There is nothing stored yet.</p>"
    total = data.totals
    shared = total.size_bytes / total.unique_bytes if total.unique_bytes else 1.0
    packed = total.unique_bytes / total.stored_bytes if total.stored_bytes else 1.0
    return (
        legend([("before", "in the cache"), ("after", "in the repository")])
        + "<h3>By kind of weights</h3>"
        + bars("dtype", data.by_dtype)
        + "<h3>By model</h3>"
        + bars("model", data.by_model)
        + f'<p id="dedup">All snapshots together describe {size(total.size_bytes)}; '
        f"each piece once is {size(total.unique_bytes)} (deduplication {shared:.1f}&nbsp;×); "
        f"compressed it is {size(total.stored_bytes)} (compression {packed:.2f}&nbsp;×).</p>"
    )


def pictures(data: ReportData) -> str:
    """The golden and the last proof, side by side."""
    shown = [_picture("golden", "Golden", data.golden), _picture("proof", "Last proof", data.proof)]
    if not any(shown):
        return "<p>No picture has been drawn yet: <code>zitcache verify --generate --save-golden</code></p>"
    return f'<div class="pictures">{"".join(shown)}</div>'


def _picture(name: str, title: str, picture: Picture | None) -> str:
    if picture is None:
        return ""
    data = base64.b64encode(picture.png).decode("ascii")
    words = " · ".join(word for word in (picture.model, local_time(picture.time), picture.detail) if word)
    verdict = badge(_VERDICTS.get(picture.verdict, "plain"), picture.verdict) if picture.verdict else ""
    return (
        f'<figure id="{name}"><img alt="{escape(title)}" src="data:image/png;base64,{data}">'
        f"<figcaption><strong>{escape(title)}</strong> {verdict}<br>{escape(words)}</figcaption></figure>"
    )
