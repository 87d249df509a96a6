"""Judge the artifacts: open, question and measure each, and compare it with its source."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from convert.pipeline.run import AnyTrial
from convert.pipeline.source_copy import copy_source
from convert.pipeline.stage.describe import read_source
from convert.source import Pinned, digest_of_all
from convert.store import ADAPTER_FOLDER
from verify import workflow
from verify.baseline import Source

# With fewer, handing a token's work from core to core takes longer than doing it; on a busy machine, by far.
SMALL_BYTES = 64 << 20


def judge(trial: AnyTrial) -> AnyTrial:
    """Make the report, and show how it goes on meanwhile."""
    pinned, adapter, files = trial.files, trial.adapter, dict(trial.files.files)
    if adapter:
        files |= {f"{ADAPTER_FOLDER}{name}": digest for name, digest in adapter.files.items()}
    size_bytes = sum(digest.size_bytes for digest in files.values())
    plan = trial.questions
    if trial.threads is None and size_bytes < SMALL_BYTES:
        plan = replace(plan, threads=1)
    names = [subject.name for subject in trial.subjects]
    with TemporaryDirectory(prefix="modelwright-") as workspace, trial.watching(names) as watch:
        source = Source(
            folder=pinned.folder,
            tokenizer=write_tokenizer(pinned.folder, Path(workspace, "tokenizer"), trial.hub.notes),
            repo=pinned.repo,
            commit=pinned.commit,
            digest=digest_of_all({name: str(digest.sha256) for name, digest in files.items()}),
            size_bytes=size_bytes,
            adapter=adapter.folder if adapter else None,
            adapter_name=_name(adapter) if adapter else None,
            copy=partial(copy_source, trial),
        )
        report = workflow.verify_artifacts(trial.subjects, source, plan, recipe=trial.recipe, watch=watch)
    is_opened_otherwise = (trial.runtime or trial.serve) and (trial.verify.runtime or trial.verify.serve)
    is_other_budget = trial.measures != "all" or trial.budget not in (None, trial.verify.budget)
    if trial.packs or trial.tasks or trial.text or trial.texts or is_opened_otherwise or is_other_budget:
        report = report.model_copy(update={"recipe_sha256": None})  # not as the recipe asks
    return replace(trial, report=report)


def _name(adapter: Pinned) -> str:
    return f"{adapter.repo} at {adapter.commit}" if adapter.repo else "a local folder"


def write_tokenizer(model: Path, folder: Path, notes: Path | None = None) -> Path:
    """Write the source's tokenizer in the form that every library reads."""
    _, _, tokenizer = read_source(model, notes)
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_bytes(tokenizer.json)
    for name, content in (
        ("tokenizer_config.json", tokenizer.config),
        ("generation_config.json", {"eos_token_id": list(tokenizer.eog_ids)}),
    ):
        (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return folder
