"""Build one part of every file, in a folder that all machines see."""

from convert.pipeline.run import Run
from convert.pipeline.stage.build import learn
from convert.pipeline.weights import fill, opened
from convert.store.part import Parts
from convert.writer.engine import WHOLE, Output


def build_part(run: Run) -> Run:
    """Fill this part of every file, unless that is on the disk already."""
    part, shared = run.part or WHOLE, parts_of(run)
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


def parts_of(run: Run) -> Parts:
    """Find the folder of the parts of what is to be built."""
    return run.store.parts(run.recipe.name, (job.wanted.key for job in run.jobs))
