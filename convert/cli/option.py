"""Options and arguments that several commands share, each declared once."""

from __future__ import annotations

from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from convert.cli.output import Output
from convert.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from convert.recipe import Recipe

QUIET = click.option("-q", "--quiet", "is_quiet", is_flag=True, help="Print nothing but errors.")
# More parts than anybody has machines.
MOST_PARTS = 10_000
_JSON = click.option("--json", "is_json", is_flag=True, help="Print the answer as JSON.")


def _recipes(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Complete the name of a recipe, or the path of a file."""
    from convert.recipe.lookup import known_recipes  # noqa: PLC0415 - pydantic

    names = [CompletionItem(name) for name in known_recipes() if name.startswith(incomplete)]
    return names or [CompletionItem(incomplete, type="file")]


def _targets(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Complete a target of the recipe that is earlier on the line."""
    from convert.formats import load_recipe  # noqa: PLC0415 - pydantic

    # An option that still waits for its value leaves the arguments before it unassigned.
    recipe = context.params.get("recipe") or next(iter(context.args), None)
    names: list[str] = []
    with suppress(Failure, OSError):  # of a recipe that cannot be read nothing is known
        for name, options in load_recipe(recipe).targets.items() if recipe else ():
            names += [name, *options.by_target()]
    return [name for name in names if name.startswith(incomplete)]


def _servers(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a server."""
    from verify.servers import server_names  # noqa: PLC0415 - brings the client

    return [name for name in server_names() if name.startswith(incomplete)]


RECIPE = click.argument("recipe", shell_complete=_recipes)
RECIPES = click.argument("recipes", nargs=-1, required=True, metavar="RECIPE...", shell_complete=_recipes)
WHAT = click.argument("what", nargs=-1, required=True, metavar="RECIPE|ARTIFACT...", shell_complete=_recipes)
ONLY = click.option(
    "--only",
    metavar="TARGET",
    shell_complete=_targets,
    multiple=True,
    help="Leave the other targets out: a format (gguf) or one artifact (gguf-Q4_K_M). May be repeated.",
)
TO = click.option(
    "--to",
    "targets",
    metavar="TARGETS",
    help="Without a recipe, RECIPE is a model, a Hub repo or a folder, and this is what it becomes: "
    "gguf:Q4_K_M,onnx.",
)
DEFAULT_OUT = Path("artifacts")
OUT = click.option(
    "--out",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_OUT,
    show_default=True,
    help="The folder of all artifacts.",
)
STORE = click.option(
    "--store",
    "store_url",
    metavar="URL",
    help="An object store that other machines see too, such as s3://bucket/models; --out is then this "
    "machine's own.",
)
OFFLINE = click.option(
    "--offline", "is_offline", is_flag=True, help="Use what was downloaded before; no network."
)


class _Part(click.ParamType[tuple[int, int]]):
    """One of so many parts, as a person writes it: 2/8."""

    name = "part"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Read K/N."""
        number, _, count = str(value).partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count) <= MOST_PARTS):
            self.fail(f"{value} is not one of so many parts, such as 2/8", param, ctx)
        return int(number), int(count)


PART = click.option("--part", metavar="K/N", type=_Part(), help="Make the K-th of N parts of each artifact.")
THREADS = click.option(
    "--threads", metavar="N", type=click.IntRange(min=1), help="How many cores to use; all by default."
)
OPTION = click.option(
    "--option",
    "runtime_options",
    metavar="NAME=VALUE",
    multiple=True,
    help="An option of the artifact's runtime, such as a server's model=NAME or api_key_env=VARIABLE.",
)
VERBOSE = click.option(
    "-v", "--verbose", "is_verbose", is_flag=True, help="Name every tensor that is not as was asked for."
)


def _time_span(_: click.Context, __: click.Parameter, given: str | None) -> str | None:
    from convert.recipe.span import HINT, is_span  # noqa: PLC0415 - pydantic

    if given is not None and not is_span(given):
        raise click.BadParameter(f"{given!r} is not a time span: {HINT}")
    return given


ONLY_SPEED = click.option(
    "--only-speed", "measures", flag_value="speed", help="Measure speed and memory alone, and ask nothing."
)
ONLY_QUALITY = click.option(
    "--only-quality", "measures", flag_value="quality", help="Ask and compare, and measure no speed."
)
BUDGET = click.option(
    "--budget",
    metavar="TIME",
    callback=_time_span,
    help="The most time that verification takes, such as 2min, or none to ask everything; about 5 "
    "minutes by default, and 15 at most.",
)
RUNTIME = click.option(
    "--runtime",
    metavar="NAME",
    help="The runtime that opens the artifacts: a name, or the path of a Python file.",
)
SERVE = click.option(
    "--serve",
    metavar="NAME",
    shell_complete=_servers,
    help="Start this server for each artifact, and judge what it answers: llama-server, vllm and others.",
)


def asked(recipe: str, targets: str | None) -> Recipe:
    """Read the recipe, or make one of a model and of what --to says."""
    from convert.formats import load_recipe, recipe_for  # noqa: PLC0415 - pydantic

    return recipe_for(recipe, targets) if targets else load_recipe(recipe)


# What every run of stages may be given: the keys of `Options`.
_RUN_OPTIONS = {
    "measures",
    "on",
    "budget",
    "only",
    "out",
    "packs",
    "tasks",
    "texts",
    "report_folder",
    "runtime",
    "serve",
    "store_url",
    "load",
    "concurrency",
    "attests",
    "text",
    "threads",
}


def answering(function: Callable[..., Any]) -> click.Command:
    """Make a command that gives an answer: it has --json and --quiet, and gets the sink to print through.

    One with --offline runs stages: it gets what all of them take as `options`.
    """

    @wraps(function)
    def with_output(*, is_json: bool, is_quiet: bool, **given: Any) -> Any:
        is_quiet = is_quiet or bool(click.get_current_context().find_object(bool))
        output = Output(is_json=is_json, is_quiet=is_quiet)
        if "is_offline" in given:
            chosen = {name: given.pop(name) for name in _RUN_OPTIONS & given.keys()}
            given["options"] = {
                **{name: value for name, value in chosen.items() if value is not None},
                # Without the option, the Hub's own environment variable decides.
                "offline": given.pop("is_offline") or None,
                "progress": output.progress(),
                "remark": output.remark,
                "watching": output.watching,
            }
        return function(output=output, **given)

    name = function.__module__.rsplit(".", 1)[-1]
    command = click.command(name)(QUIET(_JSON(with_output)))
    # A command's own options come first.
    command.params.sort(key=lambda option: option.name in ("is_json", "is_quiet"))
    return command
