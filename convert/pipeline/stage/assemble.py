"""Assemble artifacts whose parts several machines have made."""

from contextlib import ExitStack

from convert.errors import Failure
from convert.pipeline.run import Run
from convert.pipeline.stage.build import commit, learn, write_files
from convert.pipeline.stage.build_part import parts_of
from convert.pipeline.weights import legal_files, opened
from convert.recipe import cli_name
from convert.store.part import Parts


def assemble(run: Run) -> Run:
    """Complete the artifacts whose parts are all there, and put them in place."""
    if not run.jobs:
        return run
    shared = parts_of(run)
    counts = shared.counts()
    complete = [count for count in counts if not shared.missing(count)]
    if not complete:
        raise _incomplete(run, shared, counts)
    with opened(run) as (known, weights), ExitStack() as stack:
        legal, built = legal_files(known), []
        for job in learn(known, weights):
            staging = stack.enter_context(run.store.stage(run.recipe.name, job.name, job.wanted.key))
            shared.give(job.name, staging.path)
            write_files(staging.path, {**legal, **job.planned.files})
            built.append((job, staging))
        commit(known, built)
    shared.remove()
    return run


def _incomplete(run: Run, shared: Parts, counts: tuple[int, ...]) -> Failure:
    recipe = cli_name(run.recipe.path)
    if not counts:
        return Failure(
            f"{run.recipe.path}: no part of these artifacts is there",
            f"make them first: modelwright convert {recipe} --part 1/4, and so on",
        )
    count = counts[-1]
    missing = [f"{number}/{count}" for number in shared.missing(count)]
    return Failure(
        f"{run.recipe.path}: parts are missing: {', '.join(missing)}",
        f"modelwright convert {recipe} --part {missing[0]}",
    )
