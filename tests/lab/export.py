"""Networks written as the Hub would hold them: Qwen-1's original layout, and GPT-2's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from tests.lab.vocabulary import (
    END_OF_TEXT,
    QWEN_SPECIALS,
    byte_characters,
    merges_of,
    write_tiktoken,
)

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from tests.lab.network import Network
    from tests.lab.vocabulary import Ranks

QWEN_SHARDS = 3


def write_qwen(network: Network, ranks: Ranks, folder: Path) -> None:
    """Write a QWenLMHeadModel: names, config and vocabulary as Qwen-7B-Chat's, in shards with an index."""
    shape = network.shape
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", {
        "architectures": ["QWenLMHeadModel"],
        "attn_dropout_prob": 0.0,
        "bf16": True,
        "emb_dropout_prob": 0.0,
        "fp16": False,
        "fp32": False,
        "hidden_size": shape.hidden,
        "initializer_range": 0.02,
        "intermediate_size": 2 * shape.mlp,
        "kv_channels": shape.hidden // shape.heads,
        "layer_norm_epsilon": shape.epsilon,
        "max_position_embeddings": shape.context,
        "model_type": "qwen",
        "no_bias": True,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "onnx_safe": None,
        "rotary_emb_base": shape.rope_base,
        "rotary_pct": 1.0,
        "scale_attn_weights": True,
        "seq_length": shape.context,
        "softmax_in_fp32": False,
        "tie_word_embeddings": False,
        "tokenizer_class": "QWenTokenizer",
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_dynamic_ntk": True,
        "use_flash_attn": False,
        "use_logn_attn": True,
        "vocab_size": shape.vocab_size,
    })  # fmt: skip
    end, start = (len(ranks) + QWEN_SPECIALS.index(t) for t in ("<|im_end|>", "<|im_start|>"))
    stop = len(ranks) + QWEN_SPECIALS.index(END_OF_TEXT)
    _write_json(folder / "generation_config.json", {
        "chat_format": "chatml",
        "do_sample": False,
        "eos_token_id": stop,
        "max_new_tokens": 256,
        "max_window_size": shape.context,
        "pad_token_id": stop,
        "stop_words_ids": [[end], [start]],
    })  # fmt: skip
    _write_json(folder / "tokenizer_config.json", {
        "model_max_length": shape.context,
        "tokenizer_class": "QWenTokenizer",
    })  # fmt: skip
    write_tiktoken(ranks, folder / "qwen.tiktoken")
    _write_shards(qwen_tensors(network), folder)


def qwen_tensors(network: Network) -> list[dict[str, Tensor]]:
    """Name the tensors as Qwen-1 does, divided into shards."""
    layers: list[dict[str, Tensor]] = []
    for index, block in enumerate(network.layers):
        attention, prefix = block.attention, f"transformer.h.{index}"
        q, k, v = attention.q, attention.k, attention.v
        layers.append({
            f"{prefix}.ln_1.weight": block.norm_1.weight,
            f"{prefix}.attn.c_attn.weight": torch.cat((q.weight, k.weight, v.weight)),
            f"{prefix}.attn.c_attn.bias": torch.cat((q.bias, k.bias, v.bias)),
            f"{prefix}.attn.c_proj.weight": attention.out.weight,
            f"{prefix}.ln_2.weight": block.norm_2.weight,
            f"{prefix}.mlp.w1.weight": block.up.weight,
            f"{prefix}.mlp.w2.weight": block.gate.weight,
            f"{prefix}.mlp.c_proj.weight": block.down.weight,
        })  # fmt: skip
    first = {"transformer.wte.weight": network.embed.weight}
    last = {"transformer.ln_f.weight": network.norm.weight, "lm_head.weight": network.head.weight}
    half = len(layers) // 2
    shards = [first, {}, last]
    for index, layer in enumerate(layers):
        shards[0 if index < half - 1 else 1 if index <= half else 2].update(layer)
    return shards


def _write_shards(shards: list[dict[str, Tensor]], folder: Path) -> None:
    where: dict[str, str] = {}
    size_bytes = 0
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        tensors = {key: value.detach().to("cpu", torch.bfloat16).contiguous() for key, value in shard.items()}
        _save(tensors, folder / name)
        where |= dict.fromkeys(tensors, name)
        size_bytes += sum(value.numel() * 2 for value in tensors.values())
    index = {"metadata": {"total_size": size_bytes}, "weight_map": dict(sorted(where.items()))}
    _write_json(folder / "model.safetensors.index.json", index)


def write_gpt2(network: Network, ranks: Ranks, folder: Path) -> None:
    """Write a GPT2LMHeadModel as OpenAI's on the Hub: bare names, Conv1D weights, a tied head."""
    shape = network.shape
    folder.mkdir(parents=True, exist_ok=True)
    stop = len(ranks)
    _write_json(folder / "config.json", {
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.0,
        "bos_token_id": stop,
        "embd_pdrop": 0.0,
        "eos_token_id": stop,
        "initializer_range": 0.02,
        "layer_norm_epsilon": shape.epsilon,
        "model_type": "gpt2",
        "n_ctx": shape.context,
        "n_embd": shape.hidden,
        "n_head": shape.heads,
        "n_inner": None,
        "n_layer": shape.layers,
        "n_positions": shape.context,
        "resid_pdrop": 0.0,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "vocab_size": shape.vocab_size,
    })  # fmt: skip
    _write_json(
        folder / "generation_config.json", {"bos_token_id": stop, "eos_token_id": stop, "do_sample": False}
    )
    _write_json(folder / "tokenizer_config.json", {
        "add_prefix_space": False,
        "model_max_length": shape.context,
        "tokenizer_class": "GPT2Tokenizer",
        **dict.fromkeys(("bos_token", "eos_token", "unk_token"), END_OF_TEXT),
    })  # fmt: skip
    table = byte_characters()
    vocab = {"".join(table[b] for b in token): rank for token, rank in ranks.items()} | {END_OF_TEXT: stop}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    pairs = (" ".join("".join(table[b] for b in half) for half in pair) for pair in merges_of(ranks))
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "".join(f"{pair}\n" for pair in pairs), encoding="utf-8"
    )
    tensors = {k: v.detach().to("cpu", torch.bfloat16).contiguous() for k, v in gpt2_tensors(network).items()}
    _save(tensors, folder / "model.safetensors")


def gpt2_tensors(network: Network) -> dict[str, Tensor]:
    """Name the tensors as GPT-2 does; its linear layers are stored as (in, out)."""
    if network.positions is None:
        raise ValueError("a rotary network has no learned positions")
    tensors: dict[str, Tensor] = {"wte.weight": network.embed.weight, "wpe.weight": network.positions.weight}
    for index, block in enumerate(network.layers):
        attention = block.attention
        q, k, v = attention.q, attention.k, attention.v
        tensors |= {
            **{f"h.{index}.ln_1.{kind}": values for kind, values in block.norm_1.named_parameters()},
            f"h.{index}.attn.c_attn.weight": torch.cat((q.weight, k.weight, v.weight)).T,
            f"h.{index}.attn.c_attn.bias": torch.cat((q.bias, k.bias, v.bias)),
            f"h.{index}.attn.c_proj.weight": attention.out.weight.T,
            f"h.{index}.attn.c_proj.bias": attention.out.bias,
            **{f"h.{index}.ln_2.{kind}": values for kind, values in block.norm_2.named_parameters()},
            f"h.{index}.mlp.c_fc.weight": block.up.weight.T,
            f"h.{index}.mlp.c_fc.bias": block.up.bias,
            f"h.{index}.mlp.c_proj.weight": block.down.weight.T,
            f"h.{index}.mlp.c_proj.bias": block.down.bias,
        }
    return tensors | {f"ln_f.{kind}": values for kind, values in network.norm.named_parameters()}


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)  # the library makes it private


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
