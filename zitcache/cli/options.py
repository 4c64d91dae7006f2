"""The options that commands share, and the decorator that adds them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature, get_annotations
from typing import Annotated, Any

import typer

from zitcache.errors import UsageError
from zitcache.ui.output import OutputOptions
from zitcache.ui.style import ColorChoice

Repository = Annotated[
    str | None,
    typer.Option(
        "--repo", "-r", metavar="PLACE", help="The repository. Default: ZITCACHE_REPO, else the config."
    ),
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
    followed by the shared ones.
    """

    def decorate(function: Callable[..., int]) -> Callable[..., int]:
        hints = get_annotations(function, eval_str=True)
        own = [name for name in hints if name not in {"output", "return"}]
        # Read from the code object: inspecting signatures costs milliseconds at start.
        defaults = dict(function.__kwdefaults__ or {})

        @wraps(function)
        def wrapper(**given: Any) -> int:
            shared = {name: given.pop(name) for name in _SHARED}
            shared["color"] = _color(shared["color"])
            return function(OutputOptions(**shared), **given)

        kind = Parameter.KEYWORD_ONLY
        parameters = [
            Parameter(name, kind, annotation=hints[name], default=defaults.get(name, Parameter.empty))
            for name in own
        ]
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


def _color(value: str) -> ColorChoice:
    try:
        return ColorChoice(value)
    except ValueError:
        raise UsageError(
            f"--color cannot be {value!r}.", hint="Use one of: --color auto, --color always, --color never"
        ) from None
