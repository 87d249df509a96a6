"""GPTQ made without GPTQModel: its files, whatever way round a source stores its matrices."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from convert import plan_recipe
from convert.errors import Failure, UsageFailures
from convert.formats.gptq.options import GptqOptions
from convert.store import read_manifest
from tests import tiny
from tests.gptq.making import convert, recipe
from tests.gptq.packed import rounded, tensors, unpack
from tests.hf.describing import convert_to, make

if TYPE_CHECKING:
    from pathlib import Path

NATIVE = "engine: native, group_size: 32"


SLOW = [("gpt2", 8), ("llama", 4), ("qwen", 4)]


@pytest.mark.parametrize(
    ("model_type", "bits"), [("gpt2", 4), *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW)]
)
def test_codes_are_of_the_source_s_own_matrices(tmp_path: Path, model_type: str, bits: int) -> None:
    source = make(tmp_path / "source", tiny.Recipe(model_type))
    plain = tensors(convert_to(tmp_path, source, "hf: {}") / "hf")
    out = convert(tmp_path, source, f"gptq: {{{NATIVE}, bits: {bits}}}") / "gptq"
    stored = tensors(out)
    names = {name.removesuffix(".qweight") for name in stored if name.endswith(".qweight")}
    assert names
    for name in names:
        matrix = plain[f"{name}.weight"].float().numpy()
        matrix = matrix.T if model_type == "gpt2" else matrix
        found = unpack(stored, name, bits)
        # What one column loses moves others, though not far, and least where the steps are fine.
        assert np.sqrt(((found.values - matrix) ** 2).mean()) < 3 * np.sqrt((found.steps**2 / 12).mean())
        assert np.abs(rounded(matrix, bits, 32) - matrix).max() > 0
    others = {name: each for name, each in stored.items() if name.rpartition(".")[0] not in names}
    assert others.keys() == {name for name in plain if name.rpartition(".")[0] not in names}
    assert all((each == plain[name]).all() for name, each in others.items())
    settings = json.loads((out / "config.json").read_text("utf-8"))["quantization_config"]
    assert (settings["bits"], settings["group_size"], settings["quant_method"]) == (bits, 32, "gptq")
    assert read_manifest(out).tensors.keys() == plain.keys()


@pytest.mark.parametrize(
    ("given", "engine"),
    [
        ({}, "native"),
        ({"device": "cpu"}, "native"),
        ({"device": "cuda"}, None),
        ({"sym": False}, None),
        ({"desc_act": True}, None),
        ({"engine": "gptqmodel"}, None),
        ({"sym": False, "engine": "native"}, "native"),
    ],
)
def test_it_is_taken_unless_gptqmodel_alone_can(given: dict[str, Any], engine: str | None) -> None:
    # GPTQModel's artifacts keep the key that they had before an engine could be named.
    assert GptqOptions.model_validate(given).by_target()["gptq"].get("engine") == engine


@pytest.mark.parametrize(
    ("name", "why"), [("phi3", "gate and up joined in one matrix"), ("bloom", r"linear biases .*ALiBi.*")]
)
def test_a_model_that_it_cannot_do_is_refused_with_the_other_engine(
    tmp_path: Path, name: str, why: str
) -> None:
    asked = recipe(tmp_path, make(tmp_path / "source", tiny.Recipe(name)), "gptq: {group_size: 32}")
    with pytest.raises(UsageFailures, match=f"the native engine cannot do with {why}$") as refused:
        plan_recipe(asked, out=tmp_path / "out", offline=True)
    (problem,) = refused.value.problems
    assert problem.hint == "write engine: gptqmodel"


@pytest.mark.parametrize("option", ["sym: false", "desc_act: true", "device: cuda"])
def test_what_it_cannot_do_is_refused_by_name(tmp_path: Path, option: str) -> None:
    source = make(tmp_path / "source", tiny.Recipe("llama"))
    with pytest.raises(Failure, match=f"{option.partition(':')[0]}: the native engine cannot"):
        convert(tmp_path, source, f"gptq: {{{NATIVE}, {option}}}")
