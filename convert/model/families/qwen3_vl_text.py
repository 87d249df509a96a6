"""The text decoder of Qwen3-VL: Qwen3, whose rotary pairs turn by a picture's time, height and width."""

from typing import Any

from convert.model.config import Config
from convert.model.decoder import Decoder
from convert.model.families import llama, qwen2_vl_text, qwen3
from convert.model.family import Canonical, Gguf, Reference
from convert.model.feature import Feature
from convert.model.towers import patch_merger

CLASSES = ("Qwen3VLForConditionalGeneration",)
NAMING = llama.NAMING
TOKENIZER = qwen3.TOKENIZER


def keys(decoder: Decoder) -> dict[str, int]:
    """Say into how many layers pictures go."""
    return {"n_deepstack_layers": decoder.picture_layers}


# A text's position is zero in pairs that belong to none of the three, of which there are up to three, the
# slowest; Transformers gives them the text's own.
GGUF = Gguf(
    "qwen3vl",
    renders=frozenset({Feature.QK_NORM, Feature.ROPE_LINEAR, Feature.ROPE_YARN}),
    keys=keys,
    always=frozenset({"key_length"}),
    projector=patch_merger.PROJECTOR,
)
# For texts alone it is Qwen3, which Transformers has a class of.
CANONICAL = Canonical(qwen3.written)
EXAMPLE = {
    **llama.SIZES,
    "architectures": list(CLASSES),
    "head_dim": 64,
    "rope_theta": 5000000,
    "rope_scaling": {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [12, 10, 10]},
}
VARIANTS = {
    "yarn": {
        "rope_scaling": None,
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 5000000, "mrope_interleaved": True,
            "mrope_section": [12, 10, 10], "factor": 4.0, "original_max_position_embeddings": 64,
        },
        "tie_word_embeddings": True,
    },
}  # fmt: skip
# What Transformers takes where a config says nothing.
DEFAULTS = {"rope_theta": 5e5, "head_dim": 128}


def describe(config: Config) -> Decoder:
    """Read a config."""
    decoder = qwen3.read(qwen2_vl_text.filled(config, DEFAULTS))
    return qwen2_vl_text.with_pictures(decoder, config, "qwen3_vl_text")


def reference_config(config: dict[str, Any]) -> dict[str, Any]:
    """Say it in Qwen3's words."""
    read = qwen2_vl_text.REFERENCE.config({"rope_theta": 500000.0, **config})
    read["rope_parameters"].pop("mrope_interleaved", None)
    names = ("head_dim", "attention_bias")
    return {**read, "model_type": "qwen3", **{name: config[name] for name in names if name in config}}


REFERENCE = Reference(reference_config, qwen2_vl_text.REFERENCE.tensors)
