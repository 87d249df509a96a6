"""`modelwright init`: write a recipe with comments, to begin with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convert.cli.option import answering
from convert.errors import UsageFailure

if TYPE_CHECKING:
    from convert.cli.output import Output

EXAMPLE = "Qwen/Qwen2.5-0.5B-Instruct"
COMMENT = """Written by `modelwright init`. `modelwright plan {name}` says what it would take,
`modelwright run {name}` builds and verifies it, `modelwright pick {name}` says what fits a machine."""
COMMENTS = {
    "gguf": "For llama.cpp, Ollama and LM Studio; Q8_0 is closer to the source, Q3_K_M smaller.",
    "onnx": "For onnxruntime-genai; int8 is closer to the source.",
    "hf": "Plain weights for Transformers and vLLM.",
}


@answering
@click.argument("model", default=EXAMPLE)
@click.option(
    "--to",
    "targets",
    metavar="TARGETS",
    default="gguf:Q4_K_M,onnx:int4",
    show_default=True,
    help="What it becomes.",
)
def command(output: Output, *, model: str, targets: str) -> None:
    """Write a recipe with comments, to begin with.

    MODEL is a Hub repo or a folder. The recipe goes to recipes/ where there is such a folder, else
    here, next to the schema that editors check it by. One of that name that is there already is
    left as it is.
    """
    from convert.formats import option_models  # noqa: PLC0415 - pydantic
    from convert.recipe import json_schema  # noqa: PLC0415
    from convert.recipe.draft import draft, name_for  # noqa: PLC0415
    from convert.recipe.reader import load_text  # noqa: PLC0415
    from convert.recipe.shorthand import read_targets  # noqa: PLC0415
    from verify.report import write  # noqa: PLC0415

    formats = option_models()
    name = name_for(model)
    folder = Path("recipes") if Path("recipes").is_dir() else Path()
    path = folder / f"{name}.yaml"
    if path.exists():
        raise UsageFailure(
            f"{path}: there is a recipe of that name", f"edit it, or run it: modelwright run {name}"
        )
    place = str(Path(model).resolve()) if Path(model).is_dir() else model
    comment = COMMENT.format(name=name if folder.name else path)
    text = draft(place, read_targets(targets, formats), formats, comment=comment, comments=COMMENTS)
    load_text(text, path, formats)  # which names what is wrong with it
    if not (folder / "schema.json").exists():
        write(folder / "schema.json", json.dumps(json_schema(formats), indent=2) + "\n")
    write(path, text)
    subject = name if folder.name else str(path)
    output.answer({"path": path}, lambda: [f"{path}: written", f"next: modelwright plan {subject}"])
