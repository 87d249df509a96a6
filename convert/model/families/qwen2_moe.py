"""Qwen1.5-MoE and Qwen2-MoE: Qwen2 with experts, some of which see every token, behind a gate."""

from collections.abc import Iterator
from dataclasses import replace

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Decoder, Dense, Experts, Layer, Part, Role
from convert.model.families import llama, qwen2
from convert.model.family import Gguf, Mlx, Naming
from convert.model.feature import Feature
from convert.model.pattern import FULL, SLIDING

CLASSES = ("Qwen2MoeForCausalLM",)
RUNS_IN = frozenset({"vllm", "sglang", "transformers.js"})
FASTCHAT_PROMPT = qwen2.FASTCHAT_PROMPT
TOKENIZER = qwen2.TOKENIZER

APART = replace(
    llama.NAMING, names={**llama.NAMING.names, Role.SHARED_ROUTER: "layers.{layer}.mlp.shared_expert_gate"}
)
# As Transformers 5 holds them.
FUSED_NAMES: dict[Role | tuple[Role, Part], str] = {
    (Role.EXPERT_GATE, "weight"): "layers.{layer}.mlp.experts.gate_up_proj",
    (Role.EXPERT_UP, "weight"): "layers.{layer}.mlp.experts.gate_up_proj",
    (Role.EXPERT_DOWN, "weight"): "layers.{layer}.mlp.experts.down_proj",
}
FUSED = replace(APART, names={**APART.names, **FUSED_NAMES})
NAMING: Naming = replace(APART, others=(FUSED,))


def _limits(decoder: Decoder) -> Iterator[str]:
    """Say what the graph takes for granted."""
    if any(isinstance(layer.mlp, Experts) and layer.mlp.is_normalized for layer in decoder.kinds):
        yield "experts whose shares are made to add up to one"
    if decoder.is_tied:
        yield "an output head that is the embeddings"
    if decoder.attention.q_size != decoder.hidden_size:
        yield "heads that are not as wide together as the hidden states"


GGUF = Gguf(
    "qwen2moe",
    renders=frozenset({
        Feature.QKV_BIAS, Feature.PARTIAL_ROTARY, Feature.ROPE_LINEAR, Feature.ROPE_YARN,
        Feature.EXPERTS, Feature.UNNORMALIZED_EXPERTS, Feature.SHARED_EXPERTS, Feature.GATED_SHARED_EXPERT,
    }),
    limits=_limits,
)  # fmt: skip
MLX = Mlx(
    renders=frozenset({
        Feature.EXPERTS, Feature.SHARED_EXPERTS, Feature.GATED_SHARED_EXPERT, Feature.UNNORMALIZED_EXPERTS,
        Feature.QKV_BIAS,
    }),
)  # fmt: skip

SIZES = {
    **llama.SIZES,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 256,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
}
EXAMPLE = {
    **SIZES,
    "architectures": list(CLASSES),
    "num_experts": 5,
    "shared_expert_intermediate_size": 512,
    "norm_topk_prob": False,
}
VARIANTS = {"some_dense": {**qwen2.WINDOWS, "mlp_only_layers": [0], "norm_topk_prob": True}}


def describe(config: Config) -> Decoder:
    """Read a config."""
    decoder = replace(qwen2.read(config), family="qwen2_moe").with_mixers(
        has_qkv_bias=config.flag("qkv_bias", default=True)
    )
    last = config.size("max_window_layers", default=28, least=0)
    kinds = [FULL if number % 2 or number >= last else SLIDING for number in range(decoder.layer_count)]
    decoder = qwen2.with_windows(decoder, config, kinds)
    experts = replace(
        read_experts(config),
        shared_size=config.size("shared_expert_intermediate_size"),
        has_shared_router=True,
    )
    return with_experts(decoder, config, experts)


def read_experts(config: Config) -> Experts:
    """Read the sizes of the experts."""
    return Experts(
        count=config.size("num_experts", "num_local_experts"),
        used_count=config.size("num_experts_per_tok"),
        size=config.size("moe_intermediate_size"),
        is_normalized=config.flag("norm_topk_prob", default=False),
        dense_size=config.size("intermediate_size"),
    )


def with_experts(decoder: Decoder, config: Config, experts: Experts) -> Decoder:
    """Put experts into every so many layers, but for those that are said to be dense."""
    step = config.size("decoder_sparse_step", default=1)
    dense = config.values.get("mlp_only_layers") or []
    if not isinstance(dense, list) or not all(number in range(decoder.layer_count) for number in dense):
        raise Failure(
            f"{config.where}: mlp_only_layers is no list of layers from 0 to {decoder.layer_count - 1}",
            "the file is damaged, or was edited",
        )

    def changed(number: int, layer: Layer) -> Layer:
        has_experts = number not in dense and (number + 1) % step == 0
        return replace(layer, mlp=experts if has_experts else Dense(config.size("intermediate_size")))

    return replace(
        decoder, layers=tuple(changed(number, layer) for number, layer in enumerate(decoder.layers))
    )
