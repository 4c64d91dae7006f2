"""Renames that plain ``rename(2)`` does not offer: swap two names, and never replace one.

Source: ``renameat2(2)``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from zitcache.machine import libc

_UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL, errno.EACCES}


def exchange(a: str | os.PathLike[str], b: str | os.PathLike[str]) -> bool:
    """Swap the names ``a`` and ``b`` (files or directories) in one step; neither is ever missing.

    False, and nothing changed, where the file system cannot. Raises ``OSError`` otherwise.
    """
    number = libc.renameat2(a, b, libc.RENAME_EXCHANGE)
    if number in _UNSUPPORTED:
        return False
    if number:
        raise OSError(number, os.strerror(number), os.fspath(a), None, os.fspath(b))
    return True


def rename_noreplace(a: str | os.PathLike[str], b: str | os.PathLike[str]) -> None:
    """Rename ``a`` to ``b``, which must not exist: else raises ``FileExistsError`` and changes nothing.

    Where ``RENAME_NOREPLACE`` is missing: a directory is renamed over one made by ``mkdir``; a file is hard
    linked; without hard links it is renamed over an empty file made with ``O_EXCL``. In these last cases, a
    kill in between leaves an empty ``b``, and a reader may meet it for a moment.
    """
    number = libc.renameat2(a, b, libc.RENAME_NOREPLACE)
    if number in _UNSUPPORTED:
        _rename_noreplace_in_steps(Path(a), Path(b))
    elif number:
        raise OSError(number, os.strerror(number), os.fspath(a), None, os.fspath(b))


def _rename_noreplace_in_steps(a: Path, b: Path) -> None:
    if stat.S_ISDIR(os.lstat(a).st_mode):
        b.mkdir()
        _rename_over_placeholder(a, b, b.rmdir)
        return
    try:
        os.link(a, b, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
    else:
        # A second name that cannot be removed is a leftover, not a failure: ``b`` is complete.
        with contextlib.suppress(OSError):
            a.unlink()
        return
    os.close(os.open(b, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    _rename_over_placeholder(a, b, b.unlink)


def _rename_over_placeholder(a: Path, placeholder: Path, remove: Callable[[], None]) -> None:
    try:
        a.rename(placeholder)
    except OSError:
        with contextlib.suppress(OSError):
            remove()
        raise
