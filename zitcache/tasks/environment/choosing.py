"""Which cache ``env`` is about: the one named, the one in use, or the one that holds a model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from zitcache.cache.environment import candidate_roots, locate_cache
from zitcache.cache.inventory import Model, inventory
from zitcache.cache.layouts import find_models
from zitcache.cache.variables import home_of
from zitcache.errors import CacheNotFound, UsageError
from zitcache.events import Session
from zitcache.tasks.settings import resolve_cache, warn_ignored

MODEL_PATH_VARIABLE = "ZITCACHE_MODEL_PATH"
"""The folder to give to ``from_pretrained``; only printed, never written to files."""


def chosen_cache(cache: str | None, session: Session) -> Path:
    """The cache named, else the one in use. A named one may be empty. Raises ``CacheNotFound``."""
    # As ``tasks.locations`` does, without what finding repositories imports.
    setting = resolve_cache(cache)
    warn_ignored(setting, session)
    located = locate_cache(setting.value, dict(os.environ), Path.home(), Path.cwd())
    for notice in located.warnings:
        session.warn(notice.code, notice.message, notice.hint)
    return located.path


def cache_with_model(name: str, cache: str | None, session: Session) -> tuple[Path, Model]:
    """The cache, and the copy of the model in it, to use for ``owner/name`` or ``owner/name@revision``.

    A complete copy is preferred to one that is not, then the place that the SDKs use now. Raises
    ``CacheNotFound`` when no cache has it and ``UsageError`` for what is no name.
    """
    wanted, _, revision = name.partition("@")
    if wanted.count("/") != 1 or not all(wanted.split("/")):
        raise UsageError(f"{name!r} is no model.", hint="Write it as owner/name: Tongyi-MAI/Z-Image-Turbo")
    session.progress.stage("Looking for the model")
    roots = [chosen_cache(cache, session)] if cache is not None else list(_places(session))
    copies = [(root, model) for root in roots for model in _copies(root, wanted, revision)]
    if not copies:
        looked = ", ".join(map(str, roots)) or "no cache"
        raise CacheNotFound(
            f"No cache holds {name}. Looked in: {looked}.", hint="See what there is: zitcache models"
        )
    root, model = next((copy for copy in copies if copy[1].complete), copies[0])
    if not model.complete:
        reason = str(model.problems[0]) if model.problems else "files are missing."
        session.warn("model-incomplete", f"{model.id} in {root} is not complete: {reason}", "zitcache verify")
    return root, model


def _places(session: Session) -> Iterator[Path]:
    """The caches that can be found, each once, the one in use first."""
    seen: set[str] = set()
    setting = resolve_cache(None)
    named = [] if setting.value is None else [Path(setting.value)]
    candidates = candidate_roots(os.environ, home_of(os.environ), Path.cwd())
    for place in (*named, *(root.path for root in candidates)):
        real = os.path.realpath(place)
        if real in seen or not os.path.isdir(real):
            continue
        seen.add(real)
        session.cancel.check()
        if find_models(Path(real)):
            yield Path(real)


def _copies(root: Path, wanted: str, revision: str) -> list[Model]:
    """All copies of a model in one cache, those that an SDK loads by name and by default first."""
    found = [
        model
        for model in inventory(root).models
        if model.id.lower() == wanted.lower()
        and (not revision or revision in {model.revision, *model.location.refs})
    ]

    def rank(model: Model) -> tuple[bool, bool]:
        shadowed = any(problem.code == "shadowed" for problem in model.problems)
        usual = model.revision == "master" or "main" in model.location.refs
        return shadowed, not usual

    return sorted(found, key=rank)
