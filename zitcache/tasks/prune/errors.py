"""Why a prune refuses to begin."""

from __future__ import annotations

from zitcache.errors import Exit, IntegrityError


class PruneRefused(IntegrityError):
    """Not everything that snapshots need is known, so nothing may be deleted."""

    exit_code = Exit.DAMAGE
    code = "prune-refused"
    default_hint = "Mend the repository first: zitcache repair"
