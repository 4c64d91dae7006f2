"""What the endpoint of a remote repository can do, found out once by ``init`` and kept in the repository."""

from __future__ import annotations

import msgspec

from zitcache.storage.protocol import Storage

IF_NONE_MATCH = "if-none-match"
FORBID_OVERWRITE = "forbid-overwrite"
NONE = "none"
CRC32 = "crc32"
MD5 = "md5"


class StorageTraits(msgspec.Struct, frozen=True, kw_only=True):
    """The field ``storage`` of a repository's config; see ``docs/FORMAT.md``.

    All are texts, so that a value added later is not damage; one that is not known counts as "none".
    ``conditional_put``: how an object is written only where there is none. ``checksum``: the digest that the
    endpoint compares with what it received. ``listing``: "immediate", or "late" when new objects show up only
    after a while. ``deletes``: "allowed", or "refused" for the keys that made the repository.
    """

    kind: str = "s3"
    conditional_put: str = IF_NONE_MATCH
    checksum: str = NONE
    listing: str = "immediate"
    deletes: str = "allowed"


def adapt_storage(storage: Storage, traits: StorageTraits | None) -> None:
    """Tell the storage what its repository's config says about the endpoint; nothing for a local one."""
    if traits is None:
        return
    adapt = getattr(innermost(storage), "adapt", None)
    if adapt is not None:
        adapt(traits)


def innermost(storage: Storage) -> Storage:
    """The storage that holds the bytes, without what is wrapped round it."""
    while (inner := getattr(storage, "inner", None)) is not None:
        storage = inner
    return storage
