"""Estimate what a conversion reads, builds and writes, and what that costs, before any of it is done."""

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from convert.checkpoint.adapter import cost
from convert.deviation import count_matrices
from convert.errors import Failure
from convert.formats.base import deviations
from convert.pipeline.forecast import Forecast
from convert.pipeline.result import Plan, PlannedFile, PlannedStep, PlannedTarget
from convert.pipeline.run import Job, Run
from convert.pipeline.stage.make_room import disk_bytes
from convert.pipeline.transform import transform_cost
from convert.size import size
from convert.source import missing_bytes
from convert.store import Store, free_bytes
from convert.writer import engine
from convert.writer.codecs.lanes.prepare import advise
from convert.writer.layout import weights, widest

# The interpreter, numpy and a vocabulary's tables, before the first slice is read.
PROGRAM_BYTES = 160 << 20
# To start the interpreter, to import what is needed, and to put artifacts in place.
START_S = 0.9


def estimate(run: Run) -> Run:
    """Add up the figures of all artifacts that are to be built."""
    missing = [job for job in run.jobs if not job.wanted.is_up_to_date]
    written_bytes = sum(job.planned.size_bytes for job in missing)
    threads = run.threads or engine.available_threads()
    decoder = run.model.decoder
    layouts = [layout for job in missing for layout in job.planned.layouts]
    widest_row = max([widest(layouts), *(shape[-1] for _, shape in decoder.shapes())])
    # What is computed beforehand, such as ONNX's tables of rotary positions, is held until it is written.
    held_bytes = sum(
        len(data) for job in missing for layout in job.planned.layouts for _, data in layout.fixed
    )
    slots = (slot for layout in layouts for slot in layout.slots)
    most_weights = engine.slice_weights(piece.codec or slot.codec for slot in slots for piece in slot.pieces)
    pass_bytes = PROGRAM_BYTES + engine.peak_bytes(threads, widest_row, most_weights) + held_bytes
    if run.lora:
        pass_bytes += cost.memory_bytes(run.lora, slices=threads, slice_weights=most_weights)
    learning = [job.planned.learning_memory_bytes for job in missing]
    if transform := transform_cost(run):
        learning.append(transform.memory_bytes)
    learning_bytes = PROGRAM_BYTES + max(learning, default=0)
    advise(weights(layouts), run.remark)
    tools = [job.planned.finish for job in missing if job.planned.finish]
    # A conversion describes the source, and lays out the artifacts, as was just done here.
    started_s = START_S + time.process_time() - run.described_core_s
    forecast = Forecast(run, threads)
    steps = (PlannedStep("start", started_s, started_s, "one core"), *forecast.steps(missing))
    plan = Plan(
        recipe=run.recipe.name,
        model=run.recipe.model,
        commit=run.listing.commit,
        adapter=run.recipe.adapter_place[0] if run.recipe.adapter_place else None,
        adapter_commit=run.adapter.commit if run.adapter else None,
        family=decoder.family,
        parameter_count=decoder.parameter_count,
        read_bytes=run.source.weight_bytes if missing else 0,
        download_bytes=missing_bytes(run.listing, run.source.weights, hub=run.hub) if missing else 0,
        targets=tuple(_target(run, job, forecast, missing) for job in run.jobs),
        peak_memory_bytes=max([pass_bytes, learning_bytes, *(tool.memory_bytes for tool in tools)]),
        written_bytes=written_bytes,
        disk_needed_bytes=disk_bytes(run, missing),
        disk_free_bytes=free_bytes(run.store.root),
        estimated_s=_total_s(steps) if missing else 0.0,
        steps=steps if missing else (),
    )
    return replace(run, plan=plan)


def refuse_impossible(plan: Plan, out: Path) -> None:
    """Refuse a plan that cannot be carried out: a folder is in the way, or the disk is too small."""
    for target in plan.targets:
        if target.is_blocked:
            Store(out).require_free(plan.recipe, target.target)
    lacking_bytes = plan.disk_needed_bytes - plan.disk_free_bytes
    if lacking_bytes > 0:
        raise Failure(
            f"{out}: {size(lacking_bytes)} too little space on this disk",
            "choose another folder with --out, or fewer targets with --only",
        )


def _target(run: Run, job: Job, forecast: Forecast, missing: list[Job]) -> PlannedTarget:
    planned, finish = job.planned, job.planned.finish
    others = [each for each in missing if each is not job]
    files = [PlannedFile(layout.path, layout.size_bytes) for layout in planned.layouts]
    if finish:
        files.append(PlannedFile(finish.path, finish.size_bytes))
    return PlannedTarget(
        job.name,
        str(run.store.folder(run.recipe.name, job.name)),
        tuple(files),
        planned.size_bytes,
        job.wanted.is_up_to_date,
        not job.wanted.is_up_to_date and _is_blocked(run, job),
        deviations(run.model, planned),
        finish.device if finish else None,
        forecast.tool_s(job),
        max(0.0, _total_s(forecast.steps(missing)) - _total_s(forecast.steps(others))),
        count_matrices(planned.encodings),
    )


def _total_s(steps: Iterable[PlannedStep]) -> float:
    return sum(step.seconds for step in steps)


def _is_blocked(run: Run, job: Job) -> bool:
    try:
        run.store.require_free(run.recipe.name, job.name)
    except Failure:
        return True
    return False
