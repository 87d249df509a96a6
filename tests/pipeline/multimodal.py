"""Tiny models that read more than text, as Transformers saves them and in older layouts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForMultimodalLM

from tests import tiny
from tests.hf.describing import write_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

TOKENS = [int(token) for token in np.random.default_rng(3).integers(3, 200, 40)]
TEMPLATE = "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
PICTURES = {
    "image_token_id": 500, "video_token_id": 501, "vision_start_token_id": 502, "vision_end_token_id": 503,
}  # fmt: skip
SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}
QWEN = {
    "depth": 1, "hidden_size": 64, "intermediate_size": 128, "num_heads": 2, "patch_size": 4,
    "out_hidden_size": 256, "num_position_embeddings": 16,
}  # fmt: skip
PIXTRAL = {**SMALL, "model_type": "pixtral", "head_dim": 32, "image_size": 32, "patch_size": 8}
CLIP = {**SMALL, "model_type": "clip_vision_model", "image_size": 32, "patch_size": 8, "projection_dim": 64}
SIGLIP = {**SMALL, "model_type": "siglip_vision_model", "image_size": 32, "patch_size": 8}


@dataclass(frozen=True)
class Whole:
    """A model of several parts: its model_type, its text decoder's family, and what its config says."""

    model_type: str
    text: str
    config: Mapping[str, Any]
    layout: tuple[tuple[str, str], ...] = ()  # how names begin, and begin in another layout
    parts: tuple[str, ...] = ("multi_modal_projector", "vision_tower")  # that are left out
    tower: str = "vision tower"  # to which all of these belong
    is_flat: bool = False  # the config has no part for the text decoder


NEWER = (
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head.", "lm_head."),
    ("vision_tower.", "model.vision_tower."),
    ("multi_modal_projector.", "model.multi_modal_projector."),
)
NEWER_PARTS = ("model.multi_modal_projector", "model.vision_tower")
GEMMA3 = {
    "vision_config": {**SMALL, "image_size": 32, "patch_size": 8}, "mm_tokens_per_image": 4,
    "image_token_index": 500, "boi_token_index": 501, "eoi_token_index": 502,
}  # fmt: skip
GEMMA4 = {
    "vision_config": {
        **SMALL, "num_key_value_heads": 2, "head_dim": 32, "patch_size": 8, "position_embedding_size": 16,
    },
    "audio_config": None, "image_token_id": 500, "boi_token_id": 501, "eoi_token_id": 502,
    "video_token_id": 503, "audio_token_id": 504,
}  # fmt: skip
MISTRAL3 = {"vision_config": PIXTRAL, "image_token_index": 500, "tie_word_embeddings": False}
LLAMA4 = {
    "vision_config": {
        **SMALL, "num_attention_heads": 4, "image_size": 32, "patch_size": 8, "vision_output_dim": 64,
        "projector_input_dim": 64, "projector_output_dim": 64,
    },
    "image_token_index": 500,
}  # fmt: skip
VOXTRAL = {"audio_config": {**SMALL, "intermediate_size": 1024, "max_source_positions": 16}}
INTERNVL = {"vision_config": {**SMALL, "image_size": [32, 32], "patch_size": [8, 8]}, "image_token_id": 500}
LFM2 = {"vision_config": {**SIGLIP, "model_type": "siglip2_vision_model"}, "image_token_id": 500}
QWEN2_VL = {
    "vision_config": {
        "depth": 1, "embed_dim": 64, "hidden_size": 256, "mlp_ratio": 2, "num_heads": 2, "patch_size": 4,
    },
    **PICTURES,
}  # fmt: skip
QWEN2_5_VL = {
    "vision_config": {**QWEN, "num_position_embeddings": None, "fullatt_block_indexes": [0]},
    **PICTURES,
}
QWEN3_VL = {"vision_config": {**QWEN, "depth": 2, "deepstack_visual_indexes": [0, 1]}, **PICTURES}
QWEN3_5 = {"vision_config": QWEN, **PICTURES}
TIED = {"tie_word_embeddings": True}

# Where the two parts of a config differ on the head, the tensors decide, as in Transformers.
MODELS = {
    "gemma3": Whole("gemma3", "gemma3_text", GEMMA3),
    "gemma3-newer": Whole("gemma3", "gemma3_text", GEMMA3, layout=NEWER, parts=NEWER_PARTS),
    "gemma4": Whole("gemma4", "gemma4_text", GEMMA4, parts=("model.embed_vision", "model.vision_tower")),
    "qwen3_5": Whole("qwen3_5", "qwen3_5_text", QWEN3_5, parts=("model.visual",)),
    "qwen2_vl": Whole("qwen2_vl", "qwen2_vl_text", QWEN2_VL, parts=("visual",)),
    "qwen2_5_vl": Whole("qwen2_5_vl", "qwen2_5_vl_text", QWEN2_5_VL, parts=("visual",)),
    "qwen2_5_vl-older": Whole("qwen2_5_vl", "qwen2_5_vl_text", QWEN2_5_VL, parts=("visual",), is_flat=True),
    "qwen2_5_vl-yarn": Whole("qwen2_5_vl", "qwen2_5_vl_text-yarn", QWEN2_5_VL, parts=("visual",)),
    "qwen3_vl": Whole("qwen3_vl", "qwen3_vl_text", QWEN3_VL, parts=("model.visual",)),
    "qwen3_vl_moe": Whole("qwen3_vl_moe", "qwen3_vl_moe_text", QWEN3_VL, parts=("model.visual",)),
    "qwen3_5-tied": Whole("qwen3_5", "qwen3_5_text", {**QWEN3_5, **TIED}, parts=("model.visual",)),
    "qwen3_5_moe": Whole("qwen3_5_moe", "qwen3_5_moe_text", QWEN3_5, parts=("model.visual",)),
    "mistral3": Whole("mistral3", "ministral3", MISTRAL3),
    "mistral3-newer": Whole("mistral3", "mistral", MISTRAL3, layout=NEWER, parts=NEWER_PARTS),
    "mistral3-untied-inside": Whole("mistral3", "mistral", {**MISTRAL3, **TIED}),
    "llava": Whole("llava", "llama", {"vision_config": CLIP, "image_token_index": 500}),
    "internvl": Whole("internvl", "qwen3", INTERNVL),
    "idefics3": Whole(
        "idefics3",
        "llama",
        {"vision_config": SIGLIP, "image_token_id": 500},
        parts=("model.connector", "model.vision_model"),
    ),
    "lfm2_vl": Whole("lfm2_vl", "lfm2", LFM2, parts=NEWER_PARTS),
    "llama4": Whole("llama4", "llama4_text", LLAMA4, parts=("multi_modal_projector", "vision_model")),
    "voxtral": Whole(
        "voxtral", "llama", VOXTRAL, parts=("audio_tower", "multi_modal_projector"), tower="audio tower"
    ),
}


@torch.no_grad()
def make(folder: Path, name: str) -> Path:
    """Write a checkpoint, with a tokenizer whose template is where processors have it."""
    whole = MODELS[name]
    inner = dict(tiny.CONFIGS[whole.text])
    inner.pop("architectures")
    config = AutoConfig.for_model(whole.model_type, text_config=inner, **whole.config)
    torch.manual_seed(0)
    model = AutoModelForMultimodalLM.from_config(config, dtype=torch.float32)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape)
        if parameter.ndim > 1:
            parameter.copy_(noise * 0.03)
        else:
            parameter.add_(noise * 0.06)
    model.save_pretrained(folder)
    if whole.layout:
        path = folder / "model.safetensors"
        save_file(
            {_renamed(key, whole): each for key, each in load_file(path).items()}, path, {"format": "pt"}
        )
    if whole.is_flat:
        said = json.loads((folder / "config.json").read_text("utf-8"))
        del said["text_config"]
        (folder / "config.json").write_text(json.dumps({**inner, **said}), "utf-8")
    write_tokenizer(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    del settings["chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}), "utf-8")
    generation = {"eos_token_id": [2, 106], "bos_token_id": 1, "do_sample": True, "top_k": 64}
    (folder / "generation_config.json").write_text(json.dumps(generation), "utf-8")
    return folder


def _renamed(name: str, whole: Whole) -> str:
    return next((new + name.removeprefix(old) for old, new in whole.layout if name.startswith(old)), name)


def logits(folder: Path) -> NDArray[np.float32]:
    """Ask the whole model about text alone, in Transformers, which must find each of its weights."""
    model, found = AutoModelForMultimodalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not any(found.values()), found
    with torch.no_grad():
        return np.asarray(model.eval()(torch.tensor([TOKENS])).logits[0].numpy(), np.float32)
