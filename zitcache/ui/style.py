"""Colour, or none: five meanings, and who decides whether they show."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TextIO


class ColorChoice(str, Enum):
    """The values of ``--color``."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


def use_color(choice: ColorChoice, stream: TextIO | None, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether to colour ``stream``. ``auto``: on a terminal, unless NO_COLOR or TERM=dumb says no."""
    if choice is not ColorChoice.AUTO:
        return choice is ColorChoice.ALWAYS
    return is_terminal(stream) and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def is_terminal(stream: TextIO | None) -> bool:
    """Whether ``stream`` is an open terminal; False for a closed or missing one."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Style:
    """Wraps text in ANSI colours when ``color`` is set. Give it text that is already printable."""

    color: bool = False

    def strong(self, text: str) -> str:
        """What the eye should find first."""
        return self._wrap("1", text)

    def good(self, text: str) -> str:
        """It went well."""
        return self._wrap("32", text)

    def bad(self, text: str) -> str:
        """Damage, failure."""
        return self._wrap("1;31", text)

    def caution(self, text: str) -> str:
        """A warning."""
        return self._wrap("33", text)

    def dim(self, text: str) -> str:
        """Detail."""
        return self._wrap("2", text)

    def _wrap(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.color and text else text
