"""Which model of a cache is drawn."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from zitcache.cache.inventory import Model
from zitcache.errors import NotFound, UsageError
from zitcache.events import Session
from zitcache.proof.errors import ModelIncomplete
from zitcache.proof.pipeline_folder import INDEX

_PREFERRED = "z-image"


def choose_model(models: Sequence[Model], wanted: str | None, session: Session) -> Model:
    """The model named ``wanted`` (an id, an id@revision or a path), or the one that is meant most likely.

    Raises ``NotFound`` if there is none that can draw.
    """
    drawing = [model for model in models if (model.path / INDEX).is_file()]
    if wanted is not None:
        return _named(models, drawing, wanted)
    if not drawing:
        raise NotFound(
            f"There is no model here that can draw: none has a {INDEX}.",
            hint="List what is there: zitcache models",
        )
    chosen = next((model for model in drawing if _PREFERRED in model.id.lower()), drawing[0])
    if len(drawing) > 1:
        others = ", ".join(_name(model) for model in drawing if model is not chosen)
        session.warn("other-models", f"Drawing with {_name(chosen)}; {others} can draw, too.", "--model ID")
    return chosen


def refuse_incomplete(model: Model) -> None:
    """Raise ``ModelIncomplete`` naming what is missing."""
    if model.complete:
        return
    problems = [problem for problem in model.problems if problem.makes_incomplete]
    reason = str(problems[0]) if problems else "files are missing"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    raise ModelIncomplete(f"{_name(model)} is not complete: {reason}{more}")


def _named(models: Sequence[Model], drawing: Sequence[Model], wanted: str) -> Model:
    place = Path(os.path.realpath(Path(wanted).expanduser()))
    found = [
        model
        for model in drawing
        if wanted.lower() in (model.id.lower(), _name(model).lower())
        or place in (Path(os.path.realpath(model.path)), Path(os.path.realpath(model.root)))
    ]
    if found:
        # Of several copies, one that is complete.
        return next((model for model in found if model.complete), found[0])
    if any(wanted.lower() == model.id.lower() for model in models):
        raise UsageError(
            f"{wanted} is no model that can draw: it has no {INDEX}.", hint="See: zitcache models"
        )
    raise NotFound(f"There is no model {wanted} here.", hint="List what is there: zitcache models")


def _name(model: Model) -> str:
    return f"{model.id}@{model.revision}"
