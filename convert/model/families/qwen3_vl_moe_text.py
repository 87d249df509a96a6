"""The text decoder of Qwen3-VL's mixtures of experts: that of Qwen3's, with experts turned and stacked."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from convert.model.config import Config
from convert.model.decoder import Decoder, Role
from convert.model.families import qwen2_moe, qwen2_vl_text, qwen3_moe, qwen3_vl_text
from convert.model.family import Canonical, Reference
from convert.model.feature import Feature

CLASSES = ("Qwen3VLMoeForConditionalGeneration",)
# As the original repos hold them; Transformers 5 saves them unturned.
NAMING = replace(
    qwen2_moe.FUSED,
    transposed=frozenset({Role.EXPERT_GATE, Role.EXPERT_UP, Role.EXPERT_DOWN}),
    others=(qwen2_moe.FUSED, qwen2_moe.APART),
)
TOKENIZER = qwen3_vl_text.TOKENIZER
GGUF = replace(
    qwen3_vl_text.GGUF,
    architecture="qwen3vlmoe",
    renders=qwen3_vl_text.GGUF.renders | {Feature.EXPERTS},
)
# For texts alone it is Qwen3's, which Transformers has a class of.
CANONICAL = Canonical(qwen3_moe.written)
EXAMPLE = {
    **qwen2_moe.SIZES,
    **{key: qwen3_vl_text.EXAMPLE[key] for key in ("head_dim", "rope_theta", "rope_scaling")},
    "architectures": list(CLASSES),
    "norm_topk_prob": True,
    "tie_word_embeddings": False,
}
VARIANTS = {"some_dense": {"mlp_only_layers": [1], "norm_topk_prob": None}}
# What Transformers takes where a config says nothing; shares add up to one, whatever it says.
DEFAULTS = {"rope_theta": 5e5, "num_key_value_heads": 16}


def describe(config: Config) -> Decoder:
    """Read a config."""
    read = Config({**DEFAULTS, **config.values, "norm_topk_prob": True}, config.where)
    decoder = replace(qwen3_moe.describe(read), graph="qwen3_vl_moe_text")
    return qwen2_vl_text.with_pictures(decoder, config, "qwen3_vl_moe_text")


def _reference_config(config: dict[str, Any]) -> dict[str, Any]:
    names = (
        "num_experts", "num_experts_per_tok", "moe_intermediate_size",
        "decoder_sparse_step", "mlp_only_layers",
    )  # fmt: skip
    return {
        **qwen3_vl_text.reference_config(config),
        "model_type": "qwen3_moe",
        "norm_topk_prob": True,
        **{name: config[name] for name in names if name in config},
    }


def _reference_tensors(tensors: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, tensor in tensors.items():
        stem, _, part = name.rpartition(".")
        if not stem.endswith(".experts"):
            yield name, tensor
            continue
        for number, expert in enumerate(tensor):
            if part == "down_proj":
                yield f"{stem}.{number}.down_proj.weight", expert.T
            else:
                gate, up = expert.T.chunk(2)
                yield f"{stem}.{number}.gate_proj.weight", gate
                yield f"{stem}.{number}.up_proj.weight", up


REFERENCE = Reference(_reference_config, _reference_tensors)
