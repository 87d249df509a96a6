"""`modelwright chat`: talk to an artifact, in its own runtime."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convert.cli.option import OPTION, RUNTIME, THREADS
from convert.errors import Exit, UsageFailure

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command("chat")
@click.argument("artifact")
@click.option("--system", metavar="TEXT", default="", help="The system prompt; none by default.")
@click.option(
    "--max-tokens",
    metavar="N",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    help="The most tokens of an answer.",
)
@click.option(
    "--temperature",
    metavar="T",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="How freely tokens are drawn; 0 takes the most likely one, always.",
)
@click.option(
    "--seed", metavar="N", type=click.IntRange(min=0), default=0, help="Another seed draws other tokens."
)
@click.option(
    "--context",
    metavar="TOKENS",
    type=click.IntRange(min=16),
    default=4096,
    show_default=True,
    help="How much of the conversation it keeps in mind, its answer included.",
)
@OPTION
@RUNTIME
@THREADS
@click.option("--json", "is_json", is_flag=True, help="Print each answer as one line of JSON.")
def command(
    artifact: str,
    runtime_options: Sequence[str],
    runtime: str | None,
    threads: int | None,
    context: int,
    *,
    is_json: bool,
    system: str,
    max_tokens: int,
    temperature: float,
    seed: int,
) -> Exit:
    """Talk to an artifact in its own runtime.

    ARTIFACT is a folder, a model file, or the address of an OpenAI-compatible server. It runs in a
    process with limits, as verification opens it. A model with a chat template remembers what was
    said; any other continues each text that it is given. In a pipe each line gets an answer.

    \b
    Ctrl-C  stops an answer
    Ctrl-D  ends the conversation
    /new    forgets what was said

    Three double quotes (as in Python) begin and end a text of several lines.
    """
    from convert.cli.loop import Loop  # noqa: PLC0415 - brings the runtimes
    from convert.pipeline.start import read_option, secret_names  # noqa: PLC0415
    from verify.conversation import Manner, talk_to  # noqa: PLC0415
    from verify.runtimes import RuntimeSettings, is_address  # noqa: PLC0415

    chosen = dict(map(read_option, runtime_options))
    manner = Manner(system, max_tokens, temperature, seed)
    settings = RuntimeSettings(context, threads, chosen)
    is_quiet = bool(click.get_current_context().find_object(bool))
    place = artifact if is_address(artifact) else _found(artifact)
    secrets = secret_names(chosen)
    with talk_to(place, manner, runtime=runtime, settings=settings, secret_names=secrets) as conversation:
        return Loop(conversation, artifact, is_json=is_json, is_quiet=is_quiet).run(sys.stdin)


def _found(artifact: str) -> Path:
    """Return the artifact's path; where a recipe or a folder of artifacts is named, say what there is."""
    from convert.recipe import known_recipes  # noqa: PLC0415 - pydantic
    from convert.store import MANIFEST_NAME  # noqa: PLC0415

    path = Path(artifact)
    folder = path if path.is_dir() else Path("artifacts", path.stem)
    inside = sorted(str(each.parent) for each in folder.glob(f"*/{MANIFEST_NAME}"))
    if path.exists() and not inside:
        return path
    what = f"{artifact}: {'a folder of artifacts' if path.is_dir() else 'no such artifact'}"
    if inside:
        raise UsageFailure(what, f"name one of them: {', '.join(inside)}")
    if path.stem in known_recipes():
        raise UsageFailure(
            f"{artifact}: a recipe, of which nothing is built yet", f"modelwright convert {artifact}"
        )
    raise UsageFailure(what, "`modelwright list` shows the artifacts that there are")
