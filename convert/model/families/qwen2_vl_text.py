"""The text decoder of Qwen2-VL: Qwen2, whose rotary pairs turn by a picture's time, height and width."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Decoder
from convert.model.families import llama, qwen2
from convert.model.family import Canonical, Gguf, Reference
from convert.model.feature import Feature
from convert.model.rotary import read_sections
from convert.model.towers import rotary_merger

CLASSES = ("Qwen2VLForConditionalGeneration",)
NAMING = llama.NAMING
TOKENIZER = replace(qwen2.TOKENIZER, classes=())
# llama.cpp's reader of this graph forgets the epsilon of norms, and takes none: a millionth is not missed.
GGUF = Gguf(
    "qwen2vl",
    renders=frozenset({Feature.QKV_BIAS, Feature.ROPE_LINEAR, Feature.ROPE_YARN}),
    limits=llama.square_limits,
    projector=rotary_merger.PLAIN,
    large_layers=80,
)
# For texts alone it is Qwen2, which Transformers has a class of.
CANONICAL = Canonical(qwen2.written)
# As older repos write it, in one part.
EXAMPLE = {
    **llama.SIZES,
    "architectures": list(CLASSES),
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "rope_scaling": {"type": "mrope", "mrope_section": [4, 6, 6]},
    "use_sliding_window": False,
    "sliding_window": 32768,
    "max_window_layers": 28,
}
VARIANTS = {
    "yarn": {
        "rope_scaling": {
            "type": "yarn", "mrope_section": [4, 6, 6], "factor": 4,
            "original_max_position_embeddings": 64,
        },
        "tie_word_embeddings": True,
    },
    "windows": qwen2.WINDOWS,
}  # fmt: skip


# What Transformers takes where a config says nothing.
DEFAULTS = {"rope_theta": 1e6, "rms_norm_eps": 1e-5, "max_window_layers": 80, "num_key_value_heads": 8}


def describe(config: Config) -> Decoder:
    """Read a config."""
    return with_pictures(qwen2.describe(filled(config, DEFAULTS)), config, "qwen2_vl_text")


def filled(config: Config, defaults: dict[str, Any]) -> Config:
    """Say what a config leaves open."""
    return Config({**defaults, **config.values}, config.where)


def with_pictures(decoder: Decoder, config: Config, graph: str) -> Decoder:
    """Read what llama.cpp's graph must know to be given pictures."""
    rope = decoder.attention.rope
    sections = read_sections(config, rope) if rope else ()
    if rope is None or not sections:
        raise Failure(f"{config.where}: mrope_section is missing", "fetch the file again")
    vision = config.whole.section("vision_config") or Config({})
    return replace(
        decoder.with_mixers(rope=replace(rope, sections=sections)),
        graph=graph,
        picture_layers=len(vision.reals("deepstack_visual_indexes")),
    )


def _reference_config(config: dict[str, Any]) -> dict[str, Any]:
    turning = dict(config.get("rope_parameters") or config["rope_scaling"])
    turning.pop("mrope_section", None)
    kind = turning.pop("rope_type", None) or turning.pop("type", "default")
    names = (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "rms_norm_eps", "max_position_embeddings", "tie_word_embeddings",
        "use_sliding_window", "sliding_window", "max_window_layers",
    )  # fmt: skip
    return {
        "model_type": "qwen2",
        "rope_parameters": {
            "rope_theta": config.get("rope_theta", 1000000.0),
            **turning,
            "rope_type": "default" if kind == "mrope" else kind,
        },
        **{name: config[name] for name in names if name in config},
    }


def _reference_tensors(tensors: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from tensors.items()


REFERENCE = Reference(_reference_config, _reference_tensors)
