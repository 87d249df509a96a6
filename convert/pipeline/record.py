"""The manifest of an artifact: everything that decided its bytes, and what came out."""

import hashlib

from pydantic import JsonValue

from convert.extras import installed
from convert.formats.base import deviations
from convert.model.card import front_matter, license_of
from convert.model.source import Model
from convert.pipeline.run import Job, Run
from convert.recipe.redact import redact
from convert.source import Pinned
from convert.store import AdapterRecord, FileEntry, Manifest, ModelRecord, SourceRecord, TokenRecord
from convert.version import version


def manifest(run: Run, job: Job) -> Manifest:
    """Record what an artifact was made from, and how."""
    model, pinned, wanted = run.model, run.files, job.wanted
    return Manifest(
        key=wanted.key,
        recipe=redact(run.recipe.text),
        source=SourceRecord(repo=pinned.repo, commit=pinned.commit, files=_entries(pinned)),
        adapter=_adapter_record(run),
        target=wanted.target.name,
        format=wanted.format.name,
        model=_model_record(model),
        options={**wanted.target.own_options, **job.planned.notes, **_transform(run)},
        format_revision=wanted.format.REVISION,
        # Those that decide the bytes are in the key too.
        tools={
            "modelwright": version(),
            "numpy": installed("numpy"),
            **wanted.format.tools(wanted.target.options, wanted.target.name),
        },
        tensors=dict(job.planned.encodings),
        deviations=deviations(model, job.planned),
        license=license_of(dict(model.card)),
        chat_template_sha256=_template_sha256(model),
    )


def _transform(run: Run) -> dict[str, JsonValue]:
    """Say what was done to the weights before the format saw them, and by which text or seed."""
    if run.recipe.transform is None:
        return {}
    text: dict[str, JsonValue] = {}
    if run.recipe.learns_scales and run.recipe.calibration:
        text = {"calibration": run.recipe.calibration.model_dump(mode="json", exclude_none=True)}
    return {"transform": {**run.recipe.transform.model_dump(mode="json"), **text}}


def _entries(pinned: Pinned) -> tuple[FileEntry, ...]:
    return tuple(
        FileEntry(path=name, size_bytes=digest.size_bytes, sha256=str(digest.sha256))
        for name, digest in pinned.files.items()
    )


def _adapter_record(run: Run) -> AdapterRecord | None:
    if run.adapter is None or run.lora is None:
        return None
    card, _ = front_matter(run.adapter.folder)
    return AdapterRecord(
        repo=run.adapter.repo,
        commit=run.adapter.commit,
        files=_entries(run.adapter),
        base=run.lora.config.base,
        license=license_of(card),
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
        sampling=model.sampling,
    )


def _template_sha256(model: Model) -> str | None:
    template = model.tokenizer.chat_template
    return hashlib.sha256(template.encode()).hexdigest() if template else None
