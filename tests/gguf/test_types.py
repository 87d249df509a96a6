"""Types of tensors: which each gets, what a recipe may say of it, and what cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from convert.errors import Failure
from convert.formats.gguf.choosing import Wishes, choose
from convert.formats.gguf.format import FORMAT
from convert.formats.gguf.importance import Importance
from convert.formats.gguf.mixture import MIXTURES
from convert.formats.gguf.options import GgufOptions, Quant
from convert.formats.gguf.tensors import file_tensors
from convert.writer.codecs.ggml import SEARCHED, Ggml
from tests import tiny
from tests.gguf import oracle
from tests.gguf.test_bytes import check_equal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# What is refused without an importance matrix, and what takes seconds to build tables for.
WEIGHED = ("Q2_K_S", "IQ3_S", "IQ3_M", "IQ3_XS", "IQ3_XXS", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS")
SLOW_TABLES = ("IQ1_M", "IQ1_S")
NEEDY = {*WEIGHED, *SLOW_TABLES} - {"IQ3_S", "IQ3_M"}
DEEP = {"num_hidden_layers": 17, "intermediate_size": 256, "layer_types": None}
SMALL = {"num_hidden_layers": 2}
SMALLEST = {"num_hidden_layers": 1, "intermediate_size": 256, "vocab_size": 256}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "deep": ("qwen2", DEEP),
    "with shared heads": ("llama", {**DEEP, "num_attention_heads": 8, "num_key_value_heads": 2}),
    "tied": ("qwen2", {**DEEP, "tie_word_embeddings": True}),
    "of eight experts": ("qwen3_moe", {**DEEP, "num_experts": 8}),
    "of sixteen experts": ("qwen3_moe", {**DEEP, "num_experts": 16}),
    "with a shared expert": ("qwen2_moe", DEEP),
    "with fused values": ("gpt2", {"n_layer": 17}),
    "falcon": ("falcon", DEEP),
    "of linear attention": ("qwen3_5_text", {}),
    "with narrow rows": ("qwen", SMALL),
    "large": ("llama", {**DEEP, "num_hidden_layers": 80, "num_key_value_heads": 2}),
}
QUICK = ("deep", "of eight experts")


def weigh(folder: Path, place: Path, random: np.random.Generator) -> Importance:
    """Draw an importance matrix for a model."""
    (plain,) = oracle.convert_folder(folder, place, ["F32"])["F32"]
    values = {
        name: random.gamma(1.0, 1.0, shape[0] * (shape[2] if len(shape) > 2 else 1)).astype(np.float32)
        for name, (_, shape, _) in oracle.tensors(plain).items()
        if name.startswith("blk.") and len(shape) > 1
    }
    return Importance(values, ("text",), 1, "imatrix.gguf")


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=() if each in QUICK else pytest.mark.slow) for each in MODELS]
)
def test_each_tensor_gets_the_type_that_llama_quantize_gives_it(name: str, tmp_path: Path) -> None:
    folder = tiny.make_blank(tmp_path / "model", tiny.Recipe(*MODELS[name]))
    (source,) = oracle.convert_folder(folder, tmp_path, ["F32"])["F32"]
    decoder = oracle.described(folder)
    listed = list(file_tensors(decoder))
    for quant in MIXTURES.keys() - {"NVFP4"}:  # which llama-quantize makes of no weights
        for has_imatrix in (False, True):
            theirs = oracle.chosen_types(source, quant, has_imatrix=has_imatrix)
            if not has_imatrix and quant in NEEDY:
                continue
            if theirs is None:  # Q1_0 has no fallback
                with pytest.raises(Failure, match="are no whole number of Q1_0's blocks"):
                    choose(quant, decoder, listed, Wishes(), has_imatrix=has_imatrix)
                continue
            ours = choose(quant, decoder, listed, Wishes(), has_imatrix=has_imatrix).types
            found = {name: type_ for name, type_ in ours.items() if type_ != "F32"}
            assert found == theirs, (quant, has_imatrix)


def test_types_of_few_bits(tmp_path: Path) -> None:
    folder = tiny.make(tmp_path / "model", tiny.Recipe("qwen2", SMALL))
    check_equal(folder, tmp_path / "out", ("Q4_1", "Q5_1", "TQ1_0", "TQ2_0", "Q2_0", "Q1_0"))


@pytest.mark.parametrize(
    ("model_type", "quants"),
    [
        ("qwen2", ("IQ3_S", "Q2_K_S")),
        pytest.param("qwen3_moe", (*WEIGHED, *SLOW_TABLES), marks=pytest.mark.slow),
        *(
            pytest.param(name, (*WEIGHED, *SLOW_TABLES), marks=(pytest.mark.slow, pytest.mark.exhaustive))
            for name in ("qwen2", "gpt2")
        ),
    ],
)
def test_types_that_need_an_importance_matrix(
    model_type: str, quants: tuple[str, ...], tmp_path: Path
) -> None:
    changes = {"n_layer": 1} if model_type == "gpt2" else SMALLEST
    folder = tiny.make(tmp_path / "model", tiny.Recipe(model_type, changes))
    importance = weigh(folder, tmp_path / "plain", np.random.default_rng(3))
    check_equal(folder, tmp_path / "out", quants, importance)


def test_types_that_need_a_matrix_are_refused_without(tmp_path: Path) -> None:
    folder = tiny.make_blank(tmp_path / "model", tiny.Recipe("qwen2", SMALL))
    for quant in ("Q2_K_S", "IQ3_XXS", "IQ3_XS", "IQ2_M", "IQ1_S"):
        with pytest.raises(Failure, match=f"{quant}: blk.0.* is garbage without an importance matrix"):
            oracle.planned(folder, [quant])
    poor = Importance({"blk.0.ffn_up.weight": np.ones(256, np.float32)}, (), 1, "poor.gguf")
    with pytest.raises(Failure, match=r"poor.gguf: it says nothing of blk.0.*, and IQ2_S needs it"):
        oracle.planned(folder, ["IQ2_M"], importance=poor)


WISHES: list[tuple[str, str, Mapping[str, Any]]] = [
    ("llama", "Q4_K_M", {"tensor_types": {"attn_v": "Q8_0", r"blk\.[01]\.ffn": "Q5_K", "ffn_down": "F16"}}),
    ("llama", "Q4_K_M", {"output_type": "Q8_0", "embedding_type": "Q5_0"}),
    ("qwen2", "Q3_K_M", {"output_type": "Q8_0"}),
    ("qwen3_moe", "Q4_K_S", {"pure": True, "tensor_types": {"exps": "Q5_0"}}),
    ("qwen3_moe", "MXFP4_MOE", {"pure": True}),
    ("llama", "F16", {"output_type": "Q6_K", "embedding_type": "Q4_K"}),
    ("llama", "MXFP4_MOE", {"tensor_types": {"ffn": "NVFP4"}}),
]


@pytest.mark.parametrize(("model_type", "quant", "wishes"), WISHES)
def test_what_a_recipe_says_of_tensors_does_what_it_does_there(
    model_type: str, quant: str, wishes: Mapping[str, Any], tmp_path: Path
) -> None:
    tied = {"tie_word_embeddings": model_type == "qwen2"}
    folder = tiny.make(tmp_path / "model", tiny.Recipe(model_type, {**SMALL, **tied}))
    check_equal(folder, tmp_path / "out", [quant], wishes=wishes)


@pytest.mark.parametrize(
    ("quant", "wishes", "said"),
    [
        ("Q4_K_M", {"tensor_types": {"attn_w": "Q8_0"}}, "no tensor that is quantized has 'attn_w'"),
        ("F16", {"tensor_types": {"attn_v": "Q8_0"}}, "F16 has one type for all"),
        ("Q4_K_M", {"leave_output_tensor": True}, "the model's head is its embedding"),
        ("F16", {"output_type": "Q8_0"}, "the model's head is its embedding"),
        ("Q4_K_M", {"embedding_type": "IQ2_XXS"}, "IQ2_XXS needs the importance of each column"),
    ],
)
def test_wishes_that_nothing_fulfills_are_refused(
    quant: str, wishes: Mapping[str, Any], said: str, tmp_path: Path
) -> None:
    changes = {**SMALL, "tie_word_embeddings": True}
    folder = tiny.make(tmp_path / "model", tiny.Recipe("qwen2", changes))
    with pytest.raises(Failure, match=said):
        oracle.convert_folder(folder, tmp_path / "out", [quant], wishes=wishes)


def test_what_encodes_a_head_is_among_the_tools() -> None:
    plain, other = GgufOptions(quants=(Quant.F16,)), GgufOptions(quants=(Quant.F16,), output_type="Q6_K")
    assert "llama-cpp-python" not in FORMAT.tools(plain, "gguf-F16")
    assert "llama-cpp-python" in FORMAT.tools(other, "gguf-F16")


def test_a_head_is_kept_as_the_source_has_it(tmp_path: Path) -> None:
    untied = {"tie_word_embeddings": False, "torch_dtype": "bfloat16"}
    folder = tiny.make(tmp_path / "model", tiny.Recipe("llama", {**SMALL, **untied}))
    wishes = {"leave_output_tensor": True}
    (kept,) = oracle.convert_folder(folder, tmp_path, ["Q4_K_M"], wishes=wishes)["Q4_K_M"]
    (plain,) = oracle.convert_folder(folder, tmp_path / "plain", ["BF16"])["BF16"]
    assert oracle.tensors(kept)["output.weight"] == oracle.tensors(plain)["output.weight"]


@pytest.mark.parametrize("type_name", sorted(SEARCHED))
def test_numbers_that_would_end_the_process_are_refused(type_name: str) -> None:
    rows = np.full((1, 256), 1e30, np.float32)
    codec = Ggml(type_name, np.ones(256, np.float32).tobytes())
    with pytest.raises(Failure, match="too large for ggml's search"):
        codec.encode(rows)
    with pytest.raises(Failure, match="too large for ggml's search"):
        Ggml(type_name, np.full(256, 1e30, np.float32).tobytes()).encode(np.ones((1, 256), np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("quant", ["Q4_1", "Q5_1", "TQ1_0", "TQ2_0", "Q2_0", "Q1_0", *WEIGHED, *SLOW_TABLES])
def test_llama_cpp_runs_each_type(quant: str, tmp_path: Path) -> None:
    folder = tiny.make(tmp_path / "model", tiny.Recipe("qwen2", SMALLEST))
    importance = weigh(folder, tmp_path / "plain", np.random.default_rng(3))
    (made,) = oracle.convert_folder(folder, tmp_path / "out", [quant], importance=importance)[quant]
    found = oracle.logits(made, range(3, 40))
    assert np.isfinite(found).all()
    assert found.std() > 0
