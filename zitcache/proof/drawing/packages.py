"""Are the packages that draw installed, and new enough? Told without importing them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from zitcache.proof.errors import INSTALL, UPGRADE, PackagesMissing

MINIMUM: dict[str, tuple[int, int]] = {
    "torch": (2, 5),
    "diffusers": (0, 36),
    "transformers": (4, 57),
    "pillow": (10, 0),
}
"""As in the extra ``generate``. diffusers 0.36 is the first with ``ZImagePipeline``."""

OPTIONAL = ("modelscope", "accelerate")
_MODULES = {"pillow": "PIL"}


def installed_packages() -> dict[str, str]:
    """The versions of all packages that draw. Raises ``PackagesMissing`` naming those that are not usable."""
    found: dict[str, str] = {}
    missing: list[str] = []
    outdated: list[str] = []
    for name, minimum in MINIMUM.items():
        present = _version(name)
        if present is None:
            missing.append(name)
        elif parse_version(present) < minimum:
            outdated.append(f"{name} {present} (needed: {minimum[0]}.{minimum[1]} or later)")
        else:
            found[name] = present
    if missing:
        raise PackagesMissing(
            f"Drawing needs {_listed(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed.",
            hint=f"Install what is missing: {INSTALL}",
        )
    if outdated:
        raise PackagesMissing(f"Too old to draw: {_listed(outdated)}.", hint=f"Upgrade: {UPGRADE}")
    optional = {name: present for name in OPTIONAL if (present := _version(name)) is not None}
    return found | optional


def parse_version(text: str) -> tuple[int, int]:
    """Major and minor number of a version ("2.11.0+cu128"); 0 for what is no number."""
    numbers = [int(part) if part.isdigit() else 0 for part in text.split(".")[:2]]
    return (numbers[0], numbers[1] if len(numbers) > 1 else 0)


def _version(name: str) -> str | None:
    try:
        if find_spec(_MODULES.get(name, name)) is None:
            return None
        return version(name)
    except (PackageNotFoundError, ImportError, ValueError):
        return None


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
