"""Importance matrices against llama.cpp's own collection and Transformers' activations."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest

from convert.calibration import Windows
from convert.checkpoint import open_checkpoint
from convert.errors import Failure, UsageFailure
from convert.formats.gguf.importance import (
    Importance,
    compute_importance,
    find_importance,
    fit,
    pack_importance,
    read_importance,
    write_importance,
)
from convert.formats.gguf.options import GgufOptions, Quant
from convert.learning.batch import work_bytes
from convert.model.binding import bind
from convert.model.config import read_config
from convert.model.families import find_family
from convert.model.feature import Feature
from convert.model.forward import RENDERS as FORWARD_RENDERS
from convert.model.source import Weights
from convert.progress import Silent
from tests import tiny
from tests.gguf import oracle
from tests.gguf.collector import collect

if TYPE_CHECKING:
    from convert.model.decoder import Decoder

# Sums of few tokens, of sinks and of states gather the rounding of either side.
UNSTEADY = {
    Feature.EXPERTS, Feature.SINKS, Feature.DELTA_RULE, Feature.STATE_SPACE, Feature.GELU, Feature.GELU_TANH,
}  # fmt: skip
LENGTHS = (64, 64, 64, 40)


def opened(folder: Path) -> tuple[Decoder, Weights]:
    config = read_config(folder)
    family = find_family(config)
    decoder = family.describe(config)
    checkpoint = open_checkpoint(folder)
    binding = bind(decoder, family.naming, checkpoint.tensors)
    return decoder, Weights(checkpoint, binding)


def windows(vocab_size: int, lengths: tuple[int, ...] = LENGTHS) -> Windows:
    random = np.random.default_rng(0)
    tokens = tuple(random.integers(0, vocab_size, length).astype(np.int32) for length in lengths)
    return Windows(tokens, "text.txt", max(lengths), "digest")


def learnable() -> list[str]:
    """List what the forward pass computes and llama.cpp runs."""
    same = FORWARD_RENDERS - {Feature.EXACT_YARN}  # llama.cpp's ramp begins and ends at whole dimensions
    return [name for name in tiny.rendered("gguf") if tiny.described(name).features <= same]


@pytest.mark.parametrize("model_type", tiny.cases(learnable()))
def test_what_llama_imatrix_collects(model_type: str, tmp_path: Path) -> None:
    folder = tiny.make(tmp_path / "model", tiny.Recipe(model_type, dtype="F32"))
    decoder, weights = opened(folder)
    texts = windows(decoder.vocab_size)
    (path,) = oracle.convert_folder(folder, tmp_path / "out", ["F32"])["F32"]
    theirs = collect(path, texts.tokens)
    ours = compute_importance(decoder, weights, texts, tmp_path)
    assert ours.values.keys() == theirs.keys()
    for name, squares in theirs.items():
        features = tiny.described(model_type).features
        # llama.cpp multiplies rotary angles up in float32, from one pair of dimensions to the next.
        tolerance = 1e-2 if features & UNSTEADY else 2e-4
        wanted = squares / texts.token_count
        if squares.ndim > 1:  # experts, the last column counting the tokens of each
            counts = squares[:, -1:]
            assert ours.sums[name].counts == tuple(counts[:, 0])
            wanted = np.where(counts > 0, squares[:, :-1] / np.maximum(counts, 1), 1).ravel()
        np.testing.assert_allclose(ours.values[name], wanted, rtol=tolerance, atol=1e-6, err_msg=name)
    assert fit(ours, decoder).missing == ()
    assert (ours.chunk_count, ours.chunk_size, ours.datasets) == (4, 64, ("text.txt",))
    assert (ours.file_name, ours.learned["sha256"]) == ("imatrix.gguf", "digest")


MODULES = {
    "GPT2": (
        "transformer.h.{layer}.",
        {
            "attn.c_attn": "attn_qkv",
            "attn.c_proj": "attn_output",
            "mlp.c_fc": "ffn_up",
            "mlp.c_proj": "ffn_down",
        },
    ),
    "Phi3": (
        "model.layers.{layer}.",
        {
            "self_attn.qkv_proj": "attn_qkv",
            "self_attn.o_proj": "attn_output",
            "mlp.gate_up_proj": "ffn_up",
            "mlp.down_proj": "ffn_down",
        },
    ),
    "Qwen3": (
        "model.layers.{layer}.",
        {
            "self_attn.q_proj": "attn_q",
            "self_attn.k_proj": "attn_k",
            "self_attn.v_proj": "attn_v",
            "self_attn.o_proj": "attn_output",
            "mlp.gate_proj": "ffn_gate",
            "mlp.up_proj": "ffn_up",
            "mlp.down_proj": "ffn_down",
        },
    ),
}


@pytest.mark.parametrize("kind", MODULES)
def test_what_transformers_multiplies(kind: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from tests.model import test_forward as made  # noqa: PLC0415 - asks for torch

    model = made.make(kind, made.GPT2 if kind == "GPT2" else made.SIZES)
    model.save_pretrained(tmp_path)
    decoder, weights = opened(tmp_path)
    texts = windows(decoder.vocab_size)
    sums: dict[str, Any] = {}

    def hook(name: str) -> Any:
        def add(_module: Any, inputs: tuple[Any, ...]) -> None:
            squares = inputs[0].double().square().sum(dim=(0, 1)).numpy()
            sums[name] = sums.get(name, 0) + squares

        return add

    prefix, modules = MODULES[kind]
    for layer in range(decoder.layer_count):
        for module, name in modules.items():
            target = model.get_submodule(prefix.format(layer=layer) + module)
            target.register_forward_pre_hook(hook(f"blk.{layer}.{name}.weight"))
    for text in texts.tokens:
        with torch.no_grad():
            model(torch.from_numpy(text[None].astype(np.int64)))
    ours = compute_importance(decoder, weights, texts, tmp_path)
    assert ours.values.keys() == sums.keys()
    for name, squares in sums.items():
        np.testing.assert_allclose(ours.values[name], squares / texts.token_count, rtol=1e-4, err_msg=name)


def test_spilt_and_batched_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, weights = opened(tiny.make(tmp_path / "model", tiny.Recipe("qwen2", {"num_hidden_layers": 2})))
    texts = windows(decoder.vocab_size)
    wanted = compute_importance(decoder, weights, texts, tmp_path)
    monkeypatch.setattr("convert.learning.batch.BATCH_TOKENS", 128)
    monkeypatch.setattr("convert.device.CPU.states_bytes", 0)
    done: list[int] = []
    scratch = tmp_path / "scratch"
    found = compute_importance(decoder, weights, texts, scratch, advance=done.append)
    assert sum(done) == work_bytes(decoder, texts)
    for name, values in wanted.values.items():
        np.testing.assert_allclose(found.values[name], values, rtol=1e-5)
    (kept,) = scratch.iterdir()
    assert sorted(each.name for each in kept.iterdir()) == ["layer-00000", "layer-00001", "turn"]


@pytest.mark.parametrize("model_type", ["gpt2", "llama"])
def test_the_same_bits_for_any_number_of_threads(model_type: str, tmp_path: Path) -> None:
    # Sizes that OpenBLAS would cut at other places for other numbers of threads.
    sizes = {"n_embd": 768, "n_layer": 1} if model_type == "gpt2" else {"hidden_size": 1000}
    recipe = tiny.Recipe(model_type, {**sizes, "num_hidden_layers": 1, "head_dim": 64})
    decoder, weights = opened(tiny.make(tmp_path / "model", recipe))
    texts = windows(decoder.vocab_size, (200, 200, 131))
    found = [
        pack_importance(compute_importance(decoder, weights, texts, tmp_path / str(threads), threads=threads))
        for threads in (1, 2, 4)
    ]
    assert found[0] == found[1] == found[2]


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, weights = opened(tiny.make(tmp_path / "model", tiny.Recipe("qwen2", {"num_hidden_layers": 1})))
    monkeypatch.setattr("convert.device.CPU.states_bytes", 0)

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    with pytest.raises(Failure, match="No space left on device") as raised:
        compute_importance(decoder, weights, windows(decoder.vocab_size), tmp_path)
    assert "TMPDIR" in raised.value.hint


def test_written_and_read_back(tmp_path: Path) -> None:
    decoder, weights = opened(tiny.make(tmp_path / "model", tiny.Recipe("llama", {"num_hidden_layers": 2})))
    made = compute_importance(decoder, weights, windows(decoder.vocab_size, (50, 21)), tmp_path)
    path = tmp_path / "imatrix.gguf"
    write_importance(made, path)
    found = read_importance(path)
    assert found.values.keys() == made.values.keys()
    for name, values in made.values.items():
        np.testing.assert_array_equal(found.values[name], values)
    assert (found.datasets, found.chunk_count, found.chunk_size) == (("text.txt",), 2, 50)
    reader = gguf.GGUFReader(path)
    assert reader.fields["general.type"].contents() == "imatrix"
    tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    assert tensors["blk.0.ffn_up.weight.counts"].tolist() == [71.0]
    assert len(tensors) == 2 * len(made.values)


def of(values: dict[str, int]) -> Importance:
    return Importance({name: np.ones(size, np.float32) for name, size in values.items()}, (), 1, "i.dat")


def test_a_matrix_is_held_against_the_model(tmp_path: Path) -> None:
    decoder, _ = opened(tiny.make(tmp_path / "model", tiny.Recipe("qwen2", {"num_hidden_layers": 1})))
    names = {
        f"blk.0.{name}.weight": 256
        for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up")
    }
    assert fit(of({**names, "blk.0.ffn_down.weight": 768}), decoder).missing == ()
    assert fit(of(names), decoder).missing == ("blk.0.ffn_down.weight",)
    kept = fit(of({**names, "token_embd.weight": 512, "output.weight": 256}), decoder)
    assert "token_embd.weight" not in kept.values
    for values, what in (
        ({"blk.0.attn_q.weight": 257}, "attn_q.weight has 257 values, and the model's has 256 columns"),
        ({**names, "blk.1.attn_q.weight": 256}, "blk.1.attn_q.weight is in none of the model's 1 layers"),
        ({"blk.0.attn_qkv.weight": 256}, "none of its entries is a matrix of this model"),
    ):
        with pytest.raises(Failure, match=what):
            fit(of(values), decoder)


def test_found_by_what_the_recipe_says(tmp_path: Path) -> None:
    decoder, weights = opened(tiny.make(tmp_path / "model", tiny.Recipe("qwen2", {"num_hidden_layers": 1})))
    made = compute_importance(decoder, weights, windows(decoder.vocab_size, (40,)), tmp_path)
    (tmp_path / "given.gguf").write_bytes(pack_importance(made))
    model: Any = SimpleNamespace(decoder=decoder, tokenizer=None)
    recipe: Any = SimpleNamespace(calibration=None, path=tmp_path / "a.yaml", locate=tmp_path.joinpath)
    options = GgufOptions(quants=(Quant.Q4_K_M,), imatrix=Path("given.gguf"))
    found = find_importance(model, options, recipe, weights, Silent())
    assert found.file_name == "given.gguf"
    assert found.values.keys() == made.values.keys()
    options = GgufOptions(quants=(Quant.Q4_K_M,), imatrix="calibration")
    with pytest.raises(UsageFailure, match="no calibration text"):
        find_importance(model, options, recipe, weights, Silent())
