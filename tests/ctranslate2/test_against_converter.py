"""The folders are what `ct2-transformers-converter` writes, byte by byte; the runtime computes the model."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import ctranslate2
import numpy as np
import pytest
import torch
from ctranslate2.converters import TransformersConverter
from transformers import AutoModelForCausalLM

from convert.errors import UsageFailure
from convert.formats import load_recipe
from convert.formats.ctranslate2.format import FORMAT
from tests import tiny
from tests.hf.describing import convert_to, described, make

if TYPE_CHECKING:
    from pathlib import Path

    from convert.formats.ctranslate2.options import CTranslate2Options

QUANTIZATIONS = ("int8", "int8_float32", "int8_float16", "int8_bfloat16", "float16", "bfloat16", "float32")
QUICK = ("qwen2",)
FAMILIES = tiny.rendered("ctranslate2")
# The converter wants as many tokens as the embeddings have rows for one, and leaves out numbers without
# which the other's positions are scaled wrong.
CHANGES: dict[str, dict[str, Any]] = {"gpt2": {"vocab_size": 259}, "llama": {"rope_scaling": None}}


def built(name: str, quantizations: tuple[str, ...], place: Path, **changes: Any) -> Path:
    """Convert by us, to these and to Transformers' own layout."""
    source = make(place / "source", tiny.Recipe(name, changes, shards=2))
    return convert_to(place, source, f"hf: {{}}\n  ctranslate2: [{', '.join(quantizations)}]")


@pytest.mark.parametrize("name", tiny.cases_of(FAMILIES, QUICK, FAMILIES))
def test_the_bytes_are_the_converter_s(name: str, tmp_path: Path) -> None:
    quantizations = ("int8",) if name in QUICK else QUANTIZATIONS
    made = built(name, quantizations, tmp_path, **CHANGES.get(name, {}))
    for quantization in quantizations:
        wanted, ours = tmp_path / quantization, made / f"ctranslate2-{quantization}"
        TransformersConverter(str(made / "hf")).convert(str(wanted), quantization=quantization)
        for path in ("config.json", "vocabulary.json"):
            assert json.loads((ours / path).read_bytes()) == json.loads((wanted / path).read_bytes())
        assert (ours / "model.bin").read_bytes() == (wanted / "model.bin").read_bytes()


@pytest.mark.parametrize("name", tiny.cases_of(FAMILIES, (), FAMILIES))
def test_the_runtime_computes_the_model(name: str, tmp_path: Path) -> None:
    made = built(name, ("float32",), tmp_path)
    ids = np.random.default_rng(0).integers(3, 250, 100).tolist()
    with torch.no_grad():
        reference = AutoModelForCausalLM.from_pretrained(made / "hf", dtype=torch.float32)
        wanted: Any = reference(torch.tensor([ids])).logits[0].numpy()
    generator = ctranslate2.Generator(str(made / "ctranslate2-float32"))
    found = np.asarray(generator.forward_batch([ids]))[0]
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_a_variable_that_the_file_cannot_hold_is_refused(tmp_path: Path) -> None:
    source = make(tmp_path / "source", tiny.Recipe("qwen2"))
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: {source}\ntargets:\n  ctranslate2: [float32]\n", "utf-8")
    recipe, model = load_recipe(path), described(source)
    large = replace(model, decoder=replace(model.decoder, vocab_size=1 << 23))
    with pytest.raises(UsageFailure) as caught:
        FORMAT.prepare(large, cast("CTranslate2Options", recipe.targets["ctranslate2"]), recipe)
    assert "decoder/embeddings/weight takes" in caught.value.message
