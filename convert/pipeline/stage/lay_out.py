"""Lay out the artifacts: plan every file of each to the byte."""

from dataclasses import replace
from typing import Any

from convert import machine
from convert.formats.render import require_rendered
from convert.pipeline.run import Job, Run
from convert.pipeline.transform import require_transformable


def lay_out(run: Run) -> Run:
    """Plan every file to the byte; refuse what a format cannot express, or a tool has no memory for."""
    require_transformable(run)
    formats = dict.fromkeys(each.target.format_name for each in run.pending)
    require_rendered(run.recipe, formats, run.model.decoder)
    prepared: dict[int, Any] = {}
    jobs: list[Job] = []
    for each in run.pending:
        format_, options = each.format, each.target.options
        if id(options) not in prepared:
            prepared[id(options)] = format_.prepare(run.model, options, run.recipe)
        ready = prepared[id(options)]
        jobs.append(Job(each, ready, format_.lay_out(run.model, options, each.target.name, ready)))
    for job in jobs:
        if job.planned.finish is not None and not job.wanted.is_up_to_date:
            machine.require_memory(job.name, job.planned.finish.memory_bytes)
    return replace(run, jobs=tuple(jobs))
