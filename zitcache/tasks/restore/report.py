"""What a restore is asked for and what it tells."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from zitcache.tasks.restore.relink import LinkReport


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """``snapshot``: "latest" (the newest good one) or an id prefix. ``to``: another place than it came from.

    With nothing named at all (``snapshot`` None too), the machine is brought back as it was: a migrated cache
    is linked again, else the newest good snapshot of all disks is restored; then variables and schedule.
    ``place``: a migrated cache, a repository, a kit, or a directory holding them, to look at first.
    ``cache``: with "latest", the newest good snapshot of that cache. ``only``: shell patterns on paths
    relative to the cache root (or on names, if they hold no slash), any of which selects a file.
    """

    repository: str | None = None
    snapshot: str | None = None
    to: str | None = None
    cache: str | None = None
    only: tuple[str, ...] = ()
    dry_run: bool = False
    place: str | None = None
    relink: bool = True
    environment: bool = True
    schedule: bool = True

    @property
    def names_something(self) -> bool:
        """Whether a snapshot, or a part or a place for one, was asked for."""
        named = (self.snapshot, self.to, self.cache)
        return bool(self.repository or self.only) or any(value is not None for value in named)


class Candidate(msgspec.Struct, kw_only=True):
    """Something that could be brought back. ``kind``: "cache" (migrated) or "snapshot".

    ``place``: the migrated cache, or the repository; ``id``: of the snapshot. ``cache``: where programs look
    for it. ``time``: of the migration or the snapshot. ``problem``: why it was not, or not wholly, good.
    """

    kind: str
    place: str
    cache: str
    host: str
    time: str
    good: bool
    chosen: bool = False
    id: str | None = None
    problem: str | None = None


class RestoreReport(msgspec.Struct, kw_only=True):
    """``action``: "restored" | "relinked" | "nothing to do". ``files``: brought back.

    ``files_kept``: were good already. ``failed``: paths that the damaged repository could not give back.
    ``seconds_to_first_byte``: from the start until the first piece was in its file, None if none was written;
    ``bytes_from_repository``: what was read of packs for all pieces.
    Of a machine that was brought back as a whole: ``links``, ``variables`` and the files they were written to
    (``environment_files``), ``config``, ``launcher`` (the command ``zitcache`` that runs the kit) and
    ``schedule`` say what else was put back; ``candidates`` what there was to choose from.
    """

    action: str
    snapshot_id: str
    repository: str
    target: str
    files: int
    files_kept: int
    bytes_written: int
    seconds: float
    failed: list[str]
    dry_run: bool = False
    seconds_to_first_byte: float | None = None
    bytes_from_repository: int = 0
    links: list[LinkReport] = []
    variables: dict[str, str] = {}
    environment_files: list[str] = []
    config: str | None = None
    launcher: str | None = None
    schedule: list[str] = []
    candidates: list[Candidate] = []
    models: list[str] = []
