"""GPTQ made without GPTQModel: its files, whatever way round a source stores its matrices."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from convert.errors import Failure
from convert.formats.gptq.ability import RENDERS
from convert.formats.gptq.options import GptqOptions
from convert.model.forward import RENDERS as LEARNED
from convert.quantizer.job import HALVES
from convert.store import read_manifest
from tests import tiny
from tests.gptq.making import convert
from tests.gptq.packed import rounded, tensors, unpack
from tests.hf.describing import convert_to, make

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

NATIVE = "engine: native, group_size: 32"


SLOW = [("gpt2", 8), ("phi3", 4), ("llama", 4), ("qwen", 4), ("glm4", 4), ("bloom", 4)]


@pytest.mark.parametrize(
    ("model_type", "bits"),
    [("gpt2", 4), *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW)],
)
def test_codes_are_of_the_source_s_own_matrices(tmp_path: Path, model_type: str, bits: int) -> None:
    source = make(tmp_path / "source", tiny.Recipe(model_type))
    plain = taken_apart(tensors(convert_to(tmp_path, source, "hf: {}") / "hf"))
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


def taken_apart(plain: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take gate and up apart where they are joined, as GPTQModel names them."""
    found = {}
    for name, values in plain.items():
        if "gate_up_proj" in name:
            for half, rows in zip(HALVES, values.chunk(2), strict=True):
                found[name.replace("gate_up_proj", half)] = rows
        else:
            found[name] = values
    return found


def test_it_can_do_what_gptqmodel_can() -> None:
    assert RENDERS <= LEARNED


@pytest.mark.parametrize("option", ["sym: false", "desc_act: true", "device: cuda"])
def test_what_it_cannot_do_is_refused_by_name(tmp_path: Path, option: str) -> None:
    source = make(tmp_path / "source", tiny.Recipe("llama"))
    with pytest.raises(Failure, match=f"{option.partition(':')[0]}: the native engine cannot"):
        convert(tmp_path, source, f"gptq: {{{NATIVE}, {option}}}")
