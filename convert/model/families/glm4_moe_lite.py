"""GLM-4.7-Flash: DeepSeek-V3 with layers that are listed as dense or sparse."""

from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder
from convert.model.families import deepseek_v3
from convert.model.pattern import read_kinds

CLASSES = ("Glm4MoeLiteForCausalLM",)
UNQUANTIZED = dict.fromkeys(("gptq", "awq"), "a router that GPTQModel takes for another")
RUNS_IN = frozenset({"vllm", "sglang"})
NAMING = deepseek_v3.NAMING
GGUF = replace(deepseek_v3.GGUF, has_next_layers=True)
DENSE, SPARSE = "dense", "sparse"
EXAMPLE = {
    **deepseek_v3.SIZES,
    "architectures": list(CLASSES),
    "rms_norm_eps": 1e-5,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "norm_topk_prob": True,
    "routed_scaling_factor": 1.8,
    "topk_method": "noaux_tc",
    "partial_rotary_factor": 1.0,
    "num_nextn_predict_layers": 1,
}
VARIANTS = {
    "types": {"first_k_dense_replace": None, "mlp_layer_types": [DENSE, DENSE, SPARSE, SPARSE]},
}


def describe(config: Config) -> Decoder:
    """Read a config."""
    read = Config({"rms_norm_eps": 1e-5, **config.values}, config.where)
    decoder = deepseek_v3.latent(read, "glm4_moe_lite")
    default = (DENSE, *[SPARSE] * (decoder.layer_count - 1))
    kinds = read_kinds(config, default, key="mlp_layer_types", known=(DENSE, SPARSE))
    experts = deepseek_v3.grouped(read, scale=1.8)
    layers = tuple(
        replace(layer, mlp=experts) if kind == SPARSE else layer
        for layer, kind in zip(decoder.layers, kinds, strict=True)
    )
    return deepseek_v3.with_next_layers(replace(decoder, layers=layers), read, default=0)
