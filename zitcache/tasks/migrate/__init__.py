"""``migrate``: move the cache to a data disk, so that nothing else changes for its user; and back.

``report``: request, plan, result · ``places``: from where to where, and what lies there · ``preflight``:
every reason not to begin · ``choosing``: rename, reflink or copy · ``listing``: everything in a cache ·
``journal``: what is done so far · ``copying``, ``parts``, ``destination``: the bytes, written and read back ·
``structure``, ``metadata``: all else · ``survey``: what is there already · ``transfer``: these together ·
``switch``: the old path becomes a link · ``latecomers``, ``removal``: what is left at the old place ·
``sweeping``: what killed runs left · ``others``: environment and kit · ``planning``, ``there``, ``after``,
``finished``, ``undo``: their order · ``steps``, ``names``: how all that is called.
"""

from __future__ import annotations

from zitcache.errors import UsageError
from zitcache.events import Outcome, Session
from zitcache.tasks.migrate.finished import attend
from zitcache.tasks.migrate.places import State, choose_ends, migrated_ends
from zitcache.tasks.migrate.report import Confirm, MigratePlan, MigrateReport, MigrateRequest, Step
from zitcache.tasks.migrate.there import run_migration
from zitcache.tasks.migrate.undo import run_undo


def migrate(
    request: MigrateRequest, session: Session, confirm: Confirm | None = None
) -> Outcome[MigrateReport]:
    """Move the cache to ``request.target``, go on with an interrupted migration, or undo one.

    ``confirm``: asked with the plan before anything changes; False raises ``Interrupted``. Exit codes: 0; 3
    when something stays behind (links out of the cache, special files, an old copy with newer files). Raises
    ``UsageError``, ``NoSpace``, ``Locked``, ``CredentialsError``, ``Unreachable``, ``IntegrityError``: the
    old path then still shows the whole cache, and the same call goes on where this one stopped.
    """
    if request.undo:
        return run_undo(migrated_ends(request.target, request.cache, session), request, session, confirm)
    if request.target is None:
        raise UsageError(
            "The destination is missing.", hint="Name it: zitcache migrate /path/on/the/data/disk/model_cache"
        )
    ends = choose_ends(request.target, request.cache, session)
    if ends.state is State.FINISHED:
        return attend(ends, request, session)
    return run_migration(ends, request, session, confirm)


__all__ = ["Confirm", "MigratePlan", "MigrateReport", "MigrateRequest", "Step", "migrate"]
