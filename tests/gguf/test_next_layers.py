"""Layers that guess further tokens are kept where the file has a place for them, and change nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file

from convert.formats.gguf.importance import Importance, write_importance
from convert.store import read_manifest
from tests import tiny
from tests.gguf import heads, oracle
from tests.hf.describing import convert_to, make

if TYPE_CHECKING:
    from pathlib import Path

QUANTS = ("Q4_K_M", "Q3_K_M")


@pytest.mark.parametrize(
    "model_type",
    [pytest.param(name, marks=() if name == "qwen3_next" else pytest.mark.slow) for name in heads.FAMILIES],
)
def test_they_are_quantized_as_llama_cpp_does(model_type: str, tmp_path: Path) -> None:
    source = heads.checkpoint(tmp_path / "source", heads.recipe(model_type))
    out = convert_to(tmp_path, source, f"gguf: {{quants: [F32, {', '.join(QUANTS)}]}}")
    made = {quant: next((out / f"gguf-{quant}").glob("*.gguf")) for quant in ("F32", *QUANTS)}
    names = [name for name in oracle.tensors(made["F32"]) if ".nextn." in name]
    assert len(names) == (6 if model_type in heads.LAYERS else 4)
    for quant in QUANTS:
        reference = tmp_path / f"reference-{quant}.gguf"
        oracle.quantize(made["F32"], reference, quant)
        assert oracle.tensors(made[quant]) == oracle.tensors(reference)


def test_they_change_no_answer_and_go_into_checkpoints_too(tmp_path: Path) -> None:
    recipe = heads.recipe("qwen3_5_text")
    out = convert_to(
        tmp_path, heads.checkpoint(tmp_path / "source", recipe), "gguf: {quants: [F32]}\n  hf: {}"
    )
    (tmp_path / "plain").mkdir()
    without = convert_to(
        tmp_path / "plain", make(tmp_path / "plain" / "source", recipe), "gguf: {quants: [F32]}"
    )
    (ours,), (plain,) = ((each / "gguf-F32").glob("*.gguf") for each in (out, without))
    assert oracle.fields(ours)["qwen35.nextn_predict_layers"] == 1
    assert oracle.fields(ours)["qwen35.block_count"] == 5
    assert oracle.tensors(plain).items() <= oracle.tensors(ours).items()
    tokens = range(3, 40)
    assert np.array_equal(oracle.logits(ours, tokens), oracle.logits(plain, tokens))
    assert read_manifest(out / "gguf-F32").deviations == ()
    assert read_manifest(out / "hf").deviations == ()
    stored = load_file(out / "hf" / "model.safetensors")
    wanted = {**tiny.tensors(recipe), **heads.heads(recipe)}
    assert stored.keys() == wanted.keys()
    assert all(np.array_equal(stored[name], values) for name, values in wanted.items())


def test_an_importance_matrix_knows_nothing_of_them(tmp_path: Path) -> None:
    source = heads.checkpoint(tmp_path / "source", heads.recipe("qwen3_5_text"))
    values = {"blk.0.ffn_up.weight": np.ones(256, np.float32)}
    write_importance(Importance(values, ("text",), 1, "matrix.gguf"), tmp_path / "matrix.gguf")
    made = convert_to(tmp_path, source, "gguf: {quants: [Q4_K_M], imatrix: matrix.gguf}") / "gguf-Q4_K_M"
    lacking = {each.subject for each in read_manifest(made).deviations}
    assert {"blk.4.attn_q.weight", "blk.4.nextn.eh_proj.weight", "blk.1.ffn_up.weight"} <= lacking
    assert not {"blk.0.ffn_up.weight", "blk.4.nextn.enorm.weight"} & lacking


def test_a_checkpoint_with_a_part_of_them_is_converted_without(tmp_path: Path) -> None:
    recipe = heads.recipe("qwen3_5_text")
    source = heads.checkpoint(tmp_path / "source", recipe)
    index = source / "model.safetensors.index.json"
    index.write_text(index.read_text("utf-8").replace("mtp.fc.weight", "mtp.embed_tokens.weight"), "utf-8")
    made = {**tiny.tensors(recipe), **heads.heads(recipe)}
    made["mtp.embed_tokens.weight"] = made.pop("mtp.fc.weight")
    tiny.write_safetensors(source / heads.WEIGHTS, made, "F32")
    out = convert_to(tmp_path, source, "gguf: {quants: [F32]}") / "gguf-F32"
    assert not [name for name in oracle.tensors(*out.glob("*.gguf")) if "nextn" in name]
    assert [each.subject for each in read_manifest(out).deviations] == ["mtp"]


def test_layers_after_the_last_are_kept_or_named(tmp_path: Path) -> None:
    """DeepSeek's graph has no place for them, and its checkpoint has; tables of their own may be missing."""
    recipe = heads.recipe("deepseek_v3")
    source = heads.checkpoint(tmp_path / "source", recipe)
    out = convert_to(tmp_path, source, "gguf: {quants: [F32]}\n  hf: {}")
    assert not [name for name in oracle.tensors(*(out / "gguf-F32").glob("*.gguf")) if "blk.4." in name]
    (left,) = read_manifest(out / "gguf-F32").deviations
    assert (left.subject, "multi-token" in left.why) == ("model.layers.4", True)
    assert read_manifest(out / "hf").deviations == ()
    stored = load_file(out / "hf" / "model.safetensors")
    wanted = {**tiny.tensors(recipe), **heads.heads(recipe)}
    assert stored.keys() == wanted.keys()
    assert all(np.array_equal(stored[name], values) for name, values in wanted.items())


def test_a_layer_without_tables_of_its_own(tmp_path: Path) -> None:
    recipe = heads.recipe("glm4_moe")
    source = heads.checkpoint(tmp_path / "source", recipe)
    made = {**tiny.tensors(recipe), **heads.heads(recipe)}
    for name in ("embed_tokens", "shared_head.head"):
        del made[f"model.layers.4.{name}.weight"]
    tiny.write_safetensors(source / heads.WEIGHTS, made, "F32")
    index = {"metadata": {}, "weight_map": dict.fromkeys(made, heads.WEIGHTS)}
    (source / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    (path,) = (convert_to(tmp_path, source, "gguf: {quants: [F32]}") / "gguf-F32").glob("*.gguf")
    assert len([name for name in oracle.tensors(path) if "nextn" in name]) == 4
    assert read_manifest(path.parent).deviations == ()
    assert len(oracle.logits(path, range(3, 9))) == 6
