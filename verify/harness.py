"""Tasks of lm-evaluation-harness, asked of an open worker: the field's own yardstick.

The harness makes the prompts and computes the figures; this hands its questions on. Its task files may name
Python functions: whoever lists a task file runs them, as with any program of theirs.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from contextlib import chdir, redirect_stdout, suppress
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import Failure, UsageFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from verify.worker import Worker

# Of figures that are no mean; the harness's own 100,000 take minutes.
RESAMPLES = 1000
SEED = 1234  # of examples in prompts; the harness's own
OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


@dataclass(frozen=True)
class TaskScore:
    """One figure of one task, and the source's next to it."""

    task: str
    metric: str  # with the filter that answers went through, where there is one
    value: float
    stderr: float | None
    questions: int
    of: int
    shots: int  # examples in each prompt
    version: str
    dataset: str
    is_more_better: bool | None
    source: float | None = None  # None on the source's own
    source_stderr: float | None = None

    @property
    def drop(self) -> float | None:
        """Return how much of the source's figure is lost; None where more is not better."""
        return self.source - self.value if self.is_more_better and self.source is not None else None


def task_drop(scores: Sequence[TaskScore]) -> float | None:
    """Return the most that any task lost; None where there is none."""
    return max((each.drop for each in scores if each.drop is not None), default=None)


def against(scores: Sequence[TaskScore], source: Sequence[TaskScore]) -> tuple[TaskScore, ...]:
    """Put the source's figures next to an artifact's."""
    known = {(each.task, each.metric): each for each in source}
    pairs = ((each, known.get((each.task, each.metric))) for each in scores)
    return tuple(
        replace(each, source=own.value, source_stderr=own.stderr) if own else each for each, own in pairs
    )


@dataclass(frozen=True)
class Tasks:
    """The tasks that are asked, loaded once, with their data."""

    names: tuple[str, ...]
    questions: int | None  # of each task at most
    loaded: Any  # as the harness has them
    digest: str  # of what decides the questions

    def scores(self, worker: Worker) -> tuple[TaskScore, ...]:
        """Ask an open worker everything."""
        from lm_eval.evaluator import evaluate  # noqa: PLC0415 - an extra

        from verify.harness_model import WorkerModel  # noqa: PLC0415 - the same

        for task in self.loaded["tasks"].values():
            task.set_fewshot_seed(seed=SEED)
        with redirect_stdout(sys.stderr):
            found = evaluate(
                lm=WorkerModel(worker),
                task_dict=self.loaded,
                limit=self.questions,
                bootstrap_iters=RESAMPLES,
                log_samples=False,
            )
        return tuple(_scores(found, self.loaded["tasks"]))

    def source_scores(self, worker: Worker, cache: Path) -> tuple[TaskScore, ...]:
        """Ask the source, or read what it answered before, from a file of its name."""
        path = cache.with_name(f"{cache.name}-{self.digest[:16]}.tasks")
        try:
            return tuple(TaskScore(**each) for each in json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            found = self.scores(worker)
        with suppress(OSError):  # a cache that cannot be written must not end a verification
            path.write_text(json.dumps([asdict(each) for each in found]), "utf-8")
        return found


def load_tasks(names: Sequence[str], questions: int | None, base: Path, *, is_offline: bool) -> Tasks:
    """Load tasks by the harness's names or from YAML files, with their data; refuse what cannot be loaded."""
    version = metadata.version("lm-eval")
    if is_offline:
        for name in OFFLINE:
            os.environ[name] = "1"
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from lm_eval.tasks import TaskManager  # noqa: PLC0415 - an extra

    files = {name: base / name for name in names if is_file_name(name)}
    manager = TaskManager(include_defaults=len(files) < len(names))
    objects: list[Any] = []
    for name in names:
        file = files.get(name)
        # Data files are named relative to the task's, wherever the command runs.
        with chdir(file.parent if file else Path.cwd()), redirect_stdout(sys.stderr):
            objects.append(_loaded(manager, name, file, is_offline=is_offline))
    flat = [each for found in objects for each in (found if isinstance(found, list) else [found])]
    loaded = manager.load(flat)
    for task in loaded["tasks"].values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
    contents = [file.read_bytes().hex() for file in files.values()]
    digest = hashlib.sha256(json.dumps([version, *names, questions, contents]).encode()).hexdigest()
    return Tasks(tuple(names), questions, loaded, digest)


def is_file_name(name: str) -> bool:
    """Tell a task's file from a task's name."""
    return name.endswith((".yaml", ".yml"))


def _loaded(manager: Any, name: str, file: Path | None, *, is_offline: bool) -> Any:
    if file and not file.is_file():
        raise UsageFailure(f"{file}: no such task file", "give a YAML file of lm-evaluation-harness")
    if not file and name not in manager.all_tasks:
        raise UsageFailure(
            f"lm-evaluation-harness has no task {name!r}", "`lm-eval ls tasks` lists those that it has"
        )
    load: Callable[[str], Any] = manager._load_spec  # noqa: SLF001 - what `load` does with each
    try:
        return load(str(file.absolute()) if file else name)
    except Exception as error:  # a task's file and its data are a stranger's
        offline = "its data is not here, and this is offline" if is_offline else ""
        raise Failure(
            f"task {name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}",
            offline or "its file, or the data that it names, cannot be read",
        ) from error


def _scores(found: Any, tasks: Any) -> list[TaskScore]:
    scores: list[TaskScore] = []
    for task, figures in found["results"].items():
        if task not in tasks:  # a group's figures are of its tasks' together
            continue
        counts, better = found["n-samples"][task], found["higher_is_better"].get(task, {})
        for key, value in figures.items():
            metric, comma, filtered = key.partition(",")
            if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = figures.get(f"{metric}_stderr,{filtered}")
            scores.append(
                TaskScore(
                    task=task,
                    metric=metric if filtered == "none" else f"{metric} ({filtered})",
                    value=float(value),
                    stderr=float(error) if isinstance(error, int | float) else None,
                    questions=int(counts["effective"]),
                    of=int(counts["original"]),
                    shots=int(found["n-shot"].get(task) or 0),
                    version=str(found["versions"].get(task)),
                    dataset=str(found["configs"][task].get("dataset_path") or ""),
                    is_more_better=better.get(metric),
                )
            )
    return scores
