"""Tasks of lm-evaluation-harness give the figures that the harness's own client of Transformers gives."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from convert.errors import Failure, UsageFailure
from tests.verify.opening import opened
from verify.harness import TaskScore, against, load_tasks, task_drop

if TYPE_CHECKING:
    from tests.verify.conftest import Made

TASKS = Path(__file__).parent / "tasks"
NAMES = ("planets.yaml", "planets_said.yaml", "planets_read.yaml")
MARK = pytest.mark.apart


def score(**changes: Any) -> TaskScore:
    known = TaskScore("planets", "acc", 0.6, 0.1, 10, 10, 0, "1.0", "json", is_more_better=True)
    return replace(known, **changes)


def test_a_drop_is_of_what_should_be_high() -> None:
    source = (score(value=0.8), score(metric="bits_per_byte", value=1.0, is_more_better=False))
    found = against((score(), score(metric="bits_per_byte", value=9.0, is_more_better=False)), source)
    assert task_drop(found) == pytest.approx(0.2)
    assert [each.source for each in found] == [0.8, 1.0]
    assert task_drop(found[1:]) is None
    assert task_drop(()) is None


@pytest.fixture(scope="module")
def harness() -> Any:
    return pytest.importorskip("lm_eval", reason="the extra eval is not installed")


@MARK
def test_figures_are_the_harness_own(harness: Any, chat: Made) -> None:
    evaluate = harness.evaluate
    model = importlib.import_module("lm_eval.models.huggingface").HFLM
    tasks = load_tasks(NAMES, None, TASKS, is_offline=True)
    with opened("transformers", chat.source, dtype="float32") as worker:
        found = tasks.scores(worker)
        assert tasks.scores(worker) == found
    wanted = evaluate(model(str(chat.source), device="cpu", dtype="float32"), tasks.loaded, log_samples=False)
    for each in found:
        figures = wanted["results"][each.task]
        assert each.value == pytest.approx(figures[f"{each.metric},none"], rel=1e-4), each
        error = figures[f"{each.metric}_stderr,none"]
        assert each.stderr == (pytest.approx(error) if isinstance(error, float) else None), each
        assert (each.questions, each.of) == (10, 10)
    assert {each.metric for each in found} == {"acc", "acc_norm", "exact_match", "bits_per_byte"}


@MARK
@pytest.mark.usefixtures("harness")
def test_other_runtimes_answer_alike(chat: Made, tmp_path: Path) -> None:
    tasks = load_tasks(NAMES[:2], 6, TASKS, is_offline=True)
    with opened("transformers", chat.source, dtype="float32") as worker:
        source = tasks.source_scores(worker, tmp_path / "key")
    with opened("llama_cpp", chat.f32) as worker:
        assert tasks.source_scores(worker, tmp_path / "key") == source  # what was answered before
        found = against(tasks.scores(worker), source)
    assert task_drop(found) == 0
    assert found[0].questions == 6


@MARK
@pytest.mark.usefixtures("harness")
def test_what_cannot_be_loaded_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageFailure, match="has no task 'nonesuch'"):
        load_tasks(["nonesuch"], 5, tmp_path, is_offline=True)
    with pytest.raises(UsageFailure, match="no such task file"):
        load_tasks(["mine.yaml"], 5, tmp_path, is_offline=True)
    (tmp_path / "mine.yaml").write_text((TASKS / "planets.yaml").read_text("utf-8"), "utf-8")
    with pytest.raises(Failure, match=r"task mine.yaml: .*planets.jsonl"):
        load_tasks(["mine.yaml"], 5, tmp_path, is_offline=True)


@MARK
@pytest.mark.usefixtures("harness")
def test_a_whole_verification_has_them(chat: Made, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "convert.cli", "verify", str(chat.q8_0), "--source", str(chat.source)]
    command += ["--tasks", str(TASKS / "planets.yaml"), "--budget", "1min", "--only-quality"]
    said = subprocess.run(
        [*command, "--offline", "--json", "--report", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode in (0, 3), said.stderr
    (artifact,) = json.loads(said.stdout)["artifacts"]
    assert [each["metric"] for each in artifact["tasks"]] == ["acc", "acc_norm"]
    assert all(each["source"] is not None for each in artifact["tasks"])
    assert "planets, acc" in (tmp_path / "report.md").read_text("utf-8")
