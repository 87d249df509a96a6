"""The last stage: all files of all targets filled in one pass, and each artifact put in place whole."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING

from convert import engine
from convert.card import licence
from convert.source import Pinned, is_legal
from convert.stage import Job, Settings, tools
from convert.store import Deviation as DeviationRecord
from convert.store import FileEntry, Manifest, SourceRecord, seal

if TYPE_CHECKING:
    from convert.formats import Model, Weights


def build(settings: Settings, pinned: Pinned, model: Model, weights: Weights, jobs: list[Job]) -> None:
    """Fill all files of all targets in one pass, digest them, and put each artifact in place whole."""
    recipe = settings.recipe
    legal = {name: (pinned.folder / name).read_bytes() for name in pinned.files if is_legal(name)}
    with ExitStack() as stack:
        outputs: list[engine.Output] = []
        stagings = []
        for job in jobs:
            staging = stack.enter_context(
                settings.store.stage(recipe.name, job.wanted.target, job.wanted.key)
            )
            stagings.append(staging)
            outputs += (
                engine.Output(layout, staging.allocate(layout.path, layout.size_bytes))
                for layout in job.planned.layouts
            )
            for name, content in {**legal, **job.planned.files}.items():
                path = staging.path / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        # However many roles a source tensor fills, it is read once.
        used = {origin.name for origin in weights.origins.values()}
        total = sum(weights.checkpoint.tensors[name].size_bytes for name in used)
        with settings.progress.stage("convert", total) as advance:
            engine.run(
                weights.checkpoint, weights.origins, outputs, threads=settings.threads, advance=advance
            )
        with settings.progress.stage("digest", sum(staging.size_bytes for staging in stagings)) as advance:
            seal(stagings, threads=settings.threads, progress=advance)
        for job, staging in zip(jobs, stagings, strict=True):
            staging.commit(_manifest(settings, pinned, model, job))


def _manifest(settings: Settings, pinned: Pinned, model: Model, job: Job) -> Manifest:
    template = model.tokenizer.chat_template
    return Manifest(
        key=job.wanted.key,
        recipe=settings.recipe.text,
        source=SourceRecord(
            repo=pinned.repo,
            commit=pinned.commit,
            files=tuple(
                FileEntry(path=name, size_bytes=digest.size_bytes, sha256=str(digest.sha256))
                for name, digest in pinned.files.items()
            ),
        ),
        target=job.wanted.target,
        format=job.wanted.target.partition("-")[0],
        options=job.wanted.format.target_options(job.wanted.options, job.wanted.target),
        tools=tools(job.wanted.format),
        tensors=dict(job.planned.encodings),
        deviations=tuple(
            DeviationRecord(**asdict(deviation)) for deviation in (*model.deviations, *job.planned.deviations)
        ),
        licence=licence(dict(model.card)),
        chat_template_sha256=hashlib.sha256(template.encode()).hexdigest() if template else None,
    )
