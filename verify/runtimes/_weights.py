"""The source's own weights, mapped; the original Qwen under the names of Qwen2.

This mapping is written down a second time on purpose: were it the converter's, a mistake there would be in
the reference too, and no comparison would show it.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from convert.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QWEN_NAMES = (
    (r"transformer\.wte\.(.*)", r"model.embed_tokens.\1"),
    (r"transformer\.h\.(\d+)\.attn\.c_proj\.(.*)", r"model.layers.\1.self_attn.o_proj.\2"),
    (r"transformer\.h\.(\d+)\.mlp\.w2\.(.*)", r"model.layers.\1.mlp.gate_proj.\2"),
    (r"transformer\.h\.(\d+)\.mlp\.w1\.(.*)", r"model.layers.\1.mlp.up_proj.\2"),
    (r"transformer\.h\.(\d+)\.mlp\.c_proj\.(.*)", r"model.layers.\1.mlp.down_proj.\2"),
    (r"transformer\.h\.(\d+)\.ln_1\.(.*)", r"model.layers.\1.input_layernorm.\2"),
    (r"transformer\.h\.(\d+)\.ln_2\.(.*)", r"model.layers.\1.post_attention_layernorm.\2"),
    (r"transformer\.ln_f\.(.*)", r"model.norm.\1"),
    (r"lm_head\.(.*)", r"lm_head.\1"),
)
QWEN_FUSED = re.compile(r"transformer\.h\.(\d+)\.attn\.c_attn\.(weight|bias)")
QWEN_BUFFERS = re.compile(r".*(rotary_emb\.inv_freq|masked_bias|logn_tensor)")


def read_config(folder: Path) -> dict[str, Any]:
    """The config as it stands; anything in it that names code is dropped, since none is run."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as fault:
        raise Failure(f"{path}: {fault}", "a source needs its config.json") from None
    if not isinstance(config, dict):
        raise Failure(f"{path}: is no JSON object")
    config.pop("auto_map", None)
    return config


def as_qwen2(config: dict[str, Any]) -> dict[str, Any]:
    """What Qwen-1's config says, in Qwen2's words."""
    return {
        "model_type": "qwen2",
        "vocab_size": config["vocab_size"],
        "hidden_size": config["hidden_size"],
        "intermediate_size": config["intermediate_size"] // 2,
        "num_hidden_layers": config["num_hidden_layers"],
        "num_attention_heads": config["num_attention_heads"],
        "num_key_value_heads": config["num_attention_heads"],
        "hidden_act": "silu",
        "max_position_embeddings": config.get("seq_length", config.get("max_position_embeddings", 2048)),
        "rms_norm_eps": config.get("layer_norm_epsilon", 1e-6),
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": float(config.get("rotary_emb_base", 10000.0)),
        },
        "tie_word_embeddings": config.get("tie_word_embeddings", False),
        "use_sliding_window": False,
    }


def read_weights(folder: Path, model_type: str) -> dict[str, Any]:
    """Every tensor, as a view of the mapped file: read when it is used, and the kernel may drop it."""
    from safetensors import safe_open

    tensors: dict[str, Any] = {}
    for file in weight_files(folder):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118  (no mapping)
                tensors[name] = opened.get_tensor(name)
    if model_type == "qwen":
        return dict(_relabelled(tensors))
    return tensors


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that the index names, or the only one."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
        if any("/" in name or name.startswith(".") for name in names):
            raise Failure(f"{index}: names a file outside the folder")
        return [folder / name for name in names]
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        raise Failure(
            f"{folder}: one safetensors file or an index was expected, and there are {len(files)}",
            "weights in .bin files are never unpickled here: give a folder with safetensors",
        )
    return files


def _relabelled(tensors: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, tensor in tensors.items():
        if fused := QWEN_FUSED.fullmatch(name):
            for part, rows in zip("qkv", tensor.chunk(3, dim=0), strict=True):
                yield f"model.layers.{fused[1]}.self_attn.{part}_proj.{fused[2]}", rows
        elif not QWEN_BUFFERS.fullmatch(name):
            yield _relabel(name), tensor


def _relabel(name: str) -> str:
    for pattern, replacement in QWEN_NAMES:
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    raise Failure(f"{name}: no such tensor in any published Qwen")
