"""GPTQModel itself, on models of a moment: complete, alike from run to run, and of no machine."""

from __future__ import annotations

import json
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from convert.quantizer import Outcome, quantize
from tests import tiny
from tests.quantizer.jobs import make_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(find_spec("gptqmodel") is None, reason="needs GPTQModel")
# One thread: for matrices so small more of them would only wait for each other.
CALM: dict[str, Any] = {"group_size": 32, "device": "cpu", "threads": 1}
SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
SMALL |= {"num_attention_heads": 2, "num_key_value_heads": 1}
SMALL_GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 2}


class Watch:
    """Notes the size of the work as a debt, and what is told as paid."""

    def __init__(self) -> None:
        self.told: list[int] = []

    @contextmanager
    def stage(self, label: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
        assert label == "gptq layers"
        self.told.append(-total_bytes)
        yield self.told.append


def make(folder: Path, model_type: str = "qwen2", dtype: str = "BF16") -> Path:
    changes = SMALL_GPT2 if model_type == "gpt2" else SMALL
    return tiny.make(folder, tiny.Recipe(model_type, changes, dtype, spread=0.05))


def run(source: Path, out: Path, method: str = "gptq", **options: Any) -> Outcome:
    random = np.random.default_rng(0)
    windows = tuple(random.integers(0, tiny.VOCAB_SIZE, 64).astype(np.int32) for _ in range(4))
    job = make_job(source, out, method, windows, **{**CALM, **options})  # type: ignore[arg-type]
    return quantize(job)


def header(folder: Path) -> dict[str, Any]:
    raw = (folder / "model.safetensors").read_bytes()
    return dict(json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")]))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_every_matrix_of_a_layer_comes_out_quantized(tmp_path: Path) -> None:
    watch = Watch()
    source = make(tmp_path / "source")
    windows = tuple(np.arange(first, first + 64, dtype=np.int32) for first in range(4))
    job = make_job(source, tmp_path / "out", "gptq", windows, damp=0.01, **CALM)
    outcome = quantize(job, progress=watch)
    assert len(outcome.matrices) == 2 * 7
    assert {each.damp for each in outcome.matrices} == {0.01}
    assert all(each.loss is not None and each.loss >= 0 for each in outcome.matrices)
    assert outcome.peak_rss_bytes > 100 << 20
    names = header(tmp_path / "out")
    assert {each.name + ".qweight" for each in outcome.matrices} < set(names)
    assert names["model.layers.0.mlp.up_proj.qweight"]["shape"] == [64 // 8, 128]
    assert sum(watch.told) == 0
    assert len(watch.told) > 2 * 8
    for name, data in content(tmp_path / "out").items():
        assert str(tmp_path).encode() not in data, name


@pytest.mark.slow
def test_a_second_run_elsewhere_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        run(make(tmp_path / name / "source"), tmp_path / name / "out", seed=3)
    assert content(tmp_path / "one/out") == content(tmp_path / "other/out")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"bits": 8},
        {"group_size": -1},
        {"group_size": 64},
        {"desc_act": True},
        {"sym": False},
    ],
    ids=str,
)
def test_options_reach_the_weights(options: dict[str, Any], tmp_path: Path) -> None:
    run(make(tmp_path / "source"), tmp_path / "out", **options)
    told = json.loads((tmp_path / "out/quantize_config.json").read_text())
    assert {name: told[name] for name in options} == options
    names, stem = header(tmp_path / "out"), "model.layers.1.mlp.down_proj"
    size = options.get("group_size", 32)
    assert names[f"{stem}.scales"]["shape"] == [1 if size < 0 else 128 // size, 64]
    assert names[f"{stem}.qweight"]["shape"] == [128 * options.get("bits", 4) // 32, 64]


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["gpt2", "llama", "mistral", "qwen3", "gemma", "phi3"])
def test_other_architectures_come_out_whole(model_type: str, tmp_path: Path) -> None:
    outcome = run(make(tmp_path / "source", model_type), tmp_path / "out")
    assert len(outcome.matrices) == 2 * {"gpt2": 4, "phi3": 5}.get(model_type, 7)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["F16", "F32"])
def test_what_is_not_quantized_keeps_its_dtype(dtype: str, tmp_path: Path) -> None:
    run(make(tmp_path / "source", dtype=dtype), tmp_path / "out")
    names = header(tmp_path / "out")
    assert {names[name]["dtype"] for name in ("model.embed_tokens.weight", "model.norm.weight")} == {dtype}


@pytest.mark.slow
def test_experts_that_no_token_reaches_are_rounded_and_named(tmp_path: Path) -> None:
    many = {"num_experts": 24, "num_experts_per_tok": 1, "moe_intermediate_size": 64, "hidden_size": 64}
    recipe = tiny.Recipe("qwen3_moe", {**many, "num_hidden_layers": 1}, spread=0.05)
    random = np.random.default_rng(0)
    windows = (random.integers(0, tiny.VOCAB_SIZE, 16).astype(np.int32),)
    source = tiny.make(tmp_path / "source", recipe)
    job = make_job(source, tmp_path / "out", "gptq", windows, may_round=True, **CALM)
    outcome = quantize(job)
    assert len(outcome.matrices) == 4 + 24 * 3
    rounded = [each.name for each in outcome.matrices if each.is_rounded]
    assert 3 * 8 <= len(rounded) < 3 * 24
    assert all(".experts." in name for name in rounded)


@pytest.mark.slow
def test_awq_on_a_cpu(tmp_path: Path) -> None:
    # Its search for clips goes by 64 rows, and every matrix must have a multiple of them.
    changes = {**SMALL, "hidden_size": 128}
    for name in ("one", "other"):
        source = tiny.make(tmp_path / name / "source", tiny.Recipe("qwen2", changes, spread=0.05))
        outcome = run(source, tmp_path / name / "out", "awq", sym=False)
    assert len(outcome.matrices) == 2 * 7
    told = json.loads((tmp_path / "one/out/quantize_config.json").read_text())
    assert (told["quant_method"], told["zero_point"], told["version"]) == ("awq", True, "gemm")
    assert content(tmp_path / "one/out") == content(tmp_path / "other/out")
