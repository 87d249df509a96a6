"""Workflows are tuples of plain functions, applied in turn to a frozen value."""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from convert import pipeline
from convert.formats import load_recipe
from convert.pipeline import ASSEMBLE, CONVERT, PART, PLAN, PUBLISH, RUN, VERIFY, fold, start, steps, when
from convert.pipeline.stage.choose import choose
from tests import tiny
from tests.hf.describing import make

if TYPE_CHECKING:
    from convert.pipeline.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "model").mkdir()
    path = tmp_path / "r.yaml"
    path.write_text("model: model\ntargets: {gguf: {quants: [Q8_0, F16]}, hf: {}}\n", "utf-8")
    return start(load_recipe(path), {"out": tmp_path / "out", "only": ["gguf-F16"], "offline": True})


def test_a_stage_can_be_called_alone(run: Run) -> None:
    chosen = choose(run)
    assert [target.name for target in chosen.targets] == ["gguf-F16"]
    assert run == replace(chosen, targets=run.targets)
    with pytest.raises(FrozenInstanceError):
        run.threads = 3  # type: ignore[misc]


def test_stages_are_applied_in_turn_and_resources_end_with_the_last(run: Run) -> None:
    ended: list[str] = []

    def open_something(run: Run) -> Run:
        run.resources.callback(ended.append, "closed")
        return replace(run, threads=1)

    def add_one(run: Run) -> Run:
        assert not ended
        return replace(run, threads=(run.threads or 0) + 1)

    more = (*when(lambda run: run.only, add_one), *when(lambda run: run.to, add_one))
    stages = (open_something, add_one, *more)
    assert [each.threads for each in steps(run, stages)] == [1, 2, 3, 3]
    assert ended == ["closed"]

    def fail(_: Run) -> Run:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fold(run, (open_something, fail))
    assert ended == ["closed"] * 2


def test_each_stage_is_a_function_in_the_file_of_its_name() -> None:
    named = {stage.__name__ for stage in (*PLAN, *CONVERT, *PART, *ASSEMBLE, *VERIFY, *PUBLISH, *RUN)} - {
        "<lambda>"
    }
    assert {"choose", "pin", "compare", "estimate", "judge", "keep", "send"} <= named
    for name in named:
        stage = importlib.import_module(f"convert.pipeline.stage.{name}").__dict__[name]
        assert inspect.isfunction(stage)
        assert getattr(pipeline, name).__name__ == stage.__name__ == name


def test_no_format_is_imported_for_a_target_that_is_left_out(tmp_path: Path) -> None:
    make(tmp_path / "source", tiny.Recipe("llama"))
    (tmp_path / "r.yaml").write_text(
        "model: source\ntargets: {hf: {}, gguf: {quants: [Q4_K_M]}, onnx: {precision: int4}, gptq: {}}\n"
        "calibration: {packs: [searchqa]}\n",
        "utf-8",
    )
    script = (
        "import sys, pathlib, convert\n"
        "recipe = convert.load_recipe('r.yaml')\n"
        "for function in (convert.plan_recipe, convert.convert_recipe):\n"
        "    function(recipe, only=['hf'], offline=True)\n"
        "print(sorted(name for name in sys.modules if name.startswith('convert.formats.') and "
        "name.endswith('.format')), {'llama_cpp', 'onnx', 'gptqmodel', 'torch'} & set(sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environment,
    )
    assert done.stdout.strip() == "['convert.formats.hf.format'] set()"
