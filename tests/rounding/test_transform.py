"""A recipe's transform: the same answers by other weights, for every format, or a refusal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from convert import convert_recipe, load_recipe, plan_recipe
from convert.errors import Failure, UsageFailures
from convert.model.forward import Forward
from convert.pipeline import PART, fold, start
from convert.store import read_manifest
from convert.writer.share import Part
from tests import tiny
from tests.gptq.packed import tensors
from tests.hf.describing import make
from tests.rounding.test_rounding_learning import opened

if TYPE_CHECKING:
    from pathlib import Path

    from convert.recipe import Recipe

TOKENS = np.random.default_rng(0).integers(3, 250, 20).astype(np.int32)
TEXT = "calibration: {packs: [searchqa], samples: 4, length: 32}\n"


def asked(place: Path, name: str, family: str, more: str) -> Recipe:
    path = place / f"{name}.yaml"
    source = place / "source"
    if not source.exists():
        make(source, tiny.Recipe(family, dtype="F32"))
    path.write_text(f"model: {source}\ntargets: {{hf: {{dtype: fp32}}}}\n{more}", "utf-8")
    return load_recipe(path)


@pytest.mark.parametrize("family", ["llama", pytest.param("gpt2", marks=pytest.mark.slow)])
def test_weights_differ_and_answers_do_not(tmp_path: Path, family: str) -> None:
    out, transform = tmp_path / "out", f"transform: {{scales: awq}}\n{TEXT}"
    recipe = asked(tmp_path, "scaled", family, transform)
    assert "learning scales" in [step.label for step in plan_recipe(recipe, out=out, offline=True).steps]
    convert_recipe(recipe, out=out, offline=True)
    source, scaled = tmp_path / "source", out / "scaled" / "hf"
    was, now = tensors(source), tensors(scaled)
    assert was.keys() == now.keys()
    assert sum(not was[name].equal(now[name]) for name in was) > 4
    found = [Forward(*_parts(folder)).logits(TOKENS) for folder in (source, scaled)]
    assert 0 < np.abs(found[0] - found[1]).max() < 1e-4
    said = read_manifest(scaled)
    assert said.options["transform"] == {
        "scales": "awq",
        "calibration": {"packs": ["searchqa"], "samples": 4, "length": 32, "seed": 0},
    }
    assert "scaled by what the text weighs" in [each.got for each in said.deviations]
    assert not (out / ".lessons").exists()
    for more, is_built in ((transform, True), (TEXT, False)):
        plan = plan_recipe(asked(tmp_path, "scaled", family, more), out=out, offline=True)
        assert plan.targets[0].is_up_to_date == is_built


def _parts(folder: Path) -> tuple[Any, Any, Any]:
    decoder, weights = opened(folder)
    return decoder, weights.checkpoint, weights.origins


def test_a_model_that_would_compute_something_else_is_refused_by_feature(tmp_path: Path) -> None:
    recipe = asked(tmp_path, "other", "llama4_text", f"transform: {{scales: awq}}\n{TEXT}")
    with pytest.raises(UsageFailures, match=r"transform.scales: cannot be done with attention in chunks"):
        plan_recipe(recipe, out=tmp_path / "out", offline=True)


def test_it_needs_a_text_and_the_whole_model(tmp_path: Path) -> None:
    with pytest.raises(UsageFailures, match="transform: needs a calibration text"):
        asked(tmp_path, "mute", "llama", "transform: {scales: awq}\n")
    recipe = asked(tmp_path, "part", "llama", f"transform: {{scales: awq}}\n{TEXT}")
    with pytest.raises(Failure, match="transform: what it does is learned from the whole model"):
        fold(start(recipe, {"out": tmp_path / "out", "offline": True}, part=Part(1, 2)), PART)
