"""The shell blocks of the how-to pages, in order, with the heading that each stands under."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PAGES = Path(__file__).parents[2] / "docs/how-to"
NOTES = {
    "",
    "not run here: network",
    "not run here: docker",
    "not run here: kubectl",
    "not run here: systemd",
    "not run here: a serverless worker",
    "run as docker",
}
"""What may stand above a block."""

_PIECE = re.compile(
    r"^(?P<heading>#+ [^\n]*)$|^(?:<!-- (?P<note>[^\n]*) -->\n)?```sh\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """``note``: the HTML comment right above it: why it is not run here, or how it is."""

    heading: str
    code: str
    note: str

    @property
    def lines(self) -> list[str]:
        """Its commands without comments, one a line."""
        found = (re.sub(r"\s+#\s.*$", "", line).strip() for line in self.code.splitlines())
        return [line for line in found if line and not line.startswith("#")]


def blocks(page: str) -> list[Block]:
    """All blocks that are marked as ``sh``."""
    found, heading = [], ""
    for piece in _PIECE.finditer((PAGES / page).read_text()):
        if piece["heading"]:
            heading = piece["heading"].lstrip("# ")
        else:
            found.append(Block(heading, piece["code"], piece["note"] or ""))
    return found


def code_under(page: str, *headings: str) -> str:
    """What is to be run of the blocks under ``headings``, as one script."""
    chosen = [block for block in blocks(page) if block.heading in headings and not block.note]
    assert {block.heading for block in chosen} == set(headings), (
        f"{page} has no such heading, or no block there"
    )
    return "".join(block.code for block in chosen)
