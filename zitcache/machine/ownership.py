"""Whether what lies on a disk may be acted on without asking: who could have put it there.

A disk that was there before this machine may have been written by anybody. What decides about links,
variables and scheduled commands of this machine is obeyed without being named only if it belongs to root or
to the user who runs this, and nobody else may write to it.
"""

from __future__ import annotations

import os
import pwd
import stat


def distrust(path: str | os.PathLike[str]) -> str | None:
    """Why the file or directory ``path`` is not to be relied on; None if it is. Links are not followed.

    Of a directory, the sticky bit makes up for being open to everybody: names in it cannot be replaced.
    """
    try:
        status = os.lstat(path)
    except OSError as error:
        return f"{os.fspath(path)} cannot be looked at: {error.strerror or error}"
    if status.st_uid not in (0, os.geteuid()):
        return f"{os.fspath(path)} belongs to {user_name(status.st_uid)}"
    if stat.S_ISLNK(status.st_mode):
        return None
    if status.st_mode & stat.S_IWOTH and not (stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX):
        return f"everybody may write to {os.fspath(path)}"
    return None


def distrust_any(*paths: str | os.PathLike[str]) -> str | None:
    """The first reason that :func:`distrust` gives for one of ``paths``."""
    return next((reason for reason in map(distrust, paths) if reason is not None), None)


def user_name(uid: int) -> str:
    """``alice``, or ``user 1234`` for one who is not known here."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
