"""The source model's own tokens, odds and answers: what artifacts are held against."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convert.child import ChildFailure
from convert.errors import Failure
from convert.store import require_space
from verify.answer_cache import recalling
from verify.answerer import WorkerAnswerer
from verify.logprobs import cut, refer
from verify.parity import read_traits
from verify.report import Opened, Scenarios, SourceResult
from verify.runtimes import Settings
from verify.scenarios.running import run
from verify.scenarios.score import scores, smoke
from verify.worker import Launch, Worker

if TYPE_CHECKING:
    from pathlib import Path

    from verify.logprobs import Reference, Windows
    from verify.parity import Traits
    from verify.scenarios.asking import Answerer
    from verify.stage import Plan, Watch

NAME = "source"
# The logits of a vocabulary of 152,000 take 0.6 MB a position.
REFERENCE_BYTES = 2 << 30
# Of all sources together, in the cache.
CACHE_BYTES = 6 << 30


@dataclass(frozen=True)
class Source:
    """Where the source lies, and what it is."""

    folder: Path
    tokenizer: Path  # the folder with its canonical tokenizer.json
    repo: str | None
    commit: str | None
    digest: str  # of the digests of all its files
    size_bytes: int  # of them together


@dataclass(frozen=True)
class Baseline:
    """What the source said."""

    result: SourceResult
    traits: Traits
    reference: Reference


def question_source(source: Source, plan: Plan, cache: Path, watch: Watch) -> Baseline:
    """Run the source in Transformers, and ask it everything; its own failure ends the verification."""
    watch.doing(NAME, "opening")
    try:
        with Worker(launch(source, plan)) as worker:
            watch.doing(NAME, "tokens and template")
            traits = read_traits(worker)
            watch.doing(NAME, "odds")
            windows = _windows(worker, plan)
            reference = refer(worker, windows, _place_of_odds(cache, source, worker, windows))
            _prune(cache, reference.path)
            with recalling(answerer(worker), cache / f"{_key(source, worker)}.answers") as asked:
                answers = converse(asked, plan, watch, NAME)
            require_life(worker)
            opened = describe(worker)
    except ChildFailure as failure:
        tail = " | ".join(failure.fault.stderr_tail[-3:])
        raise Failure(f"the source could not be questioned: {failure.message}", tail) from None
    result = SourceResult(
        repo=source.repo,
        commit=source.commit,
        digest=source.digest,
        size_bytes=source.size_bytes,
        opened=opened,
        scenarios=answers,
    )
    return Baseline(result, traits, reference)


def launch(source: Source, plan: Plan) -> Launch:
    """How the source is opened."""
    # The child works in a scratch folder of its own, where a relative path leads nowhere.
    settings = Settings(plan.context, plan.threads, {"tokenizer": str(source.tokenizer.absolute())})
    return Launch("transformers", source.folder.absolute(), settings, plan.limits)


def describe(worker: Worker) -> Opened:
    """What the report keeps of a runtime."""
    info = worker.info
    return Opened(
        runtime=info.runtime,
        versions=worker.versions,
        notes=dict(info.notes),
        context=info.context,
        kv_bytes_per_token=info.kv_bytes_per_token,
    )


def answerer(worker: Worker, *, may_chat: bool = False) -> WorkerAnswerer:
    """An open model as the scenarios ask it: one without a template is given texts to continue.

    A server shows nobody its template; it `may_chat` where the source does.
    """
    can = worker.info.can
    return WorkerAnswerer(worker, is_chat="template" in can or (may_chat and "tokenize" not in can))


def converse(model: Answerer, plan: Plan, watch: Watch, name: str) -> Scenarios | None:
    """Hold every dialogue with an open model; one that dies meanwhile leaves the rest unanswered."""
    total, done = sum(len(pack.dialogues) for pack in plan.packs), 0
    if not total:
        return None

    def tell(_: object) -> None:
        nonlocal done
        done += 1
        watch.doing(name, f"dialogue {done} of {total}")

    transcripts = run(plan.packs, model, tell)
    return Scenarios(
        smoke=smoke(transcripts),
        scores=scores(transcripts),
        transcripts=transcripts,
    )


def require_life(worker: Worker) -> None:
    """Dialogues take a fault for a turn without an answer; raise it where it ended the process."""
    if worker.fault is not None:
        raise ChildFailure(worker.fault)


def _windows(worker: Worker, plan: Plan) -> Windows:
    """The beginning of the text, as the source's own tokenizer reads it."""
    info = worker.info
    ids = worker.tokenize(plan.text)
    # A text that is too short for several windows of the usual length is cut into shorter ones.
    length = min(plan.window, info.context, len(ids) // 4)
    position_bytes = 4 * (info.vocab_size or 1)
    affordable = REFERENCE_BYTES // (position_bytes * max(1, length // 2))
    most = max(1, min(plan.tokens // max(1, length), affordable))
    return cut(ids, length, bos_id=info.bos_id if info.adds_bos else None, most=most)


def _place_of_odds(cache: Path, source: Source, worker: Worker, windows: Windows) -> Path:
    """The file of exactly these logits: named by all that determines them."""
    ids = hashlib.sha256(np.array(windows.ids, "<i4").tobytes()).hexdigest()
    path = cache / f"{_key(source, worker, ids, windows.length)}.logits"
    if not path.is_file():
        require_space(cache, windows.positions * (worker.info.vocab_size or 0) * 4)
    return path


def _key(source: Source, worker: Worker, *also: object) -> str:
    """Names what the source said: by its files, and by the runtime as it was opened."""
    opened = describe(worker).model_dump(mode="json")
    text = json.dumps([source.digest, opened, *also], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _prune(cache: Path, keep: Path) -> None:
    """Remove what was not used for longest, down to the cache's size."""
    kept = 0
    for path in sorted(cache.glob("*.*"), key=lambda each: -each.stat().st_mtime):
        kept += path.stat().st_size
        if kept > CACHE_BYTES and path != keep:
            path.unlink(missing_ok=True)
