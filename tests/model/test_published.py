"""Configs as published, abridged to what is read: each makes as many weights as the Hub counts."""

from __future__ import annotations

import math
from typing import Any

import pytest

from convert.model.config import Config
from convert.model.families import describe

FULL = "full_attention"

PUBLISHED: dict[str, tuple[int, dict[str, Any]]] = {
    "google/gemma-2-2b": (
        2_614_341_888,
        {
            "architectures": ["Gemma2ForCausalLM"],
            "model_type": "gemma2",
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
            "head_dim": 256,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_activation": "gelu_pytorch_tanh",
            "hidden_size": 2304,
            "intermediate_size": 9216,
            "max_position_embeddings": 8192,
            "num_attention_heads": 8,
            "num_hidden_layers": 26,
            "num_key_value_heads": 4,
            "query_pre_attn_scalar": 256,
            "rope_theta": 10000.0,
            "sliding_window": 4096,
            "vocab_size": 256000,
        },
    ),
    "google/gemma-3-1b-it": (
        999_885_952,
        {
            "architectures": ["Gemma3ForCausalLM"],
            "model_type": "gemma3_text",
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "head_dim": 256,
            "hidden_activation": "gelu_pytorch_tanh",
            "hidden_size": 1152,
            "intermediate_size": 6912,
            "max_position_embeddings": 32768,
            "num_attention_heads": 4,
            "num_hidden_layers": 26,
            "num_key_value_heads": 1,
            "query_pre_attn_scalar": 256,
            "rope_local_base_freq": 10000,
            "rope_scaling": None,
            "rope_theta": 1000000,
            "sliding_window": 512,
            "sliding_window_pattern": 6,
            "vocab_size": 262144,
        },
    ),
    # The text decoder alone, most of which the config leaves to Transformers' class.
    "google/gemma-3-4b-it": (
        3_880_263_168,
        {
            "architectures": ["Gemma3ForConditionalGeneration"],
            "model_type": "gemma3",
            "text_config": {
                "hidden_size": 2560,
                "intermediate_size": 10240,
                "model_type": "gemma3_text",
                "num_hidden_layers": 34,
                "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
                "sliding_window": 1024,
            },
            "vision_config": {"model_type": "siglip_vision_model"},
        },
    ),
    "HuggingFaceTB/SmolLM3-3B": (
        3_075_098_624,
        {
            "architectures": ["SmolLM3ForCausalLM"],
            "model_type": "smollm3",
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "layer_types": [FULL] * 36,
            "max_position_embeddings": 65536,
            "no_rope_layers": [1, 1, 1, 0] * 9,
            "num_attention_heads": 16,
            "num_hidden_layers": 36,
            "num_key_value_heads": 4,
            "rope_theta": 5000000.0,
            "sliding_window": None,
            "use_sliding_window": False,
            "vocab_size": 128256,
        },
    ),
    "allenai/OLMo-2-1124-7B": (
        7_298_617_344,
        {
            "architectures": ["Olmo2ForCausalLM"],
            "model_type": "olmo2",
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "max_position_embeddings": 4096,
            "num_attention_heads": 32,
            "num_hidden_layers": 32,
            "num_key_value_heads": 32,
            "rms_norm_eps": 1e-06,
            "rope_theta": 500000,
            "tie_word_embeddings": False,
            "vocab_size": 100352,
        },
    ),
    "ibm-granite/granite-3.3-2b-instruct": (
        2_533_539_840,
        {
            "architectures": ["GraniteForCausalLM"],
            "model_type": "granite",
            "attention_multiplier": 0.015625,
            "embedding_multiplier": 12.0,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "logits_scaling": 8.0,
            "max_position_embeddings": 131072,
            "num_attention_heads": 32,
            "num_hidden_layers": 40,
            "num_key_value_heads": 8,
            "residual_multiplier": 0.22,
            "rope_theta": 10000000.0,
            "tie_word_embeddings": True,
            "vocab_size": 49159,
        },
    ),
}


# Of these the Hub counts what reads pictures, too.
SEEING: dict[str, tuple[int, dict[str, Any]]] = {
    "Qwen/Qwen2.5-VL-7B-Instruct": (
        8_292_166_656,
        {
            "architectures": ["Qwen2_5_VLForConditionalGeneration"],
            "model_type": "qwen2_5_vl",
            "hidden_act": "silu",
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "max_position_embeddings": 128000,
            "num_attention_heads": 28,
            "num_hidden_layers": 28,
            "num_key_value_heads": 4,
            "rms_norm_eps": 1e-6,
            "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
            "rope_theta": 1000000.0,
            "sliding_window": 32768,
            "tie_word_embeddings": False,
            "use_sliding_window": False,
            "vision_config": {
                "depth": 32,
                "fullatt_block_indexes": [7, 15, 23, 31],
                "hidden_act": "silu",
                "hidden_size": 1280,
                "in_chans": 3,
                "intermediate_size": 3420,
                "num_heads": 16,
                "patch_size": 14,
                "window_size": 112,
            },
            "vocab_size": 152064,
        },
    ),
    "Qwen/Qwen3-VL-4B-Instruct": (
        4_437_815_808,
        {
            "architectures": ["Qwen3VLForConditionalGeneration"],
            "model_type": "qwen3_vl",
            "text_config": {
                "model_type": "qwen3_vl_text",
                "head_dim": 128,
                "hidden_act": "silu",
                "hidden_size": 2560,
                "intermediate_size": 9728,
                "max_position_embeddings": 262144,
                "num_attention_heads": 32,
                "num_hidden_layers": 36,
                "num_key_value_heads": 8,
                "rms_norm_eps": 1e-6,
                "rope_scaling": {
                    "mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default",
                },
                "rope_theta": 5000000,
                "tie_word_embeddings": True,
                "vocab_size": 151936,
            },
            "tie_word_embeddings": True,
            "vision_config": {
                "deepstack_visual_indexes": [5, 11, 17],
                "depth": 24,
                "hidden_act": "gelu_pytorch_tanh",
                "hidden_size": 1024,
                "in_channels": 3,
                "intermediate_size": 4096,
                "num_heads": 16,
                "num_position_embeddings": 2304,
                "out_hidden_size": 2560,
                "patch_size": 16,
                "spatial_merge_size": 2,
                "temporal_patch_size": 2,
            },
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("repo", PUBLISHED)
def test_weights_are_as_many_as_published(repo: str) -> None:
    count, config = PUBLISHED[repo]
    assert describe(Config(config))[1].parameter_count == count


@pytest.mark.parametrize("repo", SEEING)
def test_with_a_tower_they_are_too(repo: str) -> None:
    count, values = SEEING[repo]
    config = Config(values)
    found, decoder = describe(config)
    assert found.gguf
    assert found.gguf.projector
    spelled = [
        sum(math.prod(tensor.shape) for tensor in spelling(config))
        for spelling in found.gguf.projector.spellings
    ]
    assert {decoder.parameter_count + each for each in spelled} == {count}


def test_a_config_that_leaves_much_out_is_read_as_transformers_reads_it() -> None:
    decoder = describe(Config(PUBLISHED["google/gemma-3-4b-it"][1]))[1]
    attentions = decoder.attentions
    assert [attention.window for attention in attentions[:7]] == [*[1024] * 5, None, 1024]
    assert decoder.attention.rope is not None
    assert attentions[5].rope is not None
    assert (decoder.attention.rope.theta, attentions[5].rope.theta) == (10000.0, 1000000.0)
    assert decoder.attention.rope.scaling is None
    assert attentions[5].rope.scaling is not None
    assert (decoder.vocab_size, decoder.context_length, decoder.is_tied) == (262208, 131072, True)
