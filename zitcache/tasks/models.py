"""``models``: what lies in the cache."""

from __future__ import annotations

import os

import msgspec

from zitcache.cache.inventory import Model, inventory
from zitcache.events import Outcome, Session
from zitcache.tasks.locations import live_cache


class ModelSummary(msgspec.Struct, kw_only=True):
    """One model at one revision. ``path``: absolute. ``dtypes``: bytes per safetensors dtype.

    ``problems``: sentences; a model can be complete and have some, like being shadowed by another copy.
    """

    id: str
    revision: str
    layout: str
    path: str
    files: int
    size_bytes: int
    dtypes: dict[str, int]
    complete: bool
    problems: list[str]


class ModelsReport(msgspec.Struct, kw_only=True):
    """All models of the cache. In JSON, ``data`` is the list ``models`` itself."""

    cache: str
    models: list[ModelSummary]


def models(cache: str | None, session: Session) -> Outcome[ModelsReport]:
    """List the models of the cache. Reads names, sizes and headers only.

    The exit code is 0 also for a cache with incomplete models: it says what is there, and warns of each;
    ``verify`` judges. Raises ``CacheNotFound`` if there is no cache or no model in it.
    """
    root = live_cache(cache, session)
    session.progress.stage("Looking at the cache")
    found = [_summary(root, model) for model in inventory(root).models]
    for model in found:
        if not model.complete:
            reason = model.problems[0] if model.problems else "files are missing."
            session.warn("model-incomplete", f"{model.id} is not complete: {reason}", "zitcache verify")
    return Outcome(data=ModelsReport(cache=str(root), models=found), warnings=session.warnings)


def _summary(root: str | os.PathLike[str], model: Model) -> ModelSummary:
    return ModelSummary(
        id=model.id,
        revision=model.revision,
        layout=model.layout.value,
        path=os.path.join(root, model.path),
        files=len(model.files),
        size_bytes=model.size_bytes,
        dtypes=dict(model.dtypes),
        complete=model.complete,
        problems=[str(problem) for problem in model.problems],
    )
