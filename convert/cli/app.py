"""Finds the command, runs it, and turns whatever happens into lines and an exit code, in this one place."""

import difflib
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

import click

from convert.cli.failure import report
from convert.cli.option import QUIET
from convert.errors import Exit, UsageFailure

PROGRAM = "modelwright"
_COMPLETION_VARIABLE = f"_{PROGRAM.upper()}_COMPLETE"

# In the order in which a person meets them; each is a file of that name in command/.
COMMANDS = (
    *("init", "pick", "plan", "convert", "assemble", "verify", "chat", "report", "publish", "run", "fleet"),
    *("list", "inspect", "clean", "completion"),
)


class Commands(click.Group):
    """Knows its commands by name and imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """List every command."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Load the command of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"convert.cli.command.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Refuse an unknown command with the one that was probably meant."""
        name = args[0]
        if name not in COMMANDS and not ctx.resilient_parsing:
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            guess = f"did you mean {near[0]}? " if near else ""
            raise UsageFailure(
                f"there is no command {name}", f"{guess}the commands are {', '.join(COMMANDS)}"
            )
        return super().resolve_command(ctx, args)


def _print_version(context: click.Context, _: click.Parameter, is_wanted: bool) -> None:  # noqa: FBT001 - click's signature
    if not is_wanted or context.resilient_parsing:
        return
    from convert.version import version  # noqa: PLC0415 - asks git, which no other command needs

    click.echo(f"{PROGRAM} {version()}")
    context.exit()


@click.group(
    cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version.",
)
@QUIET
@click.pass_context
def program(context: click.Context, *, is_quiet: bool) -> None:
    """Download, convert, verify and publish a language model, all from one YAML recipe.

    RECIPE is the path of a recipe, or the name of one in recipes/.
    """
    context.obj = is_quiet
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def run(args: Sequence[str] | None = None) -> int:
    """Run one command line to its exit code."""
    _open_what_is_closed()
    # A terminal that knows no umlauts is no reason to fail, nor is a pipe with other bytes than text.
    for stream, errors in (
        (sys.stdin, "replace"),
        (sys.stdout, "backslashreplace"),
        (sys.stderr, "backslashreplace"),
    ):
        with suppress(AttributeError, io.UnsupportedOperation):  # there is none, or it was read before
            stream.reconfigure(errors=errors)  # type: ignore[union-attr]
    sys.unraisablehook = _hear_again
    words = list(sys.argv[1:] if args is None else args)
    try:
        code = _invoke(words)
        sys.stdout.flush()
    except BrokenPipeError:
        code = Exit.FAILED  # whoever read the answer has seen enough
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - the one place that catches everything
        code = report(error, is_json="--json" in words)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError, ValueError):  # or the interpreter would end with 120
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, stream.fileno())
                os.close(nothing)
    return code


def _open_what_is_closed() -> None:
    """Let what goes to a closed stream (`>&-`) go nowhere, and not into a file that gets its number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number, so this one
            os.set_inheritable(opened, True)  # noqa: FBT003 - no keyword is taken
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115


def _hear_again(unraisable: "sys.UnraisableHookArgs") -> None:
    """Send an interrupt again that fell where Python cannot raise, in a callback say, and was lost."""
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return
    import threading  # noqa: PLC0415 - for an interrupt alone

    # What was lost may have been SIGTERM, and SIGINT is ignored in what a script runs in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Not at once: it would be lost in the same place.
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()


def _invoke(args: list[str]) -> int:
    # Not click's own main(): it would print a blank line at Ctrl-C, and errors in another form.
    if instruction := os.environ.get(_COMPLETION_VARIABLE):
        from click.shell_completion import shell_complete  # noqa: PLC0415 - for the shell alone

        return shell_complete(program, {}, PROGRAM, _COMPLETION_VARIABLE, instruction)
    if args[:1] == ["help"]:
        args = [*args[1:2], "--help"]
    try:
        with program.make_context(PROGRAM, args) as context:
            code = program.invoke(context)
    except click.exceptions.Exit as leave:
        return leave.exit_code
    return Exit.DONE if code is None else int(code)
