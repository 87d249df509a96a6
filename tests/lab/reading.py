"""A shipped folder read back into a network, so that what is evaluated is what is shipped."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file

from tests.lab.export import gpt2_tensors, qwen_tensors
from tests.lab.network import Network, Shape
from tests.lab.samples import ChatFormat, TextFormat
from tests.lab.vocabulary import END_OF_TEXT, byte_characters, read_tiktoken

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.lab.vocabulary import Ranks


def read_network(folder: Path) -> Network:
    """Read the network of a shipped folder, in float32."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    stored = {k: v for path in sorted(folder.glob("*.safetensors")) for k, v in load_file(path).items()}
    if config["model_type"] == "qwen":
        shape = Shape(
            "qwen", config["vocab_size"], config["hidden_size"], config["num_hidden_layers"],
            config["num_attention_heads"], config["intermediate_size"] // 2, config["rotary_emb_base"],
            config["seq_length"], config["layer_norm_epsilon"],
        )  # fmt: skip
    else:
        shape = Shape(
            "gpt2", config["vocab_size"], config["n_embd"], config["n_layer"], config["n_head"],
            4 * config["n_embd"], context=config["n_positions"], epsilon=config["layer_norm_epsilon"],
        )  # fmt: skip
    network = Network(shape)
    with torch.no_grad():
        if shape.family == "qwen":
            _fill_qwen(network, stored)
        else:
            _fill_gpt2(network, stored)
    return network.eval()


def _fill_qwen(network: Network, stored: dict[str, torch.Tensor]) -> None:
    for block, index in zip(network.layers, range(network.shape.layers), strict=True):
        attention, prefix = block.attention, f"transformer.h.{index}.attn.c_attn"
        for kind in ("weight", "bias"):
            for part, values in zip(
                (attention.q, attention.k, attention.v), stored.pop(f"{prefix}.{kind}").chunk(3), strict=True
            ):
                getattr(part, kind).copy_(values)
    for shard in qwen_tensors(network):
        for name, target in shard.items():
            if ".c_attn." not in name:
                target.copy_(stored.pop(name))
    _all_used(stored)


def _fill_gpt2(network: Network, stored: dict[str, torch.Tensor]) -> None:
    for block, index in zip(network.layers, range(network.shape.layers), strict=True):
        attention, prefix = block.attention, f"h.{index}.attn.c_attn"
        for kind in ("weight", "bias"):
            for part, values in zip(
                (attention.q, attention.k, attention.v),
                stored.pop(f"{prefix}.{kind}").chunk(3, -1),
                strict=True,
            ):
                getattr(part, kind).copy_(values.T if values.ndim == 2 else values)
    for name, target in gpt2_tensors(network).items():
        if ".c_attn." not in name:
            target.copy_(stored.pop(name))
    _all_used(stored)


def _all_used(stored: dict[str, torch.Tensor]) -> None:
    if stored:
        raise ValueError(f"tensors of no use: {sorted(stored)}")


def read_form(folder: Path) -> ChatFormat | TextFormat:
    """Read the shipped vocabulary, with the prompts that go with it."""
    if (folder / "qwen.tiktoken").exists():
        return ChatFormat(read_tiktoken(folder / "qwen.tiktoken"))
    return TextFormat(read_vocab_json(folder / "vocab.json"))


def read_vocab_json(path: Path) -> Ranks:
    """Read the ranks behind GPT-2's spelling of the tokens."""
    byte_of = {character: byte for byte, character in byte_characters().items()}
    spellings = json.loads(path.read_text(encoding="utf-8"))
    return {
        bytes(byte_of[c] for c in token): rank
        for token, rank in sorted(spellings.items(), key=lambda item: item[1])
        if token != END_OF_TEXT
    }


@torch.no_grad()
def revocab(network: Network, old: Sequence[bytes], new: Sequence[bytes], size: int) -> Network:
    """Move the network to another vocabulary: rows follow their tokens, a new one is a mean of bytes."""
    other = Network(replace(network.shape, vocab_size=size))
    tables = ("embed.weight", "head.weight")
    state = network.state_dict()
    other.load_state_dict({n: values for n, values in state.items() if n not in tables}, strict=False)
    where = {token: row for row, token in enumerate(old)}
    for source, target in ((network.embed, other.embed), (network.head, other.head)):
        target.weight[len(new) :] = 0.0
        for row, token in enumerate(new):
            parts = [where[token]] if token in where else [where[bytes([byte])] for byte in token]
            target.weight[row] = source.weight[parts].mean(0)
    return other
