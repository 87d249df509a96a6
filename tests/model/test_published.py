"""Configs as published, abridged to what is read: each makes as many weights as the Hub counts."""

from __future__ import annotations

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


@pytest.mark.parametrize("repo", PUBLISHED)
def test_weights_are_as_many_as_published(repo: str) -> None:
    count, config = PUBLISHED[repo]
    assert describe(Config(config))[1].parameter_count == count


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
