"""The last stage: all files of all targets filled in one pass, and each artifact put in place whole."""

from __future__ import annotations

import hashlib
import math
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from convert.formats.base import Workplace, deviations
from convert.model.card import licence
from convert.pipeline.stage import Job, Settings, tools
from convert.recipe.redact import redact
from convert.source import Pinned, is_legal
from convert.store import Deviation as DeviationRecord
from convert.store import FileEntry, Manifest, ModelRecord, SourceRecord, TokenRecord, seal
from convert.writer import engine

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from convert.formats.base import Made, Planned, Scratch
    from convert.model.source import Model, Weights
    from convert.store import Staging
    from convert.writer.layout import Layout

# The settings of a source's generation_config.json that runtimes take under these names.
_SAMPLING = ("temperature", "top_p", "top_k", "min_p")


def build(settings: Settings, pinned: Pinned, model: Model, weights: Weights, jobs: list[Job]) -> None:
    """Fill all files of all targets in one pass, and put each artifact in place whole.

    What the pass completes is put in place before any tool goes to work, so that hours later a tool that
    fails takes nothing with it but its own artifact.
    """
    recipe = settings.recipe
    legal = {name: (pinned.folder / name).read_bytes() for name in pinned.files if is_legal(name)}
    with ExitStack() as stack:
        outputs: list[engine.Output] = []
        stagings: list[Staging] = []
        for job in jobs:
            staging = stack.enter_context(
                settings.store.stage(recipe.name, job.wanted.target, job.wanted.key)
            )
            stagings.append(staging)
            outputs += _allocated(staging, job.planned.layouts)
            _write_files(staging.path, {**legal, **job.planned.files})
        fed = _Fed(settings, stack)
        for job in jobs:
            if job.planned.finish is not None:
                outputs += fed.open(job.planned.finish.scratch)
        _pass(settings, weights, outputs)
        built = list(zip(jobs, stagings, strict=True))
        _commit(settings, pinned, model, [(job, each) for job, each in built if job.planned.finish is None])
        for job, staging in built:
            if job.planned.finish is not None:
                place = Workplace(
                    fed.folder(job.planned.finish.scratch).absolute(),
                    staging.path.absolute(),
                    settings.threads,
                    settings.progress,
                )
                done = replace(job, planned=_told(job.planned, job.planned.finish.make(place)))
                _commit(settings, pinned, model, [(done, staging)])


class _Fed:
    """The scratch checkpoints of a build: one for all tools that want the same; gone when the build ends."""

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self._opened: list[tuple[Scratch, Path]] = []

    def open(self, scratch: Scratch) -> list[engine.Output]:
        """Make its folder, where there is none yet; what it wants of the pass."""
        if any(scratch == opened for opened, _ in self._opened):
            return []
        name = f"scratch-{len(self._opened)}"
        staging = self._stack.enter_context(self._settings.store.stage(self._settings.recipe.name, name, ""))
        self._opened.append((scratch, staging.path))
        _write_files(staging.path, scratch.files)
        for file, source in scratch.links.items():
            (staging.path / file).symlink_to(source.resolve())
        return _allocated(staging, scratch.layouts)

    def folder(self, scratch: Scratch) -> Path:
        """Where it lies."""
        return next(path for opened, path in self._opened if opened == scratch)


def _allocated(staging: Staging, layouts: Iterable[Layout]) -> list[engine.Output]:
    return [engine.Output(layout, staging.allocate(layout.path, layout.size_bytes)) for layout in layouts]


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _pass(settings: Settings, weights: Weights, outputs: list[engine.Output]) -> None:
    if not outputs:
        return
    # However many roles a source tensor fills, it is read once.
    used = {origin.name for origin in weights.origins.values()}
    total = sum(weights.checkpoint.tensors[name].size_bytes for name in used)
    with settings.progress.stage("convert", total) as advance:
        engine.run(weights.checkpoint, weights.origins, outputs, threads=settings.threads, advance=advance)


def _told(planned: Planned, made: Made) -> Planned:
    return replace(
        planned,
        encodings={**planned.encodings, **made.encodings},
        deviations=(*planned.deviations, *made.deviations),
        notes={**planned.notes, **made.notes},
    )


def _commit(settings: Settings, pinned: Pinned, model: Model, built: list[tuple[Job, Staging]]) -> None:
    """Digest what was built, and put it in place."""
    stagings = [staging for _, staging in built]
    if not stagings:
        return
    with settings.progress.stage("digest", sum(staging.size_bytes for staging in stagings)) as advance:
        seal(stagings, threads=settings.threads, progress=advance)
    for job, staging in built:
        staging.commit(_manifest(settings, pinned, model, job))


def _manifest(settings: Settings, pinned: Pinned, model: Model, job: Job) -> Manifest:
    return Manifest(
        key=job.wanted.key,
        recipe=redact(settings.recipe.text),
        source=SourceRecord(
            repo=pinned.repo,
            commit=pinned.commit,
            files=tuple(
                FileEntry(path=name, size_bytes=digest.size_bytes, sha256=str(digest.sha256))
                for name, digest in pinned.files.items()
            ),
        ),
        target=job.wanted.target,
        format=job.wanted.format.name,
        model=_model_record(model),
        options={
            **job.wanted.options.by_target()[job.wanted.target],
            **job.planned.notes,
        },
        format_revision=job.wanted.format.REVISION,
        tools=tools(job.wanted),
        tensors=dict(job.planned.encodings),
        deviations=tuple(
            DeviationRecord(**asdict(deviation)) for deviation in deviations(model, job.planned)
        ),
        license=licence(dict(model.card)),
        chat_template_sha256=_template_sha256(model),
    )


def _model_record(model: Model) -> ModelRecord:
    decoder, tokenizer = model.decoder, model.tokenizer

    def token(identity: int) -> TokenRecord:
        return TokenRecord(id=identity, text=tokenizer.tokens[identity])

    # The end of the sequence goes first: templates ask for it by its role.
    ends = sorted(tokenizer.eog_ids, key=lambda identity: (identity != tokenizer.eos_id, identity))
    return ModelRecord(
        family=decoder.family,
        parameter_count=decoder.parameter_count,
        context_length=decoder.context_length,
        vocab_size=decoder.vocab_size,
        bos=None if tokenizer.bos_id is None else token(tokenizer.bos_id),
        adds_bos=tokenizer.add_bos,
        ends=tuple(map(token, ends)),
        chat_template_sha256=_template_sha256(model),
        sampling={key: model.generation[key] for key in _SAMPLING if _is_number(model.generation.get(key))},
    )


def _template_sha256(model: Model) -> str | None:
    template = model.tokenizer.chat_template
    return hashlib.sha256(template.encode()).hexdigest() if template else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
