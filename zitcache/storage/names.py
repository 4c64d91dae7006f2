"""Names of objects: checked before they touch a file system, because they may come from untrusted bytes."""

from __future__ import annotations

import re

from zitcache.errors import IntegrityError

TEMPORARY_PREFIX = ".tmp-"
_SEGMENT = r"[a-z0-9_-][a-z0-9._-]{0,199}"
_NAME = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT}){{0,7}}")
_TEMPORARY = re.compile(re.escape(TEMPORARY_PREFIX) + r"\d{1,10}-[0-9a-f]{16}")


def is_name(text: str) -> bool:
    """Whether ``text`` can name an object: up to 8 segments of ``[a-z0-9._-]``, none starting with a dot."""
    return _NAME.fullmatch(text) is not None


def check_name(name: str) -> str:
    """``name`` itself. Raises :class:`~zitcache.errors.IntegrityError` if it cannot name an object."""
    if not is_name(name):
        raise IntegrityError(f"{name[:100]!r} cannot be the name of an object in a repository.")
    return name


def is_temporary(file_name: str) -> bool:
    """Whether a file (its last segment) is one that an unfinished write left behind."""
    return _TEMPORARY.fullmatch(file_name) is not None
