"""Assemble artifacts whose parts several machines have made."""

from collections.abc import Sequence
from contextlib import ExitStack

from convert.errors import Failure
from convert.pipeline.record import manifest
from convert.pipeline.run import Job, Run
from convert.pipeline.stage.build import commit, learn, lessons_held, write_files
from convert.pipeline.stage.build_part import parts_of
from convert.pipeline.weights import legal_files, opened
from convert.recipe import cli_name
from convert.store import Parts, Work
from convert.store.upload import Name


def assemble(run: Run) -> Run:
    """Complete the artifacts whose parts are all there, and put them in place."""
    if not run.jobs:
        return run
    shared = parts_of(run)
    counts = shared.counts()
    complete = [count for count in counts if not shared.missing(count)]
    if not complete:
        raise _incomplete(run, shared, counts)
    with opened(run) as (known, weights), lessons_held(known, weights) as remove:
        shared.take_lessons(weights.lessons)
        jobs = [*learn(known, weights)]
        if isinstance(shared, Work):
            _complete(known, jobs, shared, complete[0])
        else:
            _place(known, jobs, shared)
        remove()
    shared.remove()
    return run


def _place(run: Run, jobs: Sequence[Job], shared: Parts) -> None:
    """Give the files that all machines have filled to their artifacts' folders."""
    legal = legal_files(run)
    with ExitStack() as stack:
        built = []
        for job in jobs:
            staging = stack.enter_context(run.store.stage(run.recipe.name, job.name, job.wanted.key))
            shared.give(job.name, staging.path)
            write_files(staging.path, {**legal, **job.planned.files})
            built.append((job, staging))
        commit(run, built)


def _complete(run: Run, jobs: Sequence[Job], shared: Work, count: int) -> None:
    """Complete the uploads that all machines have filled, and let each artifact show by its manifest."""
    if run.remote is None:
        raise ValueError("parts of uploads are in an object store")
    sizes = {Name(job.name, layout.path): layout.size_bytes for job in jobs for layout in job.planned.layouts}
    with run.progress.stage("digest", sum(sizes.values())) as advance:
        filled = shared.complete(sizes, count, advance)
    legal = legal_files(run)
    for job in jobs:
        entries = [entry for name, entry in filled.items() if name.target == job.name]
        entries += shared.add(job.name, {**legal, **job.planned.files})
        run.remote.show(run.recipe.name, manifest(run, job).with_files(tuple(entries)))


def _incomplete(run: Run, shared: Parts | Work, counts: tuple[int, ...]) -> Failure:
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
