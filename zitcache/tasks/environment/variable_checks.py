"""Is there a reason why the SDKs will not use a cache in spite of its variables?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from zitcache.cache.environment import huggingface_root
from zitcache.cache.expansion import expand, has_dollar
from zitcache.cache.layouts import Layout, find_models
from zitcache.cache.variables import home_of
from zitcache.errors import UsageError
from zitcache.events import Session

_HUGGINGFACE = frozenset({Layout.HUGGINGFACE, Layout.HUGGINGFACE_SHARED})


def refuse_dollar(variables: Mapping[str, str]) -> None:
    """Raise ``UsageError`` for a path that Hugging Face would read as another one."""
    home = home_of(os.environ)
    for name, value in variables.items():
        if has_dollar(value) and expand(value, os.environ, home) != value:
            raise UsageError(
                f"{name} cannot be {value!r}: Hugging Face puts something else in for the dollar sign.",
                hint="Give the directory a plain name, or set a symlink to it and name that.",
            )


def warn_of_literal_values(variables: Mapping[str, str], session: Session) -> None:
    """Docker takes the lines of an env file literally; compose and dotenv libraries unquote and expand."""
    odd = [name for name, value in variables.items() if set(value) & set("'\"`#$\\ ")]
    if odd:
        session.warn(
            "literal-value",
            f"docker --env-file takes {', '.join(odd)} as printed; docker compose may read it otherwise.",
            "For compose, put it under environment: in quotes, with $$ for each dollar sign.",
        )


def warn_of_lost_models(cache: Path, variables: Mapping[str, str], session: Session) -> None:
    """Warn of models in ``cache`` that no variable reaches."""
    home = home_of(os.environ)
    hub = huggingface_root({**os.environ, **variables}, home, Path("/")).path
    other = sorted(
        {
            str(model.base)
            for model in find_models(cache)
            if model.layout in _HUGGINGFACE and os.path.realpath(model.base) != os.path.realpath(hub)
        }
    )
    if other:
        session.warn(
            "two-hugging-face-trees",
            f"Hugging Face has one directory, {hub}; its models in {', '.join(other)} are not found by name.",
            f"Load them by path, or set HF_HUB_CACHE={other[0]} where they are needed.",
        )
