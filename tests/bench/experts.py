"""What converting a mixture of Qwen3-30B-A3B's shape costs: 128 experts in each of its 48 layers.

The weights are zeros, as holes in a sparse file, so that neither disk nor time goes to making them.

python -m tests.bench.experts
python -m tests.bench.experts --layers 4 --quant Q4_K_M
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from convert.model.binding import places
from convert.model.config import Config
from convert.model.families import describe
from tests.bench.conversion import ROOT, ours, write_tokenizer

CONFIG: dict[str, Any] = {
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


def make_checkpoint(folder: Path, values: dict[str, Any]) -> int:
    """Write a checkpoint of zeros, as a hole in a file, and say how many weights it has."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(values, indent=1))
    if not (folder / "tokenizer.json").exists():
        write_tokenizer(folder, values["vocab_size"])
    family, decoder = describe(Config(values))
    origins, _ = places(decoder, family.naming, family.naming.prefix)
    header, at = {}, 0
    for ref, shape in decoder.shapes():
        length = 2 * int(shape[0] * (shape[1] if len(shape) > 1 else 1))
        header[origins[ref].name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + length]}
        at += length
    text = json.dumps(header).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(stream.tell() + at)
    return at // 2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=ROOT / "bench" / "out", help="where models and files go")
    parser.add_argument("--layers", type=int, default=48, help="how deep the model is")
    parser.add_argument("--quant", default="Q8_0", help="the type to convert to")
    asked = parser.parse_args()
    work = asked.work.resolve()
    model = work / f"experts-{asked.layers}"
    weights = make_checkpoint(model, {**CONFIG, "num_hidden_layers": asked.layers})
    print(f"{weights / 1e9:.1f} G weights, {asked.layers} layers, to {asked.quant}:", flush=True)
    print(ours(model, [asked.quant], work), flush=True)


if __name__ == "__main__":
    main()
