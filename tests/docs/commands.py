"""Every command and option as Markdown, written from the commands: a part of docs/commands.md."""

import inspect
from collections.abc import Iterator

import click

from convert.cli.app import COMMANDS, PROGRAM, program


def reference() -> str:
    """Write the whole section, without its markers."""
    context = click.Context(program, info_name=PROGRAM, **program.context_settings)
    lines = ["Each of them, and the program itself, has `-h` or `--help`.", ""]
    lines += [f"`{PROGRAM} [OPTIONS] COMMAND …`", "", *_options(program, context), ""]
    for name in COMMANDS:
        command = program.get_command(context, name)
        if command is not None:
            lines += _section(name, command, click.Context(command, info_name=name, parent=context))
    return "\n".join(lines).strip() + "\n"


def _section(name: str, command: click.Command, context: click.Context) -> Iterator[str]:
    usage = " ".join([PROGRAM, name, *command.collect_usage_pieces(context)])
    yield from (f"### {name}", "", f"`{usage}`", "")
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith("\b\n"):
            yield from ("```", paragraph.removeprefix("\b\n"), "```", "")
        else:
            yield from (" ".join(paragraph.split()), "")
    yield from (*_options(command, context), "")


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    options = (each for each in command.params if isinstance(each, click.Option))
    records = list(filter(None, (option.get_help_record(context) for option in options)))
    if records:
        yield from ("| option | |", "|---|---|")
    for record in records:
        spelling, meaning = (cell.replace("|", r"\|") for cell in record)
        yield f"| `{spelling}` | {meaning.replace('  [', ' [')} |"
