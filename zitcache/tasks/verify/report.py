"""What ``verify`` is asked, and what it answers: the contract with scripts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from zitcache.tasks.prove.report import ProofOptions, ProofReport


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """``path``: a cache, or a folder or file in it; None to find it.

    ``against``: a fingerprint file or SHA256SUMS. ``snapshot``: "latest" (the newest good one of this cache)
    or an id. ``repair`` with ``dry_run``: only say what would be repaired. ``proof``: draw as well, how.
    """

    path: str | None = None
    repository: str | None = None
    snapshot: str = "latest"
    against: Path | None = None
    quick: bool = False
    repair: bool = False
    dry_run: bool = False
    proof: ProofOptions | None = None


class DamagedFile(msgspec.Struct, kw_only=True):
    """A file that is not what it should be.

    ``path``: of the file with the bytes (in a Hugging Face cache the blob), relative to the cache; ``names``:
    the model files that show these bytes, if they are other names. ``kind``: "truncated" | "zero-filled" |
    "lfs-pointer" | "html-page" | "bit-flips" | "extended" | "differs" | "unreadable". ``ranges``: at most 64
    byte ranges [start, end) that differ, as far as can be told. ``repairable``: a snapshot has it whole.
    """

    path: str
    kind: str
    ranges: list[tuple[int, int]]
    message: str
    repaired: bool = False
    names: list[str] = []
    repairable: bool = False


class VerifyReport(msgspec.Struct, kw_only=True):
    """``sources``: what was compared with ("snapshot 3fa4…", "names in the Hugging Face cache", …).

    Paths are relative to ``cache``. ``missing``: still missing in the end; ``restored``: were missing and are
    back. ``extra``: in the cache but in no list that was compared with. ``unverified``: no source knows the
    content, or it could not be read in peace. ``changed``: the tools' own notes (a branch pointer, say) that
    were written anew since the snapshot, which is no damage. ``would_repair``: with ``dry_run``.
    ``repaired``: how many files and links were put right, missing ones included. ``proof``: that of
    ``--generate``, of several GPUs the worst; ``proofs``: all of them.
    """

    path: str
    cache: str
    sources: list[str]
    files_checked: int
    bytes_read: int
    seconds: float
    damaged: list[DamagedFile]
    missing: list[str]
    extra: list[str]
    unverified: list[str]
    repaired: int
    quick: bool
    restored: list[str] = []
    changed: list[str] = []
    would_repair: list[str] = []
    snapshot_id: str | None = None
    dry_run: bool = False
    proof: ProofReport | None = None
    proofs: list[ProofReport] = []
