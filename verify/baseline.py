"""The source model's own tokens, logits and answers, which artifacts are compared with."""

import hashlib
import json
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from convert.child import ChildFailure
from convert.errors import Failure
from convert.store import require_space
from verify.answer_cache import cached
from verify.answerer import WorkerAnswerer
from verify.budget import expected_tokens, whole
from verify.forecast import Forecast
from verify.harness import TaskScore
from verify.logprobs import MIN_LENGTH, Reference, Windows, cut, save_reference
from verify.parity import Profile, read_profile
from verify.pilot import Paced, pilot
from verify.report import Opened, Scenarios, SourceResult
from verify.runtimes import RuntimeSettings
from verify.scenarios.prompt import Answerer
from verify.scenarios.running import answers_of, run
from verify.scenarios.score import scores, smoke
from verify.scope import Scope
from verify.source_copy import Maker, is_worth, open_copy, sample_of
from verify.survey import Others, announce, full_asking_s, settle, wanted
from verify.task import Plan, Watch
from verify.worker import Launch, Worker

NAME = "source"
# The logits of a vocabulary of 152,000 take 0.6 MB a position. Two such files are here at once, at most.
REFERENCE_BYTES = 2 << 30
FEWEST_WINDOWS = 4
# For all sources together.
CACHE_BYTES = 6 << 30


@dataclass(frozen=True)
class Source:
    """The source's folder, and where it came from."""

    folder: Path
    tokenizer: Path  # the folder with its canonical tokenizer.json
    repo: str | None
    commit: str | None
    digest: str  # of the digests of all its files
    size_bytes: int  # of them together
    adapter: Path | None = None  # the folder of a LoRA adapter to put on it
    adapter_name: str | None = None
    copy: Maker | None = None  # converts it to a GGUF


@dataclass(frozen=True)
class Baseline:
    """The source's results, profile and logits."""

    result: SourceResult
    profile: Profile
    reference: Reference | None  # of the first windows; None where only speed is measured
    windows: Windows  # all of them
    rest: tuple[Windows, ...]  # those whose logits do not fit a file with the first, in parts
    plan: Plan  # what fits of what was to be asked
    scope: Scope
    launch: Launch  # how the source was opened
    asked: Launch  # the same, or its copy's
    tasks: tuple[TaskScore, ...] = ()  # of lm-evaluation-harness


def question_source(
    source: Source, plan: Plan, cache: Path, watch: Watch, others: Others = MappingProxyType({})
) -> Baseline:
    """Run the source in Transformers, and ask it or its copy what fits; its failure ends the verification."""
    forecast = watch if isinstance(watch, Forecast) else Forecast(watch)
    forecast.doing(NAME, "opening")
    # The child works in a scratch folder, where a relative path leads nowhere.
    options = {"tokenizer": str(source.tokenizer.absolute())}
    if source.adapter:
        options["adapter"] = str(source.adapter.absolute())
    settings = RuntimeSettings(plan.context, plan.threads, options)
    launch = Launch("transformers", source.folder.absolute(), settings, plan.limits)
    plan = wanted(plan)
    try:
        with ExitStack() as stack:
            worker = stack.enter_context(Worker(launch))
            opened = Opened.of(worker)
            forecast.doing(NAME, "tokens and template")
            profile = read_profile(worker)
            windows = windows_of(worker, plan) if plan.measures != "speed" else Windows(())
            copy, reference, fitted = None, None, whole(plan, len(windows.ids))
            if plan.budget_s is not None:
                forecast.doing(NAME, "short measurement")
                model = Paced(worker, replace(pilot(worker, plan), waits=True))
                if (make := source.copy) and _is_worth_a_copy(source, model, plan, windows, forecast):
                    forecast.doing(NAME, "making a copy that answers faster")
                    reference = _logits(cache, source, worker, sample_of(windows))
                    copy, faster = open_copy(
                        make, cache / _key(source, worker), worker, reference, source.tokenizer
                    )
                    if faster:
                        worker.close()
                        worker = stack.enter_context(faster)
                        model = Paced(worker, replace(pilot(worker, plan), itself=model.rates, waits=True))
                fitted = settle(model, plan, len(windows.ids), others, forecast)
            plan, windows = fitted.plan, windows.only(fitted.windows)
            forecast.expect(fitted.expected)
            announce(fitted, forecast)
            parts = windows.parts(_affordable(worker, windows)) if windows.ids else ()
            if parts:
                forecast.doing(NAME, "logits")
                if reference is None or reference.windows != parts[0]:
                    reference = _logits(cache, source, worker, parts[0])
                forecast.done(NAME, "odds")
                _prune(cache, reference.path)
            asked = WorkerAnswerer(worker)
            with cached(asked, cache / f"{_key(source, worker, asked.seats)}.answers") as answerer:
                answers = converse(answerer, plan, forecast, NAME)
            if answers:  # by the source's own, those of its artifacts are foreseen better
                forecast.correct("dialogues", _tokens(answers) / expected_tokens(plan))
            require_alive(worker)
            tasks = _tasks(worker, plan, cache / _key(source, worker), forecast)
    except ChildFailure as failure:
        tail = " | ".join(failure.fault.stderr_tail[-3:])
        raise Failure(
            f"the source could not be questioned: {failure.message}", tail or failure.hint
        ) from None
    result = SourceResult(
        repo=source.repo,
        commit=source.commit,
        digest=source.digest,
        size_bytes=source.size_bytes,
        adapter=source.adapter_name,
        opened=opened,
        scenarios=answers,
        answered_by=copy,
    )
    return Baseline(
        result=result,
        profile=profile,
        reference=reference,
        windows=windows,
        rest=parts[1:],
        plan=plan,
        scope=fitted.scope,
        launch=launch,
        asked=worker.launch,
        tasks=tasks,
    )


def _tasks(worker: Worker, plan: Plan, cache: Path, forecast: Forecast) -> tuple[TaskScore, ...]:
    """Ask the harness's tasks, if there are any."""
    if plan.tasks is None or plan.measures == "speed":
        return ()
    forecast.doing(NAME, "tasks")
    return plan.tasks.source_scores(worker, cache)


def _is_worth_a_copy(source: Source, model: Paced, plan: Plan, windows: Windows, forecast: Forecast) -> bool:
    """Say whether a copy can be compared, and is expected to save time."""
    if not windows.ids:
        return False
    left_s = (plan.budget_s or 0.0) - forecast.elapsed_s()
    return is_worth(source.size_bytes, model.rates, full_asking_s(model, plan, len(windows.ids)), left_s)


def _tokens(found: Scenarios) -> int:
    return sum(each.tokens or 0 for transcript in found.transcripts for each in transcript.exchanges)


def is_offloaded(result: SourceResult) -> bool:
    """Tell whether the source's weights stay on disk while it works, so that its speed says nothing."""
    return result.opened is not None and result.opened.notes.get("offload", "none") != "none"


def converse(
    model: Answerer, plan: Plan, forecast: Forecast, name: str, source: Scenarios | None = None
) -> Scenarios | None:
    """Go through every dialogue with an open model; one that dies in between leaves the rest unanswered."""
    total, done = sum(len(pack.dialogues) for pack in plan.packs), 0
    if not total:
        return None

    forecast.doing(name, f"dialogue 0 of {total}")

    def note(_: object) -> None:
        nonlocal done
        done += 1
        forecast.done(name, "dialogues", done / total)
        forecast.doing(name, f"dialogue {done} of {total}")

    transcripts = run(plan.packs, model, note, answers_of(source.transcripts) if source else None)
    return Scenarios(smoke=smoke(transcripts), scores=scores(transcripts), transcripts=transcripts)


def require_alive(worker: Worker) -> None:
    """Raise the fault that ended a process: to a dialogue it was only a turn without an answer."""
    if worker.fault is not None:
        raise ChildFailure(worker.fault)


def windows_of(worker: Worker, plan: Plan) -> Windows:
    """Cut the beginning of the text into windows, by the source's own tokenizer."""
    info = worker.info
    if plan.texts:
        return _of_each_kind(worker, plan)
    ids = worker.tokenize(plan.text)
    # A text that is too short for several windows of the usual length is cut into shorter ones.
    length = min(plan.window, info.context, len(ids) // FEWEST_WINDOWS)
    if len(ids) // FEWEST_WINDOWS < MIN_LENGTH:
        least = FEWEST_WINDOWS * MIN_LENGTH
        raise Failure(
            f"{plan.text_name}: {len(ids)} tokens are too few to compare probabilities on: "
            f"{FEWEST_WINDOWS} windows of {MIN_LENGTH} take {least}",
            "give a longer text with --text FILE, or with verify.text in the recipe",
        )
    most = max(1, plan.tokens // max(1, length))
    return cut(ids, length, bos_id=info.bos_id if info.adds_bos else None, most=most)


def _of_each_kind(worker: Worker, plan: Plan) -> Windows:
    """Cut as many windows of each kind of text, or as many as there are."""
    info = worker.info
    texts = {kind: worker.tokenize(text) for kind, text in plan.texts}
    length = min(plan.window, info.context, *map(len, texts.values()))
    most = max(1, plan.tokens // len(texts) // length)
    bos_id = info.bos_id if info.adds_bos else None
    found = {kind: cut(ids, length, bos_id=bos_id, most=most).ids for kind, ids in texts.items()}
    kinds = tuple(kind for kind, windows in found.items() for _ in windows)
    return Windows(tuple(each for windows in found.values() for each in windows), kinds)


def _affordable(worker: Worker, windows: Windows) -> int:
    """Return the logits of how many windows fit a file."""
    return max(1, REFERENCE_BYTES // (4 * (worker.info.vocab_size or 1) * len(windows.scored)))


def _logits(cache: Path, source: Source, worker: Worker, windows: Windows) -> Reference:
    """Return exactly these logits, kept or computed: their file is named by all that determines them."""
    ids = hashlib.sha256(np.array(windows.ids, "<i4").tobytes()).hexdigest()
    path = cache / f"{_key(source, worker, ids, windows.length)}.logits"
    if not path.is_file():
        require_space(cache, windows.positions * (worker.info.vocab_size or 0) * 4)
    return save_reference(worker, windows, path)


def _key(source: Source, worker: Worker, *also: object) -> str:
    """Return a digest of what determines the source's answers: its files, and the runtime as opened."""
    opened = Opened.of(worker).model_dump(mode="json")
    text = json.dumps([source.digest, opened, *also], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _prune(cache: Path, keep: Path) -> None:
    """Remove the least recently used files, down to the cache's size."""
    kept = 0
    for path in sorted(cache.glob("*.*"), key=lambda each: -each.stat().st_mtime):
        kept += path.stat().st_size
        if kept > CACHE_BYTES and not path.name.startswith(keep.name):
            path.unlink(missing_ok=True)
