"""What the plan says is what the conversion does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from convert import convert_recipe, plan_recipe
from convert.errors import Failure
from convert.store import space
from tests import tiny
from tests.gptq.making import copying, recipe
from tests.hf.describing import make

if TYPE_CHECKING:
    from pathlib import Path


def test_a_disk_that_is_enough_for_the_plan_is_enough_for_the_conversion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copying(monkeypatch)
    source = make(tmp_path / "source", tiny.Recipe("llama"))
    asked, out = recipe(tmp_path, source, "hf: {}\n  gptq: {engine: gptqmodel}"), tmp_path / "artifacts"
    planned = plan_recipe(asked, out=out, offline=True)
    assert planned.written_bytes == sum(target.size_bytes for target in planned.targets)
    monkeypatch.setattr(space, "free_bytes", lambda _: planned.disk_needed_bytes - 1)
    with pytest.raises(Failure, match="needed"):
        convert_recipe(asked, out=out, offline=True)
    monkeypatch.setattr(space, "free_bytes", lambda _: planned.disk_needed_bytes)
    convert_recipe(asked, out=out, offline=True)
    done = plan_recipe(asked, out=out, offline=True)
    assert (done.written_bytes, done.disk_needed_bytes, done.read_bytes) == (0, 0, 0)


def test_fewer_threads_take_a_tool_longer(tmp_path: Path) -> None:
    asked = recipe(tmp_path, make(tmp_path / "source", tiny.Recipe("llama")), "gptq: {engine: gptqmodel}")
    one, four = (plan_recipe(asked, out=tmp_path / "artifacts", offline=True, threads=n) for n in (1, 4))
    assert one.targets[0].tool_s > four.targets[0].tool_s
    assert one.estimated_s > four.estimated_s
