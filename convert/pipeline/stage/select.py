"""Select the artifacts to verify: those of the recipe, all of which must have been built."""

import os
from dataclasses import replace

from convert.errors import Failure
from convert.pipeline.run import Run
from convert.pipeline.start import runtime_for, server_for
from convert.recipe import cli_name
from convert.store import MANIFEST_NAME
from verify.task import Subject


def select(run: Run) -> Run:
    """Find each artifact's folder; remark on those that the recipe would build differently now."""
    folders = [run.store.folder(run.recipe.name, each.name) for each in run.targets]
    missing = [folder.name for folder in folders if not os.path.lexists(folder / MANIFEST_NAME)]
    if missing:
        raise Failure(
            f"{', '.join(missing)}: not built yet",
            f"modelwright convert {cli_name(run.recipe.path)}, or leave out with --only",
        )
    for each in run.wanted:
        if not each.is_up_to_date:
            run.remark(f"{each.target.name}: not as the recipe builds it now; `convert` does")
    subjects = tuple(
        Subject(
            name=each.name,
            path=folder,
            gates=run.verify.gates,
            limits_of="recipe",
            runtime=runtime_for(run, each.format_name),
            server=server_for(run, each.format_name),
        )
        for each, folder in zip(run.targets, folders, strict=True)
    )
    return replace(run, subjects=subjects)
