"""The report as one HTML page: no network, no script, light and dark, readable on a phone.

``present``: what there is now: figures, models, health · ``past``: snapshots, nights · ``stored``: sizes and
pictures · ``charts``: bars and time lines · ``parts``: small pieces of HTML · ``look``: the style sheet ·
here: the page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zitcache.ui.page.look import STYLE
from zitcache.ui.page.parts import card, escape
from zitcache.ui.page.past import nights, snapshots
from zitcache.ui.page.present import figures, head, health, models
from zitcache.ui.page.stored import pictures, sizes

if TYPE_CHECKING:
    from zitcache.tasks.report import ReportData


def render_page(data: ReportData) -> str:
    """The whole page as text."""
    title = escape(f"Model cache of {data.host}")
    parts = [
        head(data),
        figures(data),
        card("Models", models(data)),
        card("Health", health(data)),
        card("Snapshots", snapshots(data)),
        card("Size before and after", sizes(data)),
        card("Nights", nights(data)),
        card("Proof", pictures(data)),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        # Nothing is loaded from anywhere, and nothing in a file name can run.
        '<meta http-equiv="Content-Security-Policy" content="'
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'\">"
        '<meta name="referrer" content="no-referrer">'
        # Without one, a browser asks the server for it.
        '<link rel="icon" href="data:,">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body><main>"
        + "\n".join(parts)
        + "</main></body></html>\n"
    )
