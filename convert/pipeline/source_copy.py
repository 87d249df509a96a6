"""A copy of a source for llama.cpp, which answers a verification faster than the source."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from convert.formats import option_models
from convert.pipeline.run import Trial
from convert.pipeline.start import start
from convert.recipe.reader import load_text

NAME = "source"


def copy_source(trial: Trial, quant: str, file: Path) -> None:
    """Convert the source, its adapter merged, to one GGUF of this type; a Failure says why it can't be."""
    from convert.pipeline import CONVERT, fold  # noqa: PLC0415 - which has the stage that asks for it

    asked: dict[str, Any] = {
        "model": str(trial.files.folder.absolute()),
        **({"adapter": str(trial.adapter.folder.absolute())} if trial.adapter else {}),
        "targets": {"gguf": {"quants": [quant]}},
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=file.parent, prefix=f".copy-{os.getpid()}-") as folder:
        recipe = load_text(yaml.safe_dump(asked), Path(folder, f"{NAME}.yaml"), option_models())
        run = start(recipe, {"out": Path(folder), "threads": trial.threads, "offline": True})
        made = fold(run, CONVERT).store.folder(NAME, f"gguf-{quant}")
        next(made.glob("*.gguf")).replace(file)
