"""From what the user calls a repository's place to the storage there."""

from __future__ import annotations

import os
from pathlib import Path

from zitcache.errors import UsageError
from zitcache.storage.local import LocalStorage
from zitcache.storage.protocol import Storage


def open_storage(location: str) -> Storage:
    """The storage at ``location``: a path, a ``file://`` URL or ``s3://bucket/prefix``.

    Nothing is read or written yet. Raises ``UsageError`` for anything else.
    """
    scheme, separator, rest = location.partition("://")
    if not separator:
        if not location:
            raise UsageError("The place of the repository is empty.")
        return LocalStorage(Path(location).expanduser())
    scheme = scheme.lower()
    if scheme == "file":
        from urllib.parse import unquote

        host, slash, path = rest.partition("/")
        if host not in {"", "localhost"} or not slash:
            raise UsageError(f"{location} does not name a directory here: file:///absolute/path does.")
        return LocalStorage(os.fsdecode(unquote("/" + path, errors="surrogateescape")))
    if scheme == "s3":
        from zitcache.storage.s3.location import parse_location
        from zitcache.storage.s3.storage import S3Storage

        return S3Storage(parse_location(location))
    # What is behind it is not repeated: it may hold keys that belong elsewhere.
    raise UsageError(
        f"{scheme[:20]}:// is no kind of storage that zitcache knows.",
        hint="A folder, or s3://bucket/prefix; of a server that is not AWS: --endpoint-url https://HOST",
    )
