"""What is said of a conversion's time before it begins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from convert import convert_recipe
from convert.formats import load_recipe
from convert.pipeline.result import Plan, PlannedStep, PlannedTarget
from convert.pipeline.slow import announcement, leaving_out
from convert.progress import Silent
from convert.recipe import known_recipes
from tests import tiny
from tests.hf.describing import make

if TYPE_CHECKING:
    from collections.abc import Mapping


class Display(Silent):
    """Keeps what it hears."""

    expected: Mapping[str, float] = {}

    def expect(self, seconds: Mapping[str, float]) -> None:
        self.expected = seconds


def target(name: str, saves_s: float, **more: Any) -> PlannedTarget:
    return PlannedTarget(
        target=name,
        folder=f"o/r/{name}",
        files=(),
        size_bytes=1,
        is_up_to_date=more.get("is_up_to_date", False),
        is_blocked=False,
        deviations=(),
        device=more.get("device"),
        tool_s=0.0,
        saves_s=saves_s,
    )


def plan(*targets: PlannedTarget, steps: tuple[PlannedStep, ...] = ()) -> Plan:
    return Plan(
        recipe="r",
        model="a/b",
        commit=None,
        family="llama",
        parameter_count=1,
        read_bytes=1,
        download_bytes=0,
        targets=targets,
        peak_memory_bytes=1,
        written_bytes=1,
        disk_needed_bytes=1,
        disk_free_bytes=1,
        estimated_s=sum(step.seconds for step in steps),
        steps=steps,
    )


RECIPE = known_recipes()["tiny"]
LAYERS = PlannedStep("gptq layers", 7200.0, 7200.0, "GPTQModel on the CPU")
PASS = PlannedStep("convert", 120.0, 240.0, "encoding Q4_K on 2 cores")


def test_what_takes_hours_is_said_first_with_the_command_without_it() -> None:
    targets = target("gguf-Q4_K_M", 100.0), target("gptq", 7200.0), target("hf", 20.0)
    slow = plan(*targets, steps=(PASS, LAYERS))
    first, second = announcement(slow, RECIPE)
    command = "modelwright convert tiny --only gguf-Q4_K_M --only hf"
    assert first == f"gptq alone: about 2 h 00 min; the others, in about 2 min 00 s: {command}"
    parts = "convert 2 min 00 s + gptq layers 2 h 00 min"
    assert second == f"about 2 h 02 min, most of it GPTQModel on the CPU ({parts})"


def test_a_recipe_that_is_in_no_file_is_no_argument() -> None:
    slow = plan(target("gptq", 7200.0), target("hf", 20.0), steps=(PASS, LAYERS))
    (line,) = leaving_out(slow, Path("made-of-to.yaml"))
    assert line.endswith(": add --only hf")


def test_where_everything_is_slow_there_is_nothing_to_leave_out() -> None:
    assert not list(leaving_out(plan(target("gptq", 7200.0), steps=(LAYERS,)), RECIPE))
    done = target("hf", 0.0, is_up_to_date=True)
    assert not list(leaving_out(plan(target("gptq", 7200.0), done, steps=(LAYERS,)), RECIPE))


def test_a_gpu_is_guessed() -> None:
    guessed = plan(target("gptq", 60.0, device="cuda"), steps=(replace(LAYERS, seconds=60.0),))
    assert list(announcement(guessed, RECIPE)) == ["very roughly 60 s, most of it GPTQModel on the CPU"]


@pytest.mark.parametrize(("seconds", "lines"), [(2.9, 0), (3.1, 1)])
def test_what_is_over_at_once_needs_no_line(seconds: float, lines: int) -> None:
    quick = plan(target("hf", seconds), steps=(replace(PASS, seconds=seconds),))
    assert len(list(announcement(quick, RECIPE))) == lines


def test_a_conversion_tells_its_display_which_steps_come(tmp_path: Path) -> None:
    display = Display()
    make(tmp_path / "model", tiny.Recipe("llama"))
    path = tmp_path / "r.yaml"
    path.write_text("model: model\ntargets: {gguf: {quants: [Q8_0]}, hf: {}}\n", "utf-8")
    convert_recipe(load_recipe(path), out=tmp_path / "out", offline=True, progress=display)
    assert list(display.expected) == ["start", "convert", "digest"]
    assert all(0 < seconds < 10 for seconds in display.expected.values())
