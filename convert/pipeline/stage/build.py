"""Build the artifacts: one pass over the weights fills all files, and each artifact is put in place whole."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from convert.formats.base import Made, Planned, Scratch, Workplace
from convert.model.forward.blas import single_threaded
from convert.model.source import Weights
from convert.pipeline.record import manifest
from convert.pipeline.run import Job, Run
from convert.pipeline.weights import fill, legal_files, opened
from convert.store import Begun, Staging, seal
from convert.store.lessons import held
from convert.writer import engine
from convert.writer.codecs.lanes.prepare import preparing
from convert.writer.layout import Layout
from convert.writer.layout import weights as weights_of


def build(run: Run) -> Run:
    """Learn from the weights what a format asks for, then fill and place every artifact."""
    with opened(run) as (known, weights), lessons_held(known, weights) as remove:
        _fill(known, weights, [*learn(known, weights)])
        remove()
    return known


@contextmanager
def lessons_held(run: Run, weights: Weights) -> Iterator[Callable[[], None]]:
    """Hold what is to be learned against other conversions of the source, which may end before this one."""
    if weights.lessons is None or not any(job.planned.learning for job in run.jobs):
        yield lambda: None
        return
    with held(weights.lessons) as remove:
        yield remove


def learn(run: Run, weights: Weights) -> Iterable[Job]:
    """Let each format that learns from the weights do so once, and then plan its files again."""
    learned: dict[int, Any] = {}
    learning = (layout for job in run.jobs if job.planned.learning for layout in job.planned.layouts)
    # Kernels get ready meanwhile: what rounding loses is measured next.
    with preparing(weights_of(learning), run.hub.notes, run.remark):
        # What learns most goes first: the others then find there what they need.
        for job in sorted(run.jobs, key=lambda job: -job.planned.learning):
            format_, options = job.wanted.format, job.wanted.target.options
            if id(options) not in learned:
                learned[id(options)] = format_.learn(
                    job.shared, run.model, options, run.recipe, weights=weights, progress=run.progress
                )
    for job in run.jobs:
        format_, options = job.wanted.format, job.wanted.target.options
        ready = learned[id(options)]
        if ready is job.shared:
            yield job
        else:
            planned = format_.lay_out(run.model, options, job.name, ready)
            if job.planned.learning:
                planned = _measured(run, weights, planned)
            yield replace(job, shared=ready, planned=planned)


def _measured(run: Run, weights: Weights, planned: Planned) -> Planned:
    """Note what rounding by the text loses of each tensor's output."""
    from convert.learning.loss import output_errors, slots_of  # noqa: PLC0415 - for those that learn

    if not (slots := slots_of(planned.layouts)):
        return planned
    size_bytes = sum(sum(slot.sizes_bytes) for slot in slots)
    with run.progress.stage("measure outputs", size_bytes) as advance, single_threaded():
        errors: dict[str, Any] = {**output_errors(weights, planned.layouts, advance)}
    return replace(planned, notes={**planned.notes, "output_errors": errors})


def _fill(run: Run, weights: Weights, jobs: list[Job]) -> None:
    """Fill all files of all targets in one pass.

    What the pass completes is put in place before any tool begins, so that hours later a tool that
    fails takes nothing with it but its own artifact.
    """
    legal = legal_files(run)
    with ExitStack() as stack:
        begun: defaultdict[Path, Begun] = defaultdict(Begun)  # digests, of what is filled
        outputs: list[engine.Output] = []
        stagings: list[Staging] = []
        for job in jobs:
            staging = stack.enter_context(run.store.stage(run.recipe.name, job.name, job.wanted.key))
            stagings.append(staging)
            made = _allocate(staging, job.planned.layouts)
            if job.planned.finish is None:  # what a tool comes after is not final yet
                made = [replace(each, hears=begun[each.path].add) for each in made]
            outputs += made
            write_files(staging.path, {**legal, **job.planned.files})
        scratches: list[tuple[Scratch, Path]] = []  # tools that want the same scratch checkpoint share one
        for job in jobs:
            finish = job.planned.finish
            if finish is not None and all(finish.scratch != scratch for scratch, _ in scratches):
                name = f"scratch-{len(scratches)}"
                staging = stack.enter_context(run.store.stage(run.recipe.name, name, ""))
                scratches.append((finish.scratch, staging.path))
                outputs += _open_scratch(staging, finish.scratch)
        fill(run, weights, outputs)
        built = list(zip(jobs, stagings, strict=True))
        whole = [(job, each) for job, each in built if job.planned.finish is None]
        commit(run, whole, begun)
        for job, staging in built:
            if (finish := job.planned.finish) is not None:
                folder = next(path for scratch, path in scratches if scratch == finish.scratch)
                place = Workplace(folder.absolute(), staging.path.absolute(), run.threads, run.progress)
                done = replace(job, planned=_complete(job.planned, finish.make(place)))
                commit(run, [(done, staging)])


def _open_scratch(staging: Staging, scratch: Scratch) -> list[engine.Output]:
    """Create the files of a tool's scratch checkpoint; return those that the pass is to fill."""
    write_files(staging.path, scratch.files)
    for file, source in scratch.links.items():
        (staging.path / file).symlink_to(source.resolve())
    return _allocate(staging, scratch.layouts)


def _allocate(staging: Staging, layouts: Iterable[Layout]) -> list[engine.Output]:
    return [engine.Output(layout, staging.allocate(layout.path, layout.size_bytes)) for layout in layouts]


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _complete(planned: Planned, made: Made) -> Planned:
    return replace(
        planned,
        encodings={**planned.encodings, **made.encodings},
        deviations=(*planned.deviations, *made.deviations),
        notes={**planned.notes, **made.notes},
    )


def commit(
    run: Run,
    built: list[tuple[Job, Staging]],
    begun: Mapping[Path, Begun] = MappingProxyType({}),
) -> None:
    """Digest what was built, and put it in place."""
    stagings = [staging for _, staging in built]
    if not stagings:
        return
    with run.progress.stage("digest", sum(staging.size_bytes for staging in stagings)) as advance:
        seal(stagings, threads=run.threads, progress=advance, begun=begun)
    for job, staging in built:
        staging.commit(manifest(run, job))
