"""Checks: are the models whole, do layouts shadow each other, what have broken downloads left."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from zitcache.cache.inventory import Model, Problem
from zitcache.events import Cancel
from zitcache.tasks.clean.cache_leftovers import cache_leftovers
from zitcache.tasks.clean.report import Kind
from zitcache.tasks.doctor.facts import Facts
from zitcache.tasks.doctor.report import Check, fail, ok, skip, warn
from zitcache.tasks.doctor.wording import named, size

_SHADOWING = frozenset({"shadowed", "shadows"})


def check_complete(facts: Facts) -> Iterator[Check]:
    """Shards missing, truncated, or something else in their place."""
    models = _models(facts)
    if not models:
        yield skip("models-complete", "There is no model.")
        return
    broken = [model for model in models if not model.complete]
    if not broken:
        yield ok(
            "models-complete", f"Complete by names, sizes and headers: {named([_name(m) for m in models])}."
        )
        return
    told = [f"{_name(model)}: {_first(model)}" for model in broken]
    repository = None
    try:
        repository = facts.repository()
    except Exception:
        repository = None  # its own checks tell why
    if repository is not None and repository.is_usable and repository.newest is not None:
        fix = facts.command("verify", "--repair", cache=True, repository=True)
    else:
        fix = facts.command("verify", cache=True)
    yield fail("models-complete", f"Not complete: {'; '.join(told)}", fix=fix)


def _first(model: Model) -> str:
    wrong = [problem for problem in model.problems if problem.makes_incomplete]
    return str(wrong[0]) if wrong else "files are missing."


def check_shadowing(facts: Facts) -> Iterator[Check]:
    """A half-filled legacy folder beats a complete snapshot: the SDK takes the stub."""
    models = _models(facts)
    found = [(model, problem) for model in models for problem in model.problems if problem.code in _SHADOWING]
    if not found:
        yield ok("layouts-shadowing", "No layout hides a model of another one.")
        return
    told = [f"{_name(model)}: {_text(problem)}" for model, problem in found]
    fix = facts.command("clean", "--kind", "shadowing-stub", "--delete", cache=True)
    hides_complete_one = any(
        model.complete for model, problem in found if problem.code == "shadowed"
    ) and any(not model.complete for model, problem in found if problem.code == "shadows")
    yield (fail if hides_complete_one else warn)("layouts-shadowing", " ".join(told), fix=fix)


def check_leftovers(facts: Facts) -> Iterator[Check]:
    """What broken downloads take of the disk."""
    cache = facts.cache()
    if cache.path is None:
        yield skip("leftovers", "There is no cache.")
        return
    found = [
        candidate.path
        for candidate in cache_leftovers(cache.path, Cancel())
        if candidate.kind is Kind.UNFINISHED_DOWNLOAD
    ]
    if not found:
        yield ok("leftovers", "No download has left anything.")
        return
    total = sum(_size_of(path) for path in found)
    yield warn(
        "leftovers",
        f"{len(found)} unfinished download{'' if len(found) == 1 else 's'} ({size(total)}): "
        f"{named([os.path.relpath(path, cache.path) for path in found])}.",
        fix=facts.command("clean", "--kind", "unfinished-download", "--delete", cache=True),
    )


def _size_of(path: str) -> int:
    """Bytes of a file, or of all files in a folder."""
    if not os.path.isdir(path) or os.path.islink(path):
        return os.lstat(path).st_size
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def _models(facts: Facts) -> tuple[Model, ...]:
    stock = facts.cache().stock
    return stock.models if stock else ()


def _name(model: Model) -> str:
    return f"{model.id}@{model.revision}"


def _text(problem: Problem) -> str:
    return str(problem)
