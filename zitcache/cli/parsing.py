"""How Typer is used here: commands loaded on demand, examples first in every help, light parsing.

Two costs are avoided, because ``zitcache --help`` and the light commands must start about as fast as Typer
itself: rich help (it imports a Markdown renderer), and Typer's validation of strings, which since version
0.27 imports pydantic. Parameters are ``str``, ``bool`` and ``list[str]`` only; each command checks the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from zitcache.cli.catalog import COMMANDS, GROUPS
from zitcache.errors import UsageError

CONTEXT_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

# Typer raises click's errors and, since 0.26, those of its own copy of click, but exports only this one.
ParsingError: type[Exception] = typer.BadParameter.__bases__[0].__bases__[0]

GROUP_EXAMPLES = """
zitcache doctor                           what would a reset take, and what to do
zitcache migrate /data/modelscope_cache   move the cache off the system disk
zitcache backup                           keep a snapshot; nightly, see schedule
zitcache restore                          after the reset: bring everything back
zitcache verify --generate                prove that the weights load and draw
"""


class Command(TyperCommand):
    """A command whose help begins with examples and whose strings need no validation library."""

    examples = ""

    def get_params(self, ctx: Any) -> Any:
        """All parameters, --help included, without their validation."""
        return skip_validation(super().get_params(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Examples, usage, what it does, options."""
        write_examples(formatter, self.examples)
        super().format_help(ctx, formatter)


class Group(TyperGroup):
    """The program itself: imports the module of the one command that is asked for."""

    def get_params(self, ctx: Any) -> Any:
        """All parameters, --help included, without their validation."""
        return skip_validation(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        """All names, in the order of the catalog."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"zitcache.cli.{cmd_name}")
        return build(getattr(module, cmd_name))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; an unknown one gets a suggestion."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            raise unknown_command(args[0])
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Examples, usage, what it is, the commands by group."""
        write_examples(formatter, GROUP_EXAMPLES)
        super().format_help(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The catalog, without importing any command."""
        width = max(map(len, COMMANDS))
        for title, commands in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), line) for name, line in commands.items()])


def build(function: Callable[..., int]) -> TyperCommand:
    """Make a command of a function decorated with :func:`zitcache.cli.options.command`."""
    app = typer.Typer(rich_markup_mode=None, add_completion=False, context_settings=CONTEXT_SETTINGS)
    app.command(cls=Command, context_settings=CONTEXT_SETTINGS)(function)
    command = typer.main.get_command(app)
    assert isinstance(command, Command)
    command.examples = getattr(function, "examples", "")
    return command


def unknown_command(name: str) -> UsageError:
    """The error for a command that does not exist, with the nearest one that does."""
    from difflib import get_close_matches

    near = get_close_matches(name, COMMANDS, n=1)
    hint = f"Did you mean: zitcache {near[0]}" if near else "See them all with: zitcache --help"
    return UsageError(f"There is no command {name!r}.", hint=hint)


def write_examples(formatter: Any, examples: str) -> None:
    """The examples line by line, never re-wrapped."""
    formatter.write("Examples:\n")
    for line in examples.strip().splitlines():
        formatter.write(f"  {line}\n")
    formatter.write("\n")


def skip_validation(params: list[Any]) -> list[Any]:
    """Let strings, lists of strings, flags and absent values through each of ``params`` as they are."""
    for param in params:
        if "process_value" not in vars(param):
            param.process_value = _without_validation(param)
    return params


def _without_validation(param: Any) -> Callable[[Any, Any], Any]:
    validate = param.process_value
    many = param.multiple or param.nargs != 1

    def process_value(ctx: Any, value: Any) -> Any:
        if value is None and not param.required:
            value = () if many else None
        elif many and isinstance(value, (list, tuple)) and value:
            value = tuple(value)
        elif many or not isinstance(value, (bool, str)):
            return validate(ctx, value)
        return value if param.callback is None else param.callback(ctx, param, value)

    return process_value
