"""Write files from the repository, many workers at once inside each file: below restore and repair.

A piece is taken from where it costs least: it may lie in the destination already (an earlier run was cut
off), or in another local file (the damaged one, most of which is good), else it is read from a pack and
decoded. Whatever its origin, it is used only if its BLAKE3 is its id; and a file counts only if the BLAKE3
of the whole is right, too.

``writing``: a file on its way to the disk, for both ways to get pieces · ``local``: piece by piece in order,
as disks like it · ``remote``: many large ranges at once, in any order, as networks like it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zitcache.events import Session
from zitcache.repository.repository import Repository
from zitcache.tasks.fetching.writing import Fetched, FetchTask


def fetch_files(
    repository: Repository,
    tasks: Iterable[FetchTask],
    session: Session,
    on_durable: Callable[[FetchTask], None] = lambda task: None,
) -> Fetched:
    """Write every file durably, with mode and time; ``on_durable`` is called (in a thread) for each.

    A file whose blobs are damaged or missing comes back in ``failed``, its destination unfinished. Raises
    ``NoSpace``, ``CredentialsError``, ``Interrupted``, …: then finished pieces stay for the next run.
    """
    if repository.storage.is_remote:
        from zitcache.tasks.fetching.remote import RemoteFetch

        return RemoteFetch(repository, session, on_durable).run(tasks)
    from zitcache.tasks.fetching.local import LocalFetch

    return LocalFetch(repository, session, on_durable).run(tasks)


__all__ = ["FetchTask", "Fetched", "fetch_files"]
