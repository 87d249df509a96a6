"""Build the artifacts: one pass over the weights fills all files, and each artifact is put in place whole."""

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from convert.checkpoint import open_checkpoint
from convert.formats.base import Made, Planned, Scratch, Workplace
from convert.model.binding import bind
from convert.model.config import read_config
from convert.model.families import family
from convert.model.further import bind_next_layers
from convert.model.source import Weights
from convert.pipeline.adapter import merge
from convert.pipeline.parts import name_parts
from convert.pipeline.record import manifest
from convert.pipeline.run import Job, Run
from convert.pipeline.tied import require_tied
from convert.source import is_legal
from convert.store import Staging, seal
from convert.writer import engine
from convert.writer.codecs.lanes.prepare import preparing
from convert.writer.layout import Layout
from convert.writer.layout import weights as weights_of


def build(run: Run) -> Run:
    """Learn from the weights what a format asks for, then fill and place every artifact."""
    with merge(open_checkpoint(run.files.folder), run) as checkpoint:
        binding = bind(run.model.decoder, run.family.naming, checkpoint.tensors)
        require_tied(checkpoint, read_config(run.files.folder), binding, run.model.decoder)
        if run.model.has_next_layers:
            further = bind_next_layers(run.model.decoder, run.family.naming, checkpoint.tensors)
            binding = replace(binding, origins={**binding.origins, **further})
        canonical = family(run.model.decoder.family).naming.of(run.model.decoder)
        weights = Weights(checkpoint, binding, binding.naming is canonical)
        # Now that the tensors are here, whatever was known of them before.
        run = replace(run, model=replace(run.model, parts=name_parts(binding.left_out)))
        _fill(run, weights, [*_learn(run, weights)])
    return run


def _learn(run: Run, weights: Weights) -> Iterable[Job]:
    """Let each format that learns from the weights do so once, and then plan its files again."""
    learned: dict[int, Any] = {}
    for job in run.jobs:
        format_, options = job.wanted.format, job.wanted.target.options
        if id(options) not in learned:
            learned[id(options)] = format_.learn(
                job.shared, run.model, options, run.recipe, weights=weights, progress=run.progress
            )
        ready = learned[id(options)]
        if ready is job.shared:
            yield job
        else:
            planned = format_.lay_out(run.model, options, job.name, ready)
            yield replace(job, shared=ready, planned=planned)


def _fill(run: Run, weights: Weights, jobs: list[Job]) -> None:
    """Fill all files of all targets in one pass.

    What the pass completes is put in place before any tool begins, so that hours later a tool that
    fails takes nothing with it but its own artifact.
    """
    pinned = run.files
    legal = {name: (pinned.folder / name).read_bytes() for name in pinned.files if is_legal(name)}
    if adapter := run.adapter:
        names = filter(is_legal, adapter.files)
        legal |= {f"adapter-{name}": (adapter.folder / name).read_bytes() for name in names}
    with ExitStack() as stack:
        outputs: list[engine.Output] = []
        stagings: list[Staging] = []
        for job in jobs:
            staging = stack.enter_context(run.store.stage(run.recipe.name, job.name, job.wanted.key))
            stagings.append(staging)
            outputs += _allocate(staging, job.planned.layouts)
            _write_files(staging.path, {**legal, **job.planned.files})
        opened: list[tuple[Scratch, Path]] = []  # tools that want the same scratch checkpoint share one
        for job in jobs:
            finish = job.planned.finish
            if finish is not None and all(finish.scratch != scratch for scratch, _ in opened):
                name = f"scratch-{len(opened)}"
                staging = stack.enter_context(run.store.stage(run.recipe.name, name, ""))
                opened.append((finish.scratch, staging.path))
                outputs += _open_scratch(staging, finish.scratch)
        _pass(run, weights, outputs)
        built = list(zip(jobs, stagings, strict=True))
        _commit(run, [(job, each) for job, each in built if job.planned.finish is None])
        for job, staging in built:
            if (finish := job.planned.finish) is not None:
                folder = next(path for scratch, path in opened if scratch == finish.scratch)
                place = Workplace(folder.absolute(), staging.path.absolute(), run.threads, run.progress)
                done = replace(job, planned=_complete(job.planned, finish.make(place)))
                _commit(run, [(done, staging)])


def _open_scratch(staging: Staging, scratch: Scratch) -> list[engine.Output]:
    """Create the files of a tool's scratch checkpoint; return those that the pass is to fill."""
    _write_files(staging.path, scratch.files)
    for file, source in scratch.links.items():
        (staging.path / file).symlink_to(source.resolve())
    return _allocate(staging, scratch.layouts)


def _allocate(staging: Staging, layouts: Iterable[Layout]) -> list[engine.Output]:
    return [engine.Output(layout, staging.allocate(layout.path, layout.size_bytes)) for layout in layouts]


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _pass(run: Run, weights: Weights, outputs: list[engine.Output]) -> None:
    if not outputs:
        return
    # However many roles a source tensor fills, it is read once.
    slots = (slot for output in outputs for slot in output.layout.slots)
    used = {(each.origin or weights.origins[each.ref]).name for slot in slots for each in slot.pieces}
    total = sum(weights.checkpoint.tensors[name].size_bytes for name in used)
    work = weights_of(output.layout for output in outputs)
    with (
        preparing(work, run.hub.notes, run.remark),
        run.progress.stage("convert", total) as advance,
    ):
        engine.run(weights.checkpoint, weights.origins, outputs, threads=run.threads, advance=advance)


def _complete(planned: Planned, made: Made) -> Planned:
    return replace(
        planned,
        encodings={**planned.encodings, **made.encodings},
        deviations=(*planned.deviations, *made.deviations),
        notes={**planned.notes, **made.notes},
    )


def _commit(run: Run, built: list[tuple[Job, Staging]]) -> None:
    """Digest what was built, and put it in place."""
    stagings = [staging for _, staging in built]
    if not stagings:
        return
    with run.progress.stage("digest", sum(staging.size_bytes for staging in stagings)) as advance:
        seal(stagings, threads=run.threads, progress=advance)
    for job, staging in built:
        staging.commit(manifest(run, job))
