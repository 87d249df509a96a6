"""A recipe's transform: the same answers by other weights, for every format, or a refusal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import transformers

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
        changes = {"tie_embedding": True} if family == "lfm2" else {}
        make(source, tiny.Recipe(family, changes, dtype="F32"))
    path.write_text(f"model: {source}\ntargets: {{hf: {{dtype: fp32}}}}\n{more}", "utf-8")
    return load_recipe(path)


@pytest.mark.parametrize(
    ("family", "asks"),
    [
        pytest.param("llama", {"scales": "awq", "rotation": "hadamard", "seed": 3}, id="both"),
        pytest.param("gpt2", {"scales": "awq"}, marks=pytest.mark.slow),
        pytest.param("gpt2", {"rotation": "hadamard", "seed": 0}, marks=pytest.mark.slow),
        pytest.param("gemma", {"rotation": "hadamard", "seed": 0}, marks=pytest.mark.slow),
    ],
)
def test_weights_differ_and_answers_do_not(tmp_path: Path, family: str, asks: dict[str, Any]) -> None:
    out, scales = tmp_path / "out", "scales" in asks
    transform = f"transform: {json.dumps(asks)}\n{TEXT if scales else ''}"
    recipe = asked(tmp_path, "changed", family, transform)
    steps = {step.label for step in plan_recipe(recipe, out=out, offline=True).steps}
    wanted = {"learning scales"} if scales else set()
    wanted |= {"rotating"} if "rotation" in asks else set()
    assert steps & {"learning scales", "rotating"} == wanted
    convert_recipe(recipe, out=out, offline=True)
    source, changed = tmp_path / "source", out / "changed" / "hf"
    was, now = tensors(source), tensors(changed)
    is_untied = family != "llama" and "rotation" in asks
    assert now.keys() - was.keys() == ({"lm_head.weight"} if is_untied else set())
    assert sum(not was[name].equal(now[name]) for name in was) > 4
    found = [Forward(*_parts(folder)).logits(TOKENS) for folder in (source, changed)]
    assert 0 < np.abs(found[0] - found[1]).max() < 1e-4
    said = read_manifest(changed)
    text = {"packs": ["searchqa"], "samples": 4, "length": 32, "seed": 0, "device": "cpu"}
    assert said.options["transform"] == {**asks, **({"calibration": text} if scales else {})}
    got = {each.got for each in said.deviations}
    assert ("a separate matrix" in got) == is_untied
    assert ("scaled by what the text weighs" in got, "rotated" in got) == (scales, "rotation" in asks)
    assert not (out / ".lessons").exists()
    for more, is_built in ((transform, True), (TEXT, False)):
        plan = plan_recipe(asked(tmp_path, "changed", family, more), out=out, offline=True)
        assert plan.targets[0].is_up_to_date == is_built


def _parts(folder: Path) -> tuple[Any, Any, Any]:
    decoder, weights = opened(folder)
    return decoder, weights.checkpoint, weights.origins


@pytest.mark.parametrize(
    ("family", "asks", "said"),
    [
        ("llama4_text", f"{{scales: awq}}\n{TEXT}", "scales: cannot be done with attention in chunks"),
        ("olmo2", "{rotation: hadamard}\n", "rotation: cannot be done with norms after attention and MLP"),
        ("bloom", "{rotation: hadamard}\n", "rotation: cannot be done with norms of embeddings"),
        ("lfm2", "{rotation: hadamard}\n", "rotation: the last norm's weights .* which lfm2 ties"),
    ],
    ids=["chunks", "after", "embeddings", "tied"],
)
def test_a_model_that_would_compute_something_else_is_refused_by_feature(
    tmp_path: Path, family: str, asks: str, said: str
) -> None:
    with pytest.raises(UsageFailures, match=f"transform.{said}"):
        plan_recipe(
            asked(tmp_path, "other", family, f"transform: {asks}"), out=tmp_path / "out", offline=True
        )


def test_it_needs_a_text_and_the_whole_model(tmp_path: Path) -> None:
    with pytest.raises(UsageFailures, match=r"transform\.scales: needs a calibration text"):
        asked(tmp_path, "mute", "llama", "transform: {scales: awq}\n")
    recipe = asked(tmp_path, "part", "llama", f"transform: {{scales: awq}}\n{TEXT}")
    with pytest.raises(Failure, match="transform: the whole model is rewritten"):
        fold(start(recipe, {"out": tmp_path / "out", "offline": True}, part=Part(1, 2)), PART)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "family", ["falcon_h1", "falcon_h1-plain", "falcon_h1-normed", "llama4_text", "gpt_oss"]
)
def test_transformers_answers_the_same_where_no_other_pass_can(tmp_path: Path, family: str) -> None:
    recipe = asked(tmp_path, "turned", family, "transform: {rotation: hadamard}\n")
    convert_recipe(recipe, out=tmp_path / "out", offline=True)
    found = []
    for folder in (tmp_path / "source", tmp_path / "out" / "turned" / "hf"):
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        with torch.no_grad():
            found.append(model(torch.tensor(TOKENS[None].astype(np.int64))).logits.numpy())
    assert 0 < np.abs(found[0] - found[1]).max() < 1e-4 * max(1, np.abs(found[0]).max() / 2)
