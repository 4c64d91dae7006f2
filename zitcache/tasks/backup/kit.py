"""The kit in the repository, with what makes programs find this cache."""

from __future__ import annotations

import os
from pathlib import Path

from zitcache.events import Session
from zitcache.storage.protocol import Storage
from zitcache.tasks.kit import keep_kit
from zitcache.tasks.kit.layout import KIT_FOLDER


def keep_kit_of(storage: Storage, cache: Path, session: Session) -> str:
    """Keep the kit of the repository, on its disk or in its bucket; the action of its report.

    The variables are those that programs need to find the cache, also when this runs from cron, which has
    hardly any itself.
    """
    if storage.is_remote:
        from zitcache.tasks.kit.bucket import keep_bucket_kit

        return keep_bucket_kit(storage, session)
    from zitcache.cache.variables import variables_for
    from zitcache.tasks.environment import installed

    repository = storage.location
    environment = variables_for(cache, {**installed(), **os.environ})
    report = keep_kit(
        Path(repository) / KIT_FOLDER,
        session,
        environment=environment,
        repository=os.path.abspath(repository),
        cache=str(cache),
    )
    return report.action
