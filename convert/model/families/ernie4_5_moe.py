"""ERNIE 4.5 with experts, chosen by a softmax and a bias, from one layer to another."""

from dataclasses import replace

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Decoder, Experts, Part, Role
from convert.model.families import deepseek_v3, ernie4_5
from convert.model.family import HEADS, TOWERS
from convert.model.feature import Feature

CLASSES = ("Ernie4_5_MoeForCausalLM",)
UNQUANTIZED = dict.fromkeys(("gptq", "awq"), "a model that GPTQModel calls as older Transformers did")
RUNS_IN = frozenset({"vllm"})
_SPELLING: dict[Role | tuple[Role, Part], str] = {
    (Role.ROUTER_SELECTION, "weight"): "layers.{layer}.mlp.moe_statics.e_score_correction_bias",
}
_FUSED = replace(
    deepseek_v3.FUSED,
    names={**deepseek_v3.FUSED.names, **_SPELLING},
    rows=frozenset({Role.ROUTER_SELECTION}),
    towers={**TOWERS, r"(model\.)?mtp_\w+\..*": HEADS},
    next_layer="",
)
_APART = replace(_FUSED, names={**deepseek_v3.APART.names, **_SPELLING})
NAMING = replace(_APART, others=(_FUSED, *ernie4_5.spelled_by_paddle(_APART)))


GGUF = replace(
    ernie4_5.GGUF,
    architecture="ernie4_5-moe",
    renders=ernie4_5.GGUF.renders
    | {Feature.EXPERTS, Feature.SHARED_EXPERTS, Feature.SELECTION_BIAS, Feature.MIXED_MLPS},
    # The graph reads a step too, but its tensors are loaded as if that were one.
    limits=deepseek_v3.limits_of_experts,
    keys=lambda _decoder: {"interleave_moe_layer_step": 1},
    always=frozenset({"leading_dense_block_count", "expert_shared_count"}),
    shapes={
        Role.ROUTER_SELECTION: lambda decoder, layer: (1, _count(decoder, layer)),
    },
)
EXAMPLE = {
    **ernie4_5.SIZES,
    "architectures": list(CLASSES),
    "moe_num_experts": 8,
    "moe_k": 2,
    "moe_num_shared_experts": 1,
    "moe_intermediate_size": 256,
    "moe_layer_start_index": 1,
    "moe_layer_end_index": 3,
    "moe_layer_interval": 1,
    "moe_use_aux_free": True,
}
VARIANTS = {
    "every-second": {"moe_layer_interval": 2, "moe_layer_end_index": -1, "moe_num_shared_experts": 2},
}


def _count(decoder: Decoder, layer: int) -> int:
    mlp = decoder.layers[layer].mlp
    return mlp.count if isinstance(mlp, Experts) else 0


def describe(config: Config) -> Decoder:
    """Read a config."""
    decoder = ernie4_5.read(config, "ernie4_5_moe")
    size = config.size("moe_intermediate_size")
    shared = config.size("moe_num_shared_experts", default=2, least=0)
    experts = Experts(
        config.size("moe_num_experts", "num_experts"),
        config.size("moe_k", "num_experts_per_tok"),
        size,
        has_selection_bias=True,
        shared_size=size * shared,
        shared_count=shared,
        dense_size=config.size("intermediate_size"),
    )
    if experts.used_count > experts.count:
        raise Failure(
            f"{config.where}: moe_k is {experts.used_count}, and there are {experts.count} experts",
            "the file is damaged; fetch it again",
        )
    count = decoder.layer_count
    first = config.size("moe_layer_start_index", default=1, least=0)
    last = config.values.get("moe_layer_end_index", -1)
    last = count - 1 if last == -1 else config.size("moe_layer_end_index", least=0)
    step = config.size("moe_layer_interval", default=1)
    layers = tuple(
        replace(layer, mlp=experts) if first <= number <= last and (number + 1) % step == 0 else layer
        for number, layer in enumerate(decoder.layers)
    )
    return replace(decoder, layers=layers)
