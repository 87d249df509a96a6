"""The forward pass against Transformers' own, on seeded random models of every architecture."""

from __future__ import annotations

import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from convert.checkpoint import open_checkpoint
from convert.errors import Failure
from convert.model.binding import bind
from convert.model.config import read_config
from convert.model.decoder import Attention
from convert.model.families import find_family
from convert.model.forward import Forward
from convert.model.forward.activation import ACTIVATIONS
from convert.model.forward.attention import attend

if TYPE_CHECKING:
    from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.torch")

SIZES: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 500.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 500.0,
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
    "long_factor": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
    "original_max_position_embeddings": 40,
}
GPT2 = {"vocab_size": 96, "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 128}
# Six heads: the slopes of the last two lie between those of the first.
ALIBI = {"vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 6}

CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    "gpt2": ("GPT2", GPT2, 70),
    "gpt2-untied": ("GPT2", {**GPT2, "n_inner": 56, "tie_word_embeddings": False}, 7),
    "llama": ("Llama", SIZES, 70),
    "llama-biased": ("Llama", {**SIZES, "attention_bias": True, "mlp_bias": True, "head_dim": 16}, 33),
    "llama-tied-linear": (
        "Llama",
        {
            **SIZES,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "linear", "rope_theta": 1000.0, "factor": 2.0},
        },
        40,
    ),
    "llama-llama3": ("Llama", {**SIZES, "rope_parameters": LLAMA3}, 70),
    "llama-yarn": ("Llama", {**SIZES, "rope_parameters": YARN}, 70),
    "mistral-window": ("Mistral", {**SIZES, "sliding_window": 9}, 70),
    "mistral-whole": ("Mistral", {**SIZES, "sliding_window": None}, 70),
    "qwen2": ("Qwen2", SIZES, 70),
    "qwen2-yarn": ("Qwen2", {**SIZES, "rope_parameters": {**YARN, "beta_fast": 16, "beta_slow": 2}}, 70),
    "qwen3": ("Qwen3", {**SIZES, "head_dim": 24}, 70),
    "phi3-short": (
        "Phi3",
        {**SIZES, "rope_parameters": LONGROPE, "original_max_position_embeddings": 40},
        40,
    ),
    "phi3-long": ("Phi3", {**SIZES, "rope_parameters": LONGROPE, "original_max_position_embeddings": 40}, 41),
    "phi3-window": ("Phi3", {**SIZES, "sliding_window": 16}, 70),
    "phi3-partial": (
        "Phi3",
        {
            **SIZES,
            "rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5},
        },
        70,
    ),
    "gemma": ("Gemma", {**SIZES, "head_dim": 24, "tie_word_embeddings": True}, 70),
    "bloom": ("Bloom", ALIBI, 70),
    # Its eager attention adds the biases twice.
    "falcon-alibi": (
        "Falcon",
        {**ALIBI, "alibi": True, "multi_query": False, "parallel_attn": False, "attn_implementation": "sdpa"},
        70,
    ),
}


def make(kind: str, settings: dict[str, Any]) -> Any:
    """Make a model whose every part matters: no weight, bias or norm left at what it was initialised to."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{"attn_implementation": "eager", **settings})
    model = getattr(transformers, f"{kind}{'LMHeadModel' if kind == 'GPT2' else 'ForCausalLM'}")(
        config
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter + torch.randn_like(parameter) * 0.1)
    return model


def opened(folder: Path) -> Forward:
    """Read a folder as the pipeline does."""
    config = read_config(folder)
    family = find_family(config)
    decoder = family.describe(config)
    checkpoint = open_checkpoint(folder)
    origins = bind(decoder, family.naming, checkpoint.tensors).origins
    return Forward(decoder, checkpoint, origins)


def expected(model: Any, tokens: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        logits: np.ndarray[Any, Any] = (
            model(torch.from_numpy(tokens[None].astype(np.int64))).logits[0].numpy()
        )
    return logits


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_transformers(case: str, tmp_path: Path) -> None:
    kind, settings, length = CASES[case]
    model = make(kind, settings)
    model.save_pretrained(tmp_path)
    tokens = np.random.default_rng(0).integers(0, 96, length).astype(np.int32)
    wanted = expected(model, tokens)
    assert wanted.std() > 0.1
    np.testing.assert_allclose(opened(tmp_path).logits(tokens), wanted, atol=1e-4, rtol=0)


def test_qwen_1_is_qwen2_by_other_names(tmp_path: Path) -> None:
    settings = {**SIZES, "num_key_value_heads": 4}
    model = make("Qwen2", settings)
    write_as_qwen_1(tmp_path, model)
    tokens = np.random.default_rng(0).integers(0, 96, 70).astype(np.int32)
    np.testing.assert_allclose(opened(tmp_path).logits(tokens), expected(model, tokens), atol=1e-4, rtol=0)


def write_as_qwen_1(folder: Path, model: Any) -> None:
    """Relabel a Qwen2 as QWenLMHeadModel had it."""
    names = {
        "model.embed_tokens": "transformer.wte",
        "model.norm": "transformer.ln_f",
        "model.layers": "transformer.h",
        "self_attn.o_proj": "attn.c_proj",
        "input_layernorm": "ln_1",
        "post_attention_layernorm": "ln_2",
        "mlp.gate_proj": "mlp.w2",
        "mlp.up_proj": "mlp.w1",
        "mlp.down_proj": "mlp.c_proj",
    }
    source, made = model.state_dict(), {}
    for name, values in source.items():
        if "q_proj" in name:
            parts = [source[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            renamed, values = name.replace("self_attn.q_proj", "attn.c_attn"), torch.cat(parts)  # noqa: PLW2901
        elif "k_proj" in name or "v_proj" in name:
            continue
        else:
            renamed = name
        for old, new in names.items():
            renamed = renamed.replace(old, new)
        made[renamed] = values.contiguous()
    safetensors.save_file(made, folder / "model.safetensors")
    config = model.config
    (folder / "config.json").write_text(
        json.dumps(
            {
                "architectures": ["QWenLMHeadModel"],
                "model_type": "qwen",
                "vocab_size": config.vocab_size,
                "hidden_size": config.hidden_size,
                "intermediate_size": 2 * config.intermediate_size,
                "num_hidden_layers": config.num_hidden_layers,
                "num_attention_heads": config.num_attention_heads,
                "kv_channels": config.hidden_size // config.num_attention_heads,
                "layer_norm_epsilon": config.rms_norm_eps,
                "rotary_emb_base": 10000,
                "seq_length": 128,
                "no_bias": True,
                "tie_word_embeddings": False,
            }
        )
    )


@pytest.mark.parametrize("kind", ["GPT2", "Phi3"])
def test_stored_in_16_bits(kind: str, tmp_path: Path) -> None:
    model = make(kind, GPT2 if kind == "GPT2" else SIZES).to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    tokens = np.arange(40, dtype=np.int32)
    widened = type(model).from_pretrained(tmp_path, dtype=torch.float32)
    wanted = expected(widened, tokens)
    np.testing.assert_allclose(opened(tmp_path).logits(tokens), wanted, atol=1e-4, rtol=0)


def test_texts_pass_side_by_side_and_weights_in_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("Phi3", SIZES).save_pretrained(tmp_path)
    forward = opened(tmp_path)
    tokens = np.random.default_rng(1).integers(0, 96, (3, 20)).astype(np.int32)
    alone = [forward.layer(1, forward.layer(0, forward.embed(text[None]))) for text in tokens]
    monkeypatch.setattr("convert.model.forward.SLICE_WEIGHTS", 48 * 7)
    monkeypatch.setattr("convert.model.forward.MLP_TOKENS", 13)
    together = forward.layer(1, forward.layer(0, forward.embed(tokens)))
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-5, rtol=0)


@pytest.mark.parametrize("window", [None, 1, 5, 64])
def test_attention_in_blocks_is_attention_at_once(
    window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    queries = random.standard_normal((2, 30, 4, 8), np.float32)
    keys, values = random.standard_normal((2, 2, 30, 2, 8), np.float32)
    scores = np.einsum("tqhd,tkhd->thqk", queries, np.repeat(keys, 2, axis=2)) / np.sqrt(8)
    distance = np.arange(30)[:, None] - np.arange(30)
    weights = np.exp(np.where((distance < 0) | (distance >= (window or 30)), -np.inf, scores))
    weights /= weights.sum(axis=-1, keepdims=True)
    wanted = np.einsum("thqk,tkhd->tqhd", weights, np.repeat(values, 2, axis=2))
    mixer = Attention(4, 2, 8, None, window=window)
    for scores_held in (1 << 22, 100):
        monkeypatch.setattr("convert.model.forward.attention.MAX_SCORES", scores_held)
        np.testing.assert_allclose(
            attend((queries, keys, values), mixer, None, ThreadPoolExecutor(2)), wanted, atol=1e-5, rtol=0
        )


def test_gelu_is_within_its_promise_of_erf() -> None:
    rows = np.linspace(-8, 8, 4001, dtype=np.float32)
    wanted = [float(x) * (1 + math.erf(float(x) / math.sqrt(2))) / 2 for x in rows]
    np.testing.assert_allclose(ACTIVATIONS["gelu"](rows.copy()), wanted, atol=2e-6, rtol=0)


def test_a_token_beyond_the_vocabulary_is_refused(tmp_path: Path) -> None:
    make("Llama", SIZES).save_pretrained(tmp_path)
    with pytest.raises(Failure, match="token 96, and the model's vocabulary has 96"):
        opened(tmp_path).logits(np.array([1, 96], np.int32))


def test_damaged_weights_are_found_at_their_layer(tmp_path: Path) -> None:
    model = make("Llama", SIZES)
    model.model.layers[1].mlp.up_proj.weight.data[3, 4] = float("inf")
    model.save_pretrained(tmp_path)
    with pytest.raises(Failure, match="layer 1 turns the text into numbers that are infinite"):
        opened(tmp_path).logits(np.arange(5, dtype=np.int32))


def test_a_layer_leaves_its_input_alone(tmp_path: Path) -> None:
    make("GPT2", GPT2).save_pretrained(tmp_path)
    forward = opened(tmp_path)
    hidden = forward.embed(np.arange(6, dtype=np.int32)[None])
    before = hidden.copy()
    forward.layer(0, hidden)
    np.testing.assert_array_equal(hidden, before)
