"""Which names in a cache are not model data: tokens, locks, unfinished downloads, our own staging.

Sources: ``modelscope_hub/_download.py`` and ``config.py``, ``huggingface_hub/constants.py`` and
``file_download.py``. A name that only resembles one of these is kept: losing a file of a model is worse than
keeping a lock.
"""

from __future__ import annotations

import os
import re
import stat

OWN_PREFIX = ".zitcache-"
"""What zitcache's own staging files and directories inside a cache begin with."""

_TOKEN_FILES = frozenset({"token", "stored_tokens"})
_LOCK_MAX_BYTES = 1024
_PART = re.compile(r"(?P<base>.+)_(?P<start>[0-9]{1,18})_(?P<end>[0-9]{1,18})", re.DOTALL)
_WEIGHT_SUFFIXES = (
    ".safetensors",
    ".bin",
    ".gguf",
    ".pt",
    ".pth",
    ".ckpt",
    ".onnx",
    ".msgpack",
    ".h5",
    ".npz",
)

Exclusion = tuple[str, str]
"""A code of :class:`~zitcache.cache.tree.LeftOut` and the reason as a sentence."""

_OWN: Exclusion = ("own-files", "zitcache made it for its own work.")
_LOCK: Exclusion = ("lock", "It is a lock of a download tool.")
_UNFINISHED: Exclusion = ("unfinished-download", "It is a piece of a download that did not finish.")
_TOKEN: Exclusion = ("token", "It holds credentials; they do not belong in a backup.")


def directory_exclusion(prefix: str, name: str, siblings: frozenset[str]) -> Exclusion | None:
    """Why the directory ``prefix + name`` is left out, or None. ``prefix`` is "" or ends in "/"."""
    if name.startswith(OWN_PREFIX):
        return _OWN
    if name in {".lock", ".locks"}:
        return _LOCK
    if name == "._____temp":
        return _UNFINISHED
    if name == "credentials" and _is_settings_folder(prefix, siblings):
        return _TOKEN
    return None


def file_exclusion(
    prefix: str, name: str, siblings: frozenset[str], status: os.stat_result | None = None
) -> Exclusion | None:
    """Why the file or link ``prefix + name`` is left out, or None.

    ``siblings``: all names in the same directory; ``status``: its ``lstat``, None to judge by the name alone.
    """
    if name.startswith(OWN_PREFIX):
        return _OWN
    if name in _TOKEN_FILES and _is_settings_folder(prefix, siblings):
        return _TOKEN
    if name.endswith((".incomplete", ".parallel_tmp")) or name == "._____temp":
        return _UNFINISHED
    if name.endswith(".lock") and _may_be_lock(status):
        return _LOCK
    if is_download_part(name, siblings, status):
        return _UNFINISHED
    return None


def is_download_part(name: str, siblings: frozenset[str], status: os.stat_result | None = None) -> bool:
    """Whether ``name`` is a ModelScope range download ``<file>_<first byte>_<last byte>``.

    Digits alone do not prove it: the size must fit in the range, and the whole file, its unfinished form,
    another part, or the suffix of a weight file must vouch for the name.
    """
    match = _PART.fullmatch(name)
    if match is None:
        return False
    start, end = int(match["start"]), int(match["end"])
    if start > end or (status is not None and not _fits(status, end - start + 1)):
        return False
    base = match["base"]
    if base.endswith(_WEIGHT_SUFFIXES) or not siblings.isdisjoint(
        {base, base + ".incomplete", base + ".parallel_tmp"}
    ):
        return True
    return any(
        other != name and (part := _PART.fullmatch(other)) is not None and part["base"] == base
        for other in siblings
    )


def _fits(status: os.stat_result, range_bytes: int) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_size <= range_bytes


def _may_be_lock(status: os.stat_result | None) -> bool:
    # `uv.lock` and the like are real files of a repository; lock files are empty or hold a process id.
    return status is None or (stat.S_ISREG(status.st_mode) and status.st_size <= _LOCK_MAX_BYTES)


def _is_settings_folder(prefix: str, siblings: frozenset[str]) -> bool:
    """Whether this is where an SDK keeps its settings: the root, beside ``hub/``, or ``.modelscope/``."""
    return prefix == "" or "hub" in siblings or prefix.rstrip("/").rpartition("/")[2] == ".modelscope"
