"""A recipe becomes orders: a read or its parts, tools alone, a verdict for each class of nodes, a release."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from convert.cli import app
from convert.errors import Exit
from convert.fleet.node import perform
from convert.fleet.schedule import Wish, schedule
from convert.formats import load_recipe
from convert.version import version
from tests import tiny
from tests.hf import describing

if TYPE_CHECKING:
    from pathlib import Path

    from convert.fleet.order import Order

RECIPE = """\
model: source
targets:
  gguf: {quants: [Q8_0, Q4_K_M]}
  hf: {}
verify: {on: [cpu-avx512, gpu]}
publish: {to: out}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    describing.make(tmp_path / "source", tiny.Recipe("llama"))
    (tmp_path / "m.yaml").write_text(RECIPE, "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def orders(home: Path, **wish: object) -> tuple[Order, ...]:
    asked = Wish(home / "artifacts", is_offline=True, **wish)  # type: ignore[arg-type]
    return schedule(load_recipe("m.yaml"), asked, {"out": home / "artifacts", "offline": True}).orders


def test_a_read_a_verdict_for_each_class_and_one_release(home: Path) -> None:
    read, first, second, send = orders(home)
    assert read.words[:2] == ("convert", str(home / "m.yaml"))
    assert read.targets == ("gguf-Q8_0", "gguf-Q4_K_M", "hf")
    assert [each.name for each in (read, first, second, send)] == [
        *("m/convert/read", "m/verify/cpu-avx512", "m/verify/gpu", "m/publish/all"),
    ]
    assert first.needs == {"cpu-avx512": 0.001}
    assert first.words[2:4] == ("--on", "cpu-avx512")
    assert second.words[2:4] == ("--on", "gpu")
    assert send.is_local  # where the token is
    assert set(send.after) == {read.name, first.name, second.name}


def test_a_read_in_parts_is_put_together_once(home: Path) -> None:
    found = orders(home, parts=3, publishes=False)
    assert [each.name for each in found[:4]] == [
        *("m/part/1/3", "m/part/2/3", "m/part/3/3", "m/assemble/all"),
    ]
    assert found[3].after == tuple(each.name for each in found[:3])
    assert all(each.stage != "publish" for each in found)


def test_what_is_there_is_not_ordered_again(home: Path) -> None:
    assert app.run(["convert", "m.yaml", "--only", "gguf", "--quiet", "--offline"]) == Exit.DONE
    read, *_ = orders(home)
    assert read.targets == ("hf",)


def test_a_node_runs_the_command_and_says_what_it_cost(home: Path) -> None:
    read, *_ = orders(home)
    outcome = perform(read, version())
    assert outcome.exit_code == Exit.DONE
    assert outcome.answer is not None
    assert [each["status"] for each in outcome.answer["artifacts"]] == ["built"] * 3
    assert outcome.cpu_s > 0
    (home / "source" / "model.safetensors").write_bytes(b"no header")
    (home / "artifacts" / "m" / "hf" / "manifest.json").unlink()
    outcome = perform(read, version())
    assert outcome.exit_code == Exit.FAILED
    assert outcome.error
    assert outcome.hint


def test_a_node_that_is_not_fit_refuses_by_name(home: Path) -> None:
    read, *_ = orders(home)
    outcome = perform(read, "0.0.1")
    assert outcome.exit_code == Exit.USAGE
    assert f"has modelwright {version()}, and the fleet 0.0.1" in outcome.error
    (home / "m.yaml").write_text(RECIPE + "\n", "utf-8")
    assert "sees another text in" in perform(read, version()).error
    (home / "m.yaml").unlink()
    assert "does not see" in perform(read, version()).error


def test_a_dry_run_says_what_it_would_cost(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["fleet", "m.yaml", "--dry-run", "--parts", "2", "--json"]) == Exit.DONE
    found = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in found["orders"]][:3] == ["m/part/1/2", "m/part/2/2", "m/assemble/all"]
    assert found["written_bytes"] > found["read_bytes"] > 0
    assert not (home / "artifacts").exists()
    assert app.run(["fleet", "m.yaml", "--dry-run"]) == Exit.DONE
    said = capsys.readouterr().out
    assert "4 orders, each with all CPUs of a node: about" in said
    assert "at most 15 min" in said
    assert max(map(len, said.splitlines())) <= 80


def test_a_node_with_another_tool_refuses_by_name(home: Path) -> None:
    read, *_ = orders(home)
    assert "gguf" in read.tools
    outcome = perform(replace(read, tools={**read.tools, "gguf": "0.1.0"}), version())
    assert outcome.exit_code == Exit.USAGE
    assert f"has gguf {read.tools['gguf']}, and the fleet 0.1.0" in outcome.error
    assert "not at all" in perform(replace(read, tools={"no-such-tool": "1"}), version()).error


def test_a_recipe_that_learns_does_so_in_its_first_part(home: Path) -> None:
    (home / "text.txt").write_text("The quick brown fox jumps over the lazy dog. " * 200, "utf-8")
    (home / "m.yaml").write_text(
        "model: source\ntargets: {gguf: {quants: [Q4_K_M], imatrix: calibration}}\n"
        "calibration: {text: text.txt, samples: 2, length: 64}\n",
        "utf-8",
    )
    first, second, third, whole, *_ = orders(home, parts=3)
    assert first.after == ()
    assert second.after == third.after == (first.name,)
    assert set(whole.after) == {first.name, second.name, third.name}


def test_a_recipe_goes_along_where_there_is_a_store(home: Path) -> None:
    address = f"local://{home}/bucket/models"
    (home / "bucket").mkdir()
    found = schedule(
        load_recipe("m.yaml"),
        Wish(home / "artifacts", is_offline=True, store_url=address),
        {"out": home / "artifacts", "offline": True, "store_url": address},
    ).orders
    assert "--store" in found[0].command
    text = (home / "m.yaml").read_text("utf-8")
    (home / "m.yaml").write_text("model: nowhere\ntargets: {hf: {}}\n", "utf-8")
    assert found[0].recipe_text == text
    outcome = perform(found[0], version())  # the source was next to the recipe, which is elsewhere now
    assert "source" in outcome.error
