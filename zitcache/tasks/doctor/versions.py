"""Check: which versions are here, and are they ones that can draw."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator

from zitcache import __version__
from zitcache.tasks.doctor.facts import Facts
from zitcache.tasks.doctor.report import Check, ok, warn
from zitcache.tasks.doctor.wording import named

LEAST = {
    "modelscope": (1, 30),
    "huggingface_hub": (0, 30),
    "diffusers": (0, 36),
    "transformers": (4, 57),
    "torch": (2, 5),
}
"""The SDKs, and from which version on they can draw with Z-Image (as in the extra ``generate``)."""


def check_versions(facts: Facts) -> Iterator[Check]:
    """Read from the packages' metadata; nothing is imported."""
    from importlib.metadata import PackageNotFoundError, version

    present: dict[str, str] = {}
    for package in LEAST:
        with contextlib.suppress(PackageNotFoundError):
            present[package] = version(package)
    told = f"zitcache {__version__}, Python {platform.python_version()}"
    told += "".join(f", {package} {number}" for package, number in present.items())
    absent = [package for package in LEAST if package not in present]
    if absent:
        told += f"; not installed for this Python: {', '.join(absent)}"
    old = [
        f"{package} {number}"
        for package, number in present.items()
        if package != "huggingface_hub" and (parsed := _numbers(number)) and parsed < LEAST[package]
    ]
    if old:
        names = [entry.split()[0] for entry in old]
        yield warn(
            "versions",
            f"{told}. Too old for Z-Image: {named(old)}.",
            fix=f"pip install --upgrade {' '.join(names)}",
        )
        return
    yield ok("versions", f"{told}.")


def _numbers(version: str) -> tuple[int, ...]:
    """``2.11.0+cu128`` as (2, 11, 0); () for what has no number in front."""
    numbers: list[int] = []
    for part in version.split("+")[0].split("."):
        digits = "".join(letter for letter in part if letter.isdecimal())
        if not digits or not part[0].isdecimal():
            break
        numbers.append(int(digits))
    return tuple(numbers)
