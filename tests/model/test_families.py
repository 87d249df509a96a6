"""Configs and tensor names: what is read, and what is refused, by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from convert.checkpoint import TensorInfo, open_checkpoint
from convert.errors import Failure
from convert.model.binding import bind
from convert.model.config import Config, read_config
from convert.model.decoder import Ref, Role
from convert.model.families import describe, find_family, supported
from tests import tiny

if TYPE_CHECKING:
    from numpy.typing import NDArray


def config(name: str, **changes: Any) -> Config:
    return Config({**tiny.CONFIGS[name], **changes})


def bound(folder: Path) -> tuple[str, ...]:
    read = read_config(folder)
    family = find_family(read)
    with open_checkpoint(folder) as checkpoint:
        return bind(family.describe(read), family.naming, checkpoint.tensors).ignored


def test_every_file_is_a_model_type_and_is_tested() -> None:
    assert set(supported()) == {config["model_type"] for config in tiny.CONFIGS.values()}


@pytest.mark.parametrize("model_type", tiny.CONFIGS)
@pytest.mark.parametrize("has_prefix", [True, False])
def test_every_tensor_finds_its_role(model_type: str, tmp_path: Path, *, has_prefix: bool) -> None:
    assert bound(tiny.make_blank(tmp_path, tiny.Recipe(model_type, has_prefix=has_prefix))) == ()


@pytest.mark.parametrize(("model_type", "spelling"), tiny.SPELLINGS)
def test_other_spellings_hold_the_same_rows(model_type: str, spelling: int, tmp_path: Path) -> None:
    read = [
        canonical_tensors(tiny.make(tmp_path / str(number), tiny.Recipe(model_type, spelling=number)))
        for number in (0, spelling)
    ]
    assert read[0].keys() == read[1].keys()
    assert [str(ref) for ref in read[0] if not np.array_equal(read[0][ref], read[1][ref])] == []


def canonical_tensors(folder: Path) -> dict[Ref, NDArray[np.float32]]:
    family, decoder = describe(read_config(folder))
    found: dict[Ref, NDArray[np.float32]] = {}
    with open_checkpoint(folder) as checkpoint:
        origins = bind(decoder, family.naming, checkpoint.tensors).origins
        for ref, shape in decoder.shapes():
            origin = origins[ref]
            rows = [origin.row(row) for row in range(shape[0])]
            found[ref] = checkpoint.rows(
                origin.name, 0, max(rows) + 1, index=origin.index, is_transposed=origin.is_transposed
            )[rows]
    return found


def test_fused_tensors_are_cut_by_rows() -> None:
    family = find_family(config("qwen"))
    decoder = family.describe(config("qwen"))
    made = tiny.tensors(tiny.Recipe("qwen"))
    tensors = {
        name: TensorInfo(name, "BF16", values.shape, Path("m"), 0, values.nbytes // 2)
        for name, values in made.items()
    }
    origins = bind(decoder, family.naming, tensors).origins
    names = {origins[Ref(role, 1)].name for role in (Role.ATTN_Q, Role.ATTN_K, Role.ATTN_V)}
    rows = [origins[Ref(role, 1)].first_row for role in (Role.ATTN_Q, Role.ATTN_K, Role.ATTN_V)]
    assert (names, rows) == ({"transformer.h.1.attn.c_attn.weight"}, [0, 256, 512])


def test_gpt2_s_buffers_and_tied_head_are_left_out_by_name(tmp_path: Path) -> None:
    made = tiny.tensors(tiny.Recipe("gpt2"))
    made["transformer.h.0.attn.bias"] = made["transformer.h.0.attn.c_attn.bias"][None, None]
    made["transformer.h.0.attn.masked_bias"] = made["transformer.h.0.attn.c_attn.bias"][:1]
    made["lm_head.weight"] = made["transformer.wte.weight"]
    tiny.make(tmp_path, tiny.Recipe("gpt2"))
    tiny.write_safetensors(tmp_path / "model.safetensors", made, "F32")
    left_out = ("transformer.h.0.attn.bias", "transformer.h.0.attn.masked_bias", "lm_head.weight")
    assert set(bound(tmp_path)) == set(left_out)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("llama", {"model_type": "mamba"}, "the family 'mamba' is not supported"),
    ("llama", {"model_type": "../llama"}, "is not supported"),
    ("llama", {"model_type": 7}, "model_type is 7"),
    ("llama", {"model_type": None}, "model_type is missing"),
    ("llama", {"num_local_experts": 8}, "a mixture of experts"),
    ("llama", {"architectures": ["LlamaForSequenceClassification"]}, "is a classifier, and no text decoder"),
    ("qwen2", {"architectures": ["LlamaForCausalLM"]}, "is not a text decoder of type qwen2"),
    ("llama", {"hidden_size": None}, "hidden_size is missing"),
    ("llama", {"num_hidden_layers": "four"}, 'num_hidden_layers is "four"'),
    ("llama", {"num_hidden_layers": -1}, "num_hidden_layers is -1"),
    ("llama", {"num_hidden_layers": 1 << 40}, "num_hidden_layers is"),
    ("llama", {"rms_norm_eps": float("nan")}, "rms_norm_eps is NaN"),
    ("llama", {"rope_scaling": {"rope_type": "spiral"}}, "rotary scaling 'spiral'"),
    ("llama", {"rope_scaling": "linear"}, "rope_scaling is"),
    ("llama", {"num_key_value_heads": 3}, "cannot share 3"),
    ("llama", {"hidden_act": "relu"}, "hidden_act 'relu'"),
    ("phi3", {"rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}}, "factors"),
    ("qwen2", {"use_sliding_window": True, "layer_types": ["full_attention"]}, "lists 1 layers"),
    ("qwen3_moe", {"mlp_only_layers": [7]}, "mlp_only_layers is no list of layers"),
    ("qwen3_5_text", {"linear_num_value_heads": 3}, "cannot share 2 heads of keys"),
    ("minimax_m2", {"scoring_func": "softmax"}, "scoring_func 'softmax'"),
    ("gpt2", {"activation_function": "relu"}, "activation_function 'relu'"),
    ("gpt2", {"n_head": 5}, "no multiple of n_head"),
    ("qwen", {"intermediate_size": 701}, "is odd"),
    ("gemma", {"hidden_activation": "silu"}, "activation 'silu'"),
    ("gemma2", {"layer_types": ["full_attention"]}, "layer_types lists 1 layers, and the model has 4"),
    ("gemma3_text", {"use_bidirectional_attention": True}, "the model embeds texts and writes none"),
    ("gemma3_text", {"layer_types": ["conv"] * 7}, "layer_types names 'conv'"),
    ("gemma4_text", {"num_kv_shared_layers": 5}, "leaves no keys and values to share"),
    ("gemma4_text", {"per_layer_config": {"2": {"hidden_size": 9}}}, "hidden_size of a layer alone"),
    ("smollm3", {"no_rope_layers": [1, 1]}, "no_rope_layers is no list of the model's 4 layers"),
    ("exaone4-small", {"sliding_window_pattern": "LLX"}, "sliding_window_pattern 'LLX'"),
    ("gpt_oss", {"layer_types": ["sliding_attention"]}, "layer_types lists 1 layers, and the model has 4"),
    ("gpt_oss", {"swiglu_alpha": 2.0}, "swiglu_alpha is not 1.702"),
    ("deepseek_v3", {"scoring_func": "softmax"}, "scoring_func 'softmax'"),
    ("deepseek_v3", {"num_key_value_heads": 2}, "num_key_value_heads is not 4"),
    ("deepseek_v3", {"n_group": 3}, "8 experts cannot be parted in 3 groups"),
    ("deepseek_v2", {"norm_topk_prob": True}, "norm_topk_prob is on"),
    ("glm4_moe_lite", {"mlp_layer_types": ["dense"]}, "mlp_layer_types lists 1 layers"),
    ("ernie4_5_moe", {"moe_k": 9}, "moe_k is 9, and there are 8 experts"),
    ("llama4_text", {"no_rope_layers": [1, 1]}, "no_rope_layers is no list of 4 zeros and ones"),
    ("llama4_text", {"moe_layers": [4]}, "moe_layers is no list of numbers below 4"),
    ("phi", {"hidden_act": "silu"}, "hidden_act 'silu'"),
    ("lfm2", {"layer_types": ["conv"] * 4}, "layer_types lists 4 layers, and the model has 5"),
    ("lfm2", {"layer_types": ["conv"] * 4 + ["mamba"]}, "names 'linear_attention', which is not"),
]


@pytest.mark.parametrize(("model_type", "changes", "said"), REFUSED)
def test_what_cannot_be_converted_is_refused_with_a_hint(
    model_type: str, changes: dict[str, Any], said: str
) -> None:
    read = config(model_type, **changes)
    with pytest.raises(Failure) as caught:
        describe(read)
    assert said in caught.value.message
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_an_unknown_type_is_told_what_there_is() -> None:
    with pytest.raises(Failure) as caught:
        find_family(config("llama", model_type="mamba"))
    assert all(name in caught.value.hint for name in supported())


def test_a_config_that_lies_about_layers(tmp_path: Path) -> None:
    tiny.make_blank(tmp_path, tiny.Recipe("llama"))
    tiny.make_blank(tmp_path / "other", tiny.Recipe("llama", {"num_hidden_layers": 6}))
    (tmp_path / "config.json").write_text((tmp_path / "other" / "config.json").read_text())
    with pytest.raises(Failure, match=r"18 tensors .*missing") as caught:
        bound(tmp_path)
    assert caught.value.hint == "config.json says 6 layers, and the weights have 4"


def test_weights_with_more_layers_than_the_config(tmp_path: Path) -> None:
    tiny.make_blank(tmp_path, tiny.Recipe("llama", {"num_hidden_layers": 6}))
    tiny.make_blank(tmp_path / "other", tiny.Recipe("llama"))
    (tmp_path / "config.json").write_text((tmp_path / "other" / "config.json").read_text())
    with pytest.raises(Failure, match="has no place for"):
        bound(tmp_path)


def test_a_tensor_of_the_wrong_shape(tmp_path: Path) -> None:
    made = tiny.tensors(tiny.Recipe("llama"))
    made["model.layers.1.mlp.up_proj.weight"] = made["model.layers.1.mlp.up_proj.weight"][:-1]
    tiny.make(tmp_path, tiny.Recipe("llama"))
    tiny.write_safetensors(tmp_path / "model.safetensors", made, "BF16")
    with pytest.raises(Failure, match=r"up_proj\.weight is 767 x 256, and config\.json makes it 768 x 256"):
        bound(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"', "{" * 100_000, '{"a": NaN'])
def test_a_damaged_config(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(Failure) as caught:
        read_config(tmp_path)
    assert "config.json" in caught.value.message
