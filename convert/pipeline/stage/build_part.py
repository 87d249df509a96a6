"""Build one part of every file, in a folder or an object store that all machines see."""

from collections.abc import Sequence

from convert.errors import Failure
from convert.model.source import Weights
from convert.pipeline.run import Job, Run
from convert.pipeline.stage.build import learn, lessons_held
from convert.pipeline.weights import fill, opened
from convert.store import Parts, Work
from convert.store.upload import Name, stretch_bytes
from convert.writer.engine import Output
from convert.writer.share import WHOLE


def build_part(run: Run) -> Run:
    """Fill this part of every file, unless that is finished already."""
    if not run.jobs:
        return run
    part, shared = run.part or WHOLE, parts_of(run)
    if shared.is_done(*part):
        run.remark(f"part {part} is there already")
        return run
    learns = any(job.planned.learning for job in run.jobs)
    if learns and part.number > 1 and not shared.has_lessons:
        raise Failure(
            f"part {part}: what is learned from the whole model comes with part 1, which is not there yet",
            f"make part 1/{part.of} first; the others can then be made at once",
        )
    with opened(run) as (known, weights), lessons_held(known, weights):
        shared.take_lessons(weights.lessons)
        jobs = [*learn(known, weights)]
        if learns and not shared.has_lessons:
            shared.hand_on(weights.lessons)
        if isinstance(shared, Work):
            _upload(known, weights, jobs, shared)
        else:
            _fill(known, weights, jobs, shared)
    return run


def parts_of(run: Run) -> Parts | Work:
    """Find the parts of what is to be built."""
    keys = {job.name: job.wanted.key for job in run.jobs}
    if run.remote is not None:
        return run.remote.work(run.recipe.name, keys)
    return run.store.parts(run.recipe.name, keys.values())


def _fill(run: Run, weights: Weights, jobs: Sequence[Job], shared: Parts) -> None:
    """Write into files that all machines see."""
    part = run.part or WHOLE
    outputs = [
        Output(layout, shared.file(job.name, layout.path, layout.size_bytes))
        for job in jobs
        for layout in job.planned.layouts
    ]
    fill(run, weights, outputs, part)
    shared.finish(*part, (output.path for output in outputs))


def _upload(run: Run, weights: Weights, jobs: Sequence[Job], shared: Work) -> None:
    """Fill whole stretches of files that only this machine sees, and upload those."""
    part = run.part or WHOLE
    with run.store.stage(run.recipe.name, f"part-{part.number}-of-{part.of}", "") as staging:
        outputs: dict[Name, Output] = {}
        for job in jobs:
            for layout in job.planned.layouts:
                path = staging.path / job.name / layout.path
                path.parent.mkdir(parents=True, exist_ok=True)
                outputs[Name(job.name, layout.path)] = Output(layout, path, stretch_bytes(layout.size_bytes))
        mine = fill(run, weights, [*outputs.values()], part)
        made = {
            name: (output.path, numbers)
            for (name, output), numbers in zip(outputs.items(), mine, strict=True)
        }
        total_bytes = sum(
            len(numbers) * stretch_bytes(path.stat().st_size) for path, numbers in made.values()
        )
        with run.progress.stage("upload", total_bytes) as advance:
            sent = shared.send(made, advance)
    shared.finish(*part, sent)
