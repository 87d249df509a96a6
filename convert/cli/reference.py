"""Every command and option as Markdown, written from the commands: `python -m convert.cli.reference`.

With a file's name as its argument it writes the text between that file's markers.
"""

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from convert.cli.app import COMMANDS, PROGRAM, program

BEGIN, END = "<!-- commands -->", "<!-- /commands -->"


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


def families() -> str:
    """Write the model families there are, within a sentence."""
    from convert.model.families import supported  # noqa: PLC0415

    return ", ".join(f"`{model_type}`" for model_type in supported())


def written_into(text: str) -> str:
    """Return `text` with this section between its markers, and the list of families between theirs."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise click.UsageError(f"the markers {BEGIN} and {END} are missing")
    text = f"{before}{BEGIN}\n{reference()}{END}{after}"
    return re.sub("(<!-- families -->).*?(<!-- /families -->)", rf"\1{families()}\2", text)


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


if __name__ == "__main__":
    if len(sys.argv) == 2:
        file = Path(sys.argv[1])
        file.write_text(written_into(file.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        sys.stdout.write(reference())
