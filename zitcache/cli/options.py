"""The options that commands share, and the decorator that adds them."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature, get_annotations
from typing import Annotated, Any

import typer

from zitcache.errors import UsageError
from zitcache.ui.output import OutputOptions
from zitcache.ui.style import ColorChoice

REPOSITORY = "the place of a repository"
"""Marks parameters (in ``Annotated``) that name one: the options of :data:`_CONNECTION` are for them."""

Repository = Annotated[
    str | None,
    typer.Option(
        "--repo", "-r", metavar="PLACE", help="The repository. Default: ZITCACHE_REPO, else the config."
    ),
    REPOSITORY,
]
Cache = Annotated[
    str | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        help="The model cache. Default: ZITCACHE_CACHE, else the config, else found.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing; show what would be done.")]

_CONNECTION: dict[str, Any] = {
    "endpoint_url": Annotated[
        str | None, typer.Option("--endpoint-url", metavar="URL", help="In S3: the server, if it is not AWS.")
    ],
    "profile": Annotated[
        str | None, typer.Option("--profile", metavar="NAME", help="In S3: the profile with the keys.")
    ],
    "region": Annotated[
        str | None, typer.Option("--region", metavar="NAME", help="In S3: the region of the bucket.")
    ],
    "concurrency": Annotated[
        str | None, typer.Option("--concurrency", metavar="N", help="In S3: requests at a time (16).")
    ],
    "limit_upload": Annotated[
        str | None,
        typer.Option("--limit-upload", metavar="RATE", help="In S3: as 20M (bytes a second) or 100Mbit."),
    ],
    "limit_download": Annotated[
        str | None, typer.Option("--limit-download", metavar="RATE", help="In S3: the same for reading.")
    ],
}

_NO_METADATA_CACHE = Annotated[
    bool,
    typer.Option("--no-metadata-cache", help="In S3: keep no copy of index and snapshots on this machine."),
]

_SHARED: dict[str, tuple[Any, Any]] = {
    "json": (Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")], False),
    "quiet": (Annotated[bool, typer.Option("--quiet", "-q", help="Say only what went wrong.")], False),
    "verbose": (Annotated[bool, typer.Option("--verbose", "-v", help="Show lists in full.")], False),
    "no_progress": (
        Annotated[bool, typer.Option("--no-progress", help="Show no progress on stderr.")],
        False,
    ),
    "color": (
        Annotated[
            str,
            typer.Option(
                "--color",
                metavar="WHEN",
                help="auto, always or never; auto obeys NO_COLOR.",
                show_default=False,
            ),
        ],
        "auto",
    ),
    "debug": (Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")], False),
}


def command(examples: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Make ``function(output, **own)`` take the shared options too, and carry the examples of its help.

    ``output`` is the :class:`OutputOptions` made of the shared ones; Typer sees the other parameters
    followed by the shared ones. Where a parameter names a repository, there are those for S3, too: they
    become a part of the place, so that the function, and every command that it suggests, has them.
    """

    def decorate(function: Callable[..., int]) -> Callable[..., int]:
        hints = get_annotations(function, eval_str=True)
        own = [name for name in hints if name not in {"output", "return"}]
        # Read from the code object: inspecting signatures costs milliseconds at start.
        defaults = dict(function.__kwdefaults__ or {})
        places = [name for name in own if REPOSITORY in getattr(hints[name], "__metadata__", ())]
        connection = _CONNECTION if places else {}

        @wraps(function)
        def wrapper(**given: Any) -> int:
            shared = {name: given.pop(name) for name in _SHARED}
            shared["color"] = _color(shared["color"])
            chosen = {name: given.pop(name) for name in connection}
            if places and given.pop("no_metadata_cache"):
                # For this process and those that it starts.
                os.environ["ZITCACHE_METADATA_CACHE"] = "off"
            if any(chosen.values()):
                given |= _connected({name: given[name] for name in places}, chosen)
            return function(OutputOptions(**shared), **given)

        kind = Parameter.KEYWORD_ONLY
        parameters = [
            Parameter(name, kind, annotation=hints[name], default=defaults.get(name, Parameter.empty))
            for name in own
        ]
        parameters += [
            Parameter(name, kind, annotation=annotation, default=None)
            for name, annotation in connection.items()
        ]
        if places:
            parameters.append(
                Parameter("no_metadata_cache", kind, annotation=_NO_METADATA_CACHE, default=False)
            )
        parameters += [
            Parameter(name, kind, annotation=annotation, default=default)
            for name, (annotation, default) in _SHARED.items()
        ]
        wrapper.__dict__["__signature__"] = Signature(parameters)
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        wrapper.__dict__["examples"] = examples
        return wrapper

    return decorate


def again(*, repo: str | None = None, cache: str | None = None) -> tuple[str, ...]:
    """The options that named the repository and the cache, to repeat in the next command."""
    words: tuple[str, ...] = ()
    if repo:
        words += ("-r", repo)
    if cache:
        words += ("--cache", cache)
    return words


def _connected(places: dict[str, str | None], chosen: dict[str, str | None]) -> dict[str, str | None]:
    """The places with the chosen options for S3 written into them.

    Raises ``UsageError`` where none of them is in S3.
    """
    from zitcache.storage.s3.location import fold, is_s3

    if not any(places.values()) and "repo" in places:
        from zitcache.tasks.settings import resolve_repository

        places = {**places, "repo": resolve_repository(None).value}
    if not any(place and is_s3(place) for place in places.values()):
        option = "--" + next(name for name, value in chosen.items() if value).replace("_", "-")
        raise UsageError(
            f"{option} is for repositories in S3, and none is named.",
            hint=f"Leave it out, or name one: --repo s3://bucket/prefix {option} …",
        )
    return {name: fold(place, chosen) if place and is_s3(place) else place for name, place in places.items()}


def _color(value: str) -> ColorChoice:
    try:
        return ColorChoice(value)
    except ValueError:
        raise UsageError(
            f"--color cannot be {value!r}.", hint="Use one of: --color auto, --color always, --color never"
        ) from None
