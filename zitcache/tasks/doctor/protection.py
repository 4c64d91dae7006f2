"""Would the models come back after a reset? What the checks and the headline both go by."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from zitcache.tasks.doctor.cache_facts import CacheFacts
from zitcache.tasks.doctor.repository_facts import RepositoryFacts
from zitcache.tasks.overview import ModelState, model_states


@dataclass(frozen=True, slots=True)
class Protection:
    """``unprotected``: complete models of the cache that no good snapshot holds. ``known``: False where the
    repository could not be asked. ``reachable``: the snapshots themselves outlive a reset."""

    unprotected: tuple[str, ...]
    protected: tuple[str, ...]
    known: bool
    reachable: bool

    @property
    def is_complete(self) -> bool:
        """Whether every model comes back after a reset, for certain."""
        return self.known and self.reachable and bool(self.protected) and not self.unprotected


def protection(cache: CacheFacts, repository: RepositoryFacts | None) -> Protection:
    """Compare what is there with what is in good snapshots. ``repository`` None: it could not be asked."""
    live = [f"{model.id}@{model.revision}" for model in cache.stock.models] if cache.stock else []
    if repository is None or not repository.is_usable:
        known = repository is not None and repository.location is None and repository.problem is None
        return Protection(tuple(live), (), known, False)
    states = model_states(repository.snapshots, cache.stock, time.time())
    held = [state for state in states if state.snapshot_id is not None and state.in_cache != "absent"]
    bare = [state for state in states if state.snapshot_id is None]
    survival = repository.survival
    return Protection(
        _names(bare), _names(held), True, reachable=survival is not None and survival.verdict != "lost"
    )


def _names(states: Sequence[ModelState]) -> tuple[str, ...]:
    return tuple(f"{state.id}@{state.revision}" for state in states)
