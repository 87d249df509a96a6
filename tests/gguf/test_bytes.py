"""Every tensor's bytes and type are those of llama.cpp's own quantisation of the same weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from convert.formats.gguf.importance import Importance
from convert.formats.gguf.mixture import MIXTURES
from tests import tiny
from tests.gguf import oracle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# The others are refused without an importance matrix, or for narrow rows: see test_types.py. NVFP4 is ours.
REFUSED = ("IQ1", "IQ2", "IQ3", "Q1_0", "Q2_K_S", "NVFP4")
ALL = tuple(name for name in MIXTURES if not name.startswith(REFUSED))
QUICK = ("F16", "Q4_K_M", "Q3_K_L")
# Deep enough for the rules that ask for a sixteenth of the layers, and narrow enough to be quick.
DEEP = {"num_hidden_layers": 16, "intermediate_size": 256, "layer_types": None}


def check_equal(
    folder: Path,
    out: Path,
    quants: Sequence[str],
    importance: Importance | None = None,
    wishes: Mapping[str, Any] | None = None,
) -> None:
    (source,) = oracle.convert_folder(folder, out, ["F32"])["F32"]
    made = oracle.convert_folder(folder, out, quants, importance=importance, wishes=wishes)
    for quant in quants:
        reference = out / f"reference-{quant}.gguf"
        oracle.quantize(source, reference, quant, importance.values if importance else None, wishes)
        ours, theirs = oracle.tensors(*made[quant]), oracle.tensors(reference)
        assert ours.keys() == theirs.keys()
        differing = [
            f"{name}: {ours[name][0]}, llama.cpp has {theirs[name][0]}"
            for name in theirs
            if ours[name] != theirs[name]
        ]
        assert not differing, f"{quant}: {differing}"
        reference.unlink()


@pytest.mark.parametrize("model_type", tiny.cases(tiny.rendered("gguf"), by=tiny.roles))
def test_architectures(model_type: str, tmp_path: Path) -> None:
    check_equal(tiny.make(tmp_path / "model", tiny.Recipe(model_type)), tmp_path / "out", QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("model_type", tiny.cases(tiny.rendered("gguf"), by=tiny.roles, is_costly=True))
def test_architectures_in_every_type(model_type: str, tmp_path: Path) -> None:
    check_equal(tiny.make(tmp_path / "model", tiny.Recipe(model_type)), tmp_path / "out", ALL[1:])


@pytest.mark.slow
def test_each_head_goes_by_its_own_importance(tmp_path: Path) -> None:
    """Where keys and values are widened head by head, a matrix has as many columns as all heads together."""
    folder = tiny.make(tmp_path / "model", tiny.Recipe("deepseek_v3"))
    (source,) = oracle.convert_folder(folder, tmp_path / "plain", ["F32"])["F32"]
    random = np.random.default_rng(4)
    values = {
        name: random.random(shape[0] * (shape[2] if len(shape) > 2 else 1), np.float32)
        for name, (_, shape, _) in oracle.tensors(source).items()
        if name.startswith("blk.") and len(shape) > 1
    }
    assert values["blk.0.attn_k_b.weight"].size == 4 * 64
    check_equal(folder, tmp_path / "out", ("Q4_K_M", "Q2_K"), Importance(values, (), 1, "matrix.gguf"))


@pytest.mark.parametrize("dtype", ["F16", pytest.param("F32", marks=pytest.mark.slow)])
def test_every_type_of_a_model_with_rows_that_fit_no_block(dtype: str, tmp_path: Path) -> None:
    recipe = tiny.Recipe("qwen", {"num_hidden_layers": 2}, dtype=dtype)
    check_equal(tiny.make(tmp_path / "model", recipe), tmp_path / "out", ALL[1:])


def test_rules_that_look_at_the_layer(tmp_path: Path) -> None:
    folder = tiny.make(tmp_path / "model", tiny.Recipe("qwen2", DEEP))
    check_equal(folder, tmp_path / "out", ("Q3_K_M", "Q4_K_S", "Q4_K_M"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "model_type",
    [
        *("qwen2", "qwen3_moe"),
        *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("mistral", "qwen3_5_text", "falcon")),
    ],
)
def test_rules_that_look_at_the_layer_in_every_type(model_type: str, tmp_path: Path) -> None:
    quants = ("Q2_K", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_M", "IQ4_XS", "IQ4_NL")
    check_equal(tiny.make(tmp_path / "model", tiny.Recipe(model_type, DEEP)), tmp_path / "out", quants)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "kv_heads"),
    [
        ("llama", 2),
        *(pytest.param(name, 8, marks=pytest.mark.exhaustive) for name in ("llama", "qwen2")),
    ],
)
def test_rules_of_models_with_80_layers(model_type: str, kv_heads: int, tmp_path: Path) -> None:
    changes = {**DEEP, "num_hidden_layers": 80, "num_key_value_heads": kv_heads}
    folder = tiny.make(tmp_path / "model", tiny.Recipe(model_type, changes))
    check_equal(folder, tmp_path / "out", ("Q3_K_M", "Q4_K_S", "Q4_K_M"))


def test_rows_of_no_multiple_of_32_become_f16(tmp_path: Path) -> None:
    changes = {"intermediate_size": 2 * 200, "num_hidden_layers": 2}
    folder = tiny.make(tmp_path / "model", tiny.Recipe("qwen", changes))
    check_equal(folder, tmp_path / "out", ("Q4_K_M", "Q8_0", "Q4_0"))


@pytest.mark.parametrize("model_type", ["llama", "gpt2"])
def test_with_an_importance_matrix(model_type: str, tmp_path: Path) -> None:
    changes = {"num_hidden_layers": 8} if model_type == "llama" else {"n_layer": 2}
    folder = tiny.make(tmp_path / "model", tiny.Recipe(model_type, changes))
    (plain,) = oracle.convert_folder(folder, tmp_path / "plain", ["F32"])["F32"]
    random = np.random.default_rng(7)
    values = {
        name: random.gamma(1.0, 1.0, shape[0]).astype(np.float32)
        for name, (_, shape, _) in oracle.tensors(plain).items()
        if name.startswith("blk.") and len(shape) == 2
    }
    importance = Importance(values, ("text",), 1, "imatrix.gguf")
    quants = {"llama": ("Q3_K_M", "Q4_0", "Q5_0", "Q4_K_M", "Q6_K"), "gpt2": ("Q2_K", "IQ4_XS", "IQ4_NL")}
    check_equal(folder, tmp_path / "out", quants[model_type], importance)


def test_shards_and_threads_and_places_change_nothing(tmp_path: Path) -> None:
    quants = ("F16", "Q4_K_M", "Q8_0")
    one = oracle.convert_folder(
        tiny.make(tmp_path / "one", tiny.Recipe("llama")), tmp_path / "out1", quants, threads=1
    )
    for threads, shards in ((2, 1), (4, 3)):
        folder = tiny.make(tmp_path / f"elsewhere{threads}", tiny.Recipe("llama", shards=shards))
        other = oracle.convert_folder(folder, tmp_path / f"out{threads}", quants, threads=threads)
        for quant in quants:
            assert other[quant][0].read_bytes() == one[quant][0].read_bytes()


def test_split_files_hold_the_same_tensors(tmp_path: Path) -> None:
    folder = tiny.make(tmp_path / "model", tiny.Recipe("qwen2"))
    (whole,) = oracle.convert_folder(folder, tmp_path / "whole", ["F16"])["F16"]
    parts = oracle.convert_folder(folder, tmp_path / "parts", ["F16"], split_max_size="2M")["F16"]
    assert len(parts) > 2
    assert [path.name for path in parts] == [
        f"Tiny-F16-{number:05}-of-{len(parts):05}.gguf" for number in range(1, len(parts) + 1)
    ]
    assert oracle.tensors(*parts) == oracle.tensors(whole)
    tokens = range(3, 20)
    assert np.array_equal(oracle.logits(parts[0], tokens), oracle.logits(whole, tokens))


def test_a_window_that_is_not_carried_is_said(tmp_path: Path) -> None:
    for window, said in ((64, ["over the last 64 tokens"]), (512, []), (None, [])):
        folder = tiny.make(tmp_path / str(window), tiny.Recipe("mistral", {"sliding_window": window}))
        planned = oracle.planned(folder, ["F16"])
        assert [deviation.wanted for deviation in planned[0].deviations] == said
