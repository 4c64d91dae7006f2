"""The ``zitcache`` program: finds the command, and turns whatever goes wrong into an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from zitcache.cli.catalog import COMMANDS
from zitcache.cli.parsing import CONTEXT_SETTINGS, Group, ParsingError
from zitcache.ui.output import OutputOptions, discard_stdout, finish_stdout

if TYPE_CHECKING:
    from zitcache.ui.envelope import Failure

app = typer.Typer(
    cls=Group,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings=CONTEXT_SETTINGS,
)


@app.callback(invoke_without_command=True)
def zitcache(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Keep a 32 GB model cache alive: move it, back it up, restore it, prove it.

    Options go after the command: zitcache COMMAND --help lists them.
    """
    if version:
        from zitcache import __version__

        typer.echo(f"zitcache {__version__}")
        raise typer.Exit(0)
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help(), err=True)
        raise typer.Exit(2)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program on ``arguments`` (default: those of the process) and exit."""
    code = _run(list(sys.argv[1:] if arguments is None else arguments))
    finish_stdout()
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    command: Any = typer.main.get_command(app)
    try:
        return int(command.main(args=arguments, prog_name="zitcache", standalone_mode=False) or 0)
    except SystemExit:
        # Typer's own exit when the reader of the help went away. Only it: commands give their code back.
        discard_stdout()
        return 0
    except ParsingError as error:
        return _report(_parsing_failure(error), arguments)
    except (Exception, KeyboardInterrupt) as error:
        from zitcache.cli.failures import failure_of

        if "--debug" in arguments:
            import traceback

            traceback.print_exc()
        return _report(failure_of(error), arguments)


def _parsing_failure(error: Exception) -> Failure:
    """Typer's complaint about the command line, with the help to read."""
    from zitcache.errors import Exit, UsageError
    from zitcache.ui.envelope import Failure

    message = str(getattr(error, "format_message", error.__str__)())
    path = getattr(getattr(error, "ctx", None), "command_path", "zitcache")
    hint = f"See its options with: {path} --help"
    if path == "zitcache":
        hint = "Options go after the command: zitcache COMMAND [OPTIONS]; see zitcache --help"
    return Failure(code=UsageError.code, message=message, hint=hint, exit_code=int(Exit.USAGE))


def _report(failure: Failure, arguments: Sequence[str]) -> int:
    from zitcache.cli.runner import report_failure
    from zitcache.errors import ZitcacheError

    before_dashes = arguments[: arguments.index("--")] if "--" in arguments else arguments
    command = next((word for word in before_dashes if word in COMMANDS), None)
    try:
        report_failure(command, failure, OutputOptions(json="--json" in before_dashes))
    except ZitcacheError:
        # stdout cannot be written: what can be said is said on stderr.
        report_failure(command, failure, OutputOptions())
    return failure.exit_code
