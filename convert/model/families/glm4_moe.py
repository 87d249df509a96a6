"""GLM-4.5, 4.6 and 4.7: experts as in DeepSeek-V3, plain attention over half of each head."""

from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder, Role
from convert.model.families import deepseek_v3, llama
from convert.model.family import Gguf, Mlx
from convert.model.feature import Feature

CLASSES = ("Glm4MoeForCausalLM",)
UNQUANTIZED = dict.fromkeys(("gptq", "awq"), "a router that GPTQModel takes for another")
RUNS_IN = frozenset({"vllm", "sglang"})
NAMING = deepseek_v3.NAMING


GGUF = Gguf(
    "glm4moe",
    renders=frozenset({
        Feature.QKV_BIAS, Feature.QK_NORM, Feature.PARTIAL_ROTARY, Feature.ROPE_LINEAR, Feature.ROPE_YARN,
        Feature.EXPERTS, Feature.SHARED_EXPERTS, Feature.SIGMOID_ROUTING, Feature.SELECTION_BIAS,
        Feature.EXPERT_GROUPS, Feature.EXPERT_SCALE, Feature.UNNORMALIZED_EXPERTS, Feature.MIXED_MLPS,
    }),
    names={Role.MLP_NORM: "post_attention_norm"},
    limits=deepseek_v3.limits_of_experts,
    keys=lambda _decoder: {"expert_shared_feed_forward_length": None},
    always=deepseek_v3.GGUF.always | {"key_length"},
    has_next_layers=True,
)  # fmt: skip
MLX = Mlx(
    renders=frozenset({
        Feature.EXPERTS, Feature.SHARED_EXPERTS, Feature.SIGMOID_ROUTING, Feature.SELECTION_BIAS,
        Feature.EXPERT_GROUPS, Feature.EXPERT_SCALE, Feature.MIXED_MLPS, Feature.QK_NORM, Feature.QKV_BIAS,
        Feature.PARTIAL_ROTARY,
    }),
    bare=frozenset({Role.ROUTER}),
    exact=frozenset({Role.ROUTER_SELECTION}),
    defaults=lambda _decoder: {"rope_scaling": None},
)  # fmt: skip
EXAMPLE = {
    **llama.SIZES,
    "architectures": list(CLASSES),
    "head_dim": 64,
    "intermediate_size": 512,
    "attention_bias": True,
    "use_qk_norm": True,
    "partial_rotary_factor": 0.5,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "moe_intermediate_size": 256,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.5,
    "num_nextn_predict_layers": 1,
}
# As GLM-4.5-Air has it.
VARIANTS = {"air": {"use_qk_norm": False, "routed_scaling_factor": 1.0, "n_group": 2}}


def describe(config: Config) -> Decoder:
    """Read a config."""
    defaults = {
        "partial_rotary_factor": 0.5,
        "rms_norm_eps": 1e-5,
        "first_k_dense_replace": 1,
    }
    given = {key: value for key, value in config.values.items() if value is not None}
    read = Config(defaults | given, config.where)
    decoder = llama.describe(read)
    decoder = decoder.with_mixers(
        has_out_bias=False,
        qk_norm=decoder.final_norm if config.flag("use_qk_norm", default=False) else None,
    )
    decoder = deepseek_v3.after_first(decoder, read, deepseek_v3.grouped(read, scale=1.0))
    return deepseek_v3.with_next_layers(replace(decoder, family="glm4_moe"), read, default=1)
