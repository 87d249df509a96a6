"""Share a conversion among machines: refuse what cannot be shared, fill one part, and put all together."""

from contextlib import ExitStack

from convert.errors import Failure
from convert.pipeline.run import Run
from convert.pipeline.stage.build import commit, learn, write_files
from convert.pipeline.weights import fill, legal_files, opened
from convert.recipe import cli_name
from convert.store.part import Parts
from convert.writer.engine import WHOLE, Output


def require_sharable(run: Run) -> Run:
    """Refuse targets that learn from the whole model or that a tool makes from a whole checkpoint."""
    whole = [job.name for job in run.jobs if job.planned.learning or job.planned.finish]
    if whole:
        raise Failure(
            f"{', '.join(whole)}: learned from the whole model, so no part of it can be made alone",
            f"convert these whole, with --only {' --only '.join(whole)}, and the others in parts",
        )
    return run


def build_part(run: Run) -> Run:
    """Fill this part of every file, unless that is on the disk already."""
    part, shared = run.part or WHOLE, _parts(run)
    if shared.is_done(*part):
        run.remark(f"part {part} is there already")
        return run
    with opened(run) as (known, weights):
        outputs = [
            Output(layout, shared.file(job.name, layout.path, layout.size_bytes))
            for job in learn(known, weights)
            for layout in job.planned.layouts
        ]
        fill(known, weights, outputs, part)
    shared.finish(*part, (output.path for output in outputs))
    return run


def assemble(run: Run) -> Run:
    """Complete the artifacts whose parts are all there, and put them in place."""
    if not run.jobs:
        return run
    shared = _parts(run)
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


def _parts(run: Run) -> Parts:
    return run.store.parts(run.recipe.name, (job.wanted.key for job in run.jobs))


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
