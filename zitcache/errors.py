"""Every way zitcache can fail on purpose: what happened, the exit code, and the next step.

A class's docstring is its default message. ``hint`` is the exact next command or action. The codes in
:class:`Exit` are a contract with scripts: they are documented in the README and tested one by one.
"""

from __future__ import annotations

import errno
import os
from enum import IntEnum


class Exit(IntEnum):
    """Process exit codes. 130 and 143 follow the shell's convention for SIGINT and SIGTERM."""

    OK = 0
    DAMAGE = 1
    USAGE = 2
    PARTIAL = 3
    CREDENTIALS = 4
    NO_SPACE = 5
    NOT_FOUND = 6
    LOCKED = 7
    PROOF_FAILED = 9
    TAMPERED = 10
    UNREACHABLE = 11
    BUG = 70
    INTERRUPTED = 130
    TERMINATED = 143


class ZitcacheError(Exception):
    """zitcache could not finish."""

    exit_code: Exit = Exit.BUG
    code: str = "error"
    default_hint: str | None = None

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.hint = hint if hint is not None else self.default_hint
        super().__init__(self.message)


class UsageError(ZitcacheError):
    """This combination of arguments or settings makes no sense."""

    exit_code = Exit.USAGE
    code = "usage"


class UnsupportedFormat(ZitcacheError):
    """This repository was written by a newer zitcache."""

    exit_code = Exit.USAGE
    code = "unsupported-format"
    default_hint = "Upgrade with: pip install --upgrade zitcache"


class CredentialsError(ZitcacheError):
    """Permission was denied."""

    exit_code = Exit.CREDENTIALS
    code = "credentials"


class NoSpace(ZitcacheError):
    """There is no space left (bytes, inodes or quota)."""

    exit_code = Exit.NO_SPACE
    code = "no-space"
    default_hint = "Free some space (check `df -h` and `df -i`), then run the same command again: it resumes."


class NotFound(ZitcacheError):
    """Nothing was found there."""

    exit_code = Exit.NOT_FOUND
    code = "not-found"


class CacheNotFound(NotFound):
    """No model cache was found."""

    code = "cache-not-found"
    default_hint = "Name it: zitcache models --cache /path/to/the/cache"


class RepositoryNotFound(NotFound):
    """No repository was found."""

    code = "repository-not-found"
    default_hint = "Create one on a data disk: zitcache init /path/on/the/data/disk"


class SnapshotNotFound(NotFound):
    """No such snapshot."""

    code = "snapshot-not-found"
    default_hint = "List them with: zitcache snapshots"


class ObjectNotFound(NotFound):
    """An object is missing from the repository."""

    code = "object-not-found"
    default_hint = "See what else is affected with: zitcache check"


class Locked(ZitcacheError):
    """Another zitcache holds the lock."""

    exit_code = Exit.LOCKED
    code = "locked"


class IntegrityError(ZitcacheError):
    """The repository holds bytes that are not what their name says."""

    exit_code = Exit.TAMPERED
    code = "integrity"
    default_hint = "See what is affected with: zitcache check --read-data"


class BlobDamaged(IntegrityError):
    """A blob in the repository is damaged."""

    exit_code = Exit.DAMAGE
    code = "blob-damaged"


class ObjectTruncated(IntegrityError):
    """An object in the repository is shorter than it must be."""

    exit_code = Exit.DAMAGE
    code = "object-truncated"


class Unreachable(ZitcacheError):
    """The storage cannot be reached."""

    exit_code = Exit.UNREACHABLE
    code = "unreachable"
    default_hint = "Try again; what was done so far is kept."


class Interrupted(ZitcacheError):
    """Interrupted. What was finished is kept; run the same command to go on."""

    exit_code = Exit.INTERRUPTED
    code = "interrupted"


_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_AWAY = {errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENXIO, errno.ENODEV}


def from_os_error(error: OSError, doing: str) -> ZitcacheError:
    """Translate an ``OSError`` met while ``doing`` something ("writing /data/x") into ours.

    ENOSPC/EDQUOT/EFBIG become :class:`NoSpace`, EACCES/EPERM/EROFS :class:`CredentialsError`, ENOENT
    :class:`NotFound`, I/O and network errors :class:`Unreachable`; the rest :class:`UsageError`.
    """
    reason = f"{error.strerror or error} while {doing}"
    number = error.errno
    if number in _NO_SPACE:
        return NoSpace(f"No space left: {reason}.")
    if number in _DENIED:
        return CredentialsError(
            f"Not allowed: {reason}.",
            # In a container the name of the user says nothing, and sudo is not there: the id is what helps.
            hint=f"Check the owner and the mount options (this runs as uid {os.geteuid()}), or use sudo.",
        )
    if number == errno.ENOENT:
        return NotFound(f"Not found: {reason}.")
    if number in _AWAY:
        return Unreachable(f"The disk did not answer: {reason}.")
    return UsageError(f"The system refused: {reason}.")
