"""Checkpoints of shapes that people have, with seeded random weights and a real vocabulary."""

from __future__ import annotations

import gzip
import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convert.model.binding import places
from convert.model.config import Config
from convert.model.families import describe
from convert.tokenizer import load

ROOT = Path(__file__).resolve().parents[2]
RANKS = ROOT / "tests" / "fixtures" / "tokenizers" / "qwen" / "qwen.tiktoken.gz"
POOL_WEIGHTS = 1 << 24
# A mixture of experts: 128 in each layer.
EXPERTS: dict[str, Any] = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "norm_topk_prob": True,
    "decoder_sparse_step": 1,
    "max_position_embeddings": 40_960,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "vocab_size": 151_936,
    "tie_word_embeddings": False,
    "hidden_act": "silu",
    "torch_dtype": "bfloat16",
    "eos_token_id": 151_645,
}


@dataclass(frozen=True)
class Shape:
    """Qwen-1.8B's sizes, with as many layers as asked."""

    layers: int = 24
    hidden: int = 2048
    heads: int = 16
    mlp: int = 5504
    vocab: int = 151_936


def make_checkpoint(folder: Path, shape: Shape) -> None:
    """Write seeded random weights in Qwen2's layout, which both routes read, and Qwen's own vocabulary."""
    if (folder / "done").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.mlp,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "vocab_size": shape.vocab,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "hidden_act": "silu",
        "torch_dtype": "bfloat16",
        "eos_token_id": 151_645,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    write_tokenizer(folder, shape.vocab)
    write_weights(folder / "model.safetensors", shapes(shape))
    (folder / "done").touch()


def shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Name every tensor of Qwen2 with its shape."""
    hidden, named = shape.hidden, {"model.embed_tokens.weight": (shape.vocab, shape.hidden)}
    found: dict[str, tuple[int, ...]] = dict(named)
    for layer in range(shape.layers):
        at = f"model.layers.{layer}."
        for letter in "qkv":
            found[f"{at}self_attn.{letter}_proj.weight"] = (hidden, hidden)
            found[f"{at}self_attn.{letter}_proj.bias"] = (hidden,)
        found[f"{at}self_attn.o_proj.weight"] = (hidden, hidden)
        for part, size in (
            ("gate", (shape.mlp, hidden)),
            ("up", (shape.mlp, hidden)),
            ("down", (hidden, shape.mlp)),
        ):
            found[f"{at}mlp.{part}_proj.weight"] = size
        found[f"{at}input_layernorm.weight"] = found[f"{at}post_attention_layernorm.weight"] = (hidden,)
    return {**found, "model.norm.weight": (hidden,), "lm_head.weight": (shape.vocab, hidden)}


def make_experts(folder: Path, layers: int, changes: dict[str, int]) -> None:
    """Write a mixture of experts of Qwen3-30B-A3B's shape, with as many layers as asked."""
    if (folder / "done").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    values = {**EXPERTS, **changes, "num_hidden_layers": layers}
    (folder / "config.json").write_text(json.dumps(values, indent=1))
    write_tokenizer(folder, values["vocab_size"])
    write_weights(folder / "model.safetensors", described(values))
    (folder / "done").touch()


def make_sparse(folder: Path, values: dict[str, Any]) -> int:
    """Write a checkpoint of zeros, as a hole in a file, and say how many weights it has."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values, indent=1))
    if not (folder / "tokenizer.json").exists():
        write_tokenizer(folder, values["vocab_size"])
    header, length = packed_header(described(values))
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(header)
        stream.truncate(len(header) + length)
    return length // 2


def described(values: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name every tensor of a model with its shape, as its family's file says."""
    family, decoder = describe(Config(values))
    origins, _ = places(decoder, family.naming, family.naming.prefix)
    return {origins[ref].name: shape for ref, shape in decoder.shapes()}


def packed_header(named: dict[str, tuple[int, ...]]) -> tuple[bytes, int]:
    """Pack a safetensors header of bfloat16 tensors; say how long they are together."""
    header, start = {}, 0
    for name, size in named.items():
        length = 2 * math.prod(size)
        header[name] = {"dtype": "BF16", "shape": list(size), "data_offsets": [start, start + length]}
        start += length
    text = json.dumps(header).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    return len(text).to_bytes(8, "little") + text, start


def write_weights(path: Path, named: dict[str, tuple[int, ...]]) -> None:
    """Write bfloat16 tensors cut from a pool of normal numbers, each from elsewhere in it."""
    random = np.random.default_rng(0)
    values = random.standard_normal(POOL_WEIGHTS, np.float32) * np.float32(0.02)
    pool = (values.view(np.uint32) >> 16).astype(np.uint16)
    with path.open("wb") as stream:
        stream.write(packed_header(named)[0])
        for size in named.values():
            left = math.prod(size)
            while left:
                first = int(random.integers(POOL_WEIGHTS))
                taken = pool[first : first + left]
                stream.write(taken.tobytes())
                left -= len(taken)


def write_tokenizer(folder: Path, vocab_size: int) -> None:
    """Write Qwen's vocabulary as both routes read it: tokenizer.json."""
    source = folder / "ranks"
    source.mkdir()
    (source / "qwen.tiktoken").write_bytes(gzip.decompress(RANKS.read_bytes()))
    (source / "generation_config.json").write_text(json.dumps({"chat_format": "chatml"}))
    tokenizer = load(source, "qwen", {"model_type": "qwen"}, vocab_size)
    (folder / "tokenizer.json").write_bytes(tokenizer.json)
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer.config, ensure_ascii=False))
    shutil.rmtree(source)
