"""Nemotron-H: layers of Mamba 2, attention without positions, or an MLP, each alone after its norm."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Attention, Decoder, Dense, Experts, Layer, Norm, Role, StateSpace
from convert.model.families import llama
from convert.model.family import Gguf, Naming
from convert.model.feature import Feature
from convert.model.pattern import FULL, LINEAR, read_kinds

CLASSES = ("NemotronHForCausalLM",)
# Transformers saves the experts' keys for all models of the family.
MAY_HAVE_EXPERTS = True
RUNS_IN = frozenset({"vllm"})
NAMING = Naming(
    prefix="backbone.",
    names={
        Role.EMBED: "embeddings",
        Role.ATTN_NORM: "layers.{layer}.norm",
        Role.ATTN_Q: "layers.{layer}.mixer.q_proj",
        Role.ATTN_K: "layers.{layer}.mixer.k_proj",
        Role.ATTN_V: "layers.{layer}.mixer.v_proj",
        Role.ATTN_OUT: "layers.{layer}.mixer.o_proj",
        Role.STATE_IN: "layers.{layer}.mixer.in_proj",
        Role.STATE_CONV: "layers.{layer}.mixer.conv1d",
        (Role.STATE_TIME, "weight"): "layers.{layer}.mixer.dt_bias",
        (Role.STATE_DECAY, "weight"): "layers.{layer}.mixer.A_log",
        (Role.STATE_SKIP, "weight"): "layers.{layer}.mixer.D",
        Role.STATE_NORM: "layers.{layer}.mixer.norm",
        Role.STATE_OUT: "layers.{layer}.mixer.out_proj",
        Role.MLP_NORM: "layers.{layer}.norm",
        Role.MLP_UP: "layers.{layer}.mixer.up_proj",
        Role.MLP_DOWN: "layers.{layer}.mixer.down_proj",
        Role.ROUTER: "layers.{layer}.mixer.gate",
        (Role.ROUTER_SELECTION, "weight"): "layers.{layer}.mixer.gate.e_score_correction_bias",
        Role.EXPERT_NARROW: "layers.{layer}.mixer.fc1_latent_proj",
        Role.EXPERT_WIDE: "layers.{layer}.mixer.fc2_latent_proj",
        Role.EXPERT_UP: "layers.{layer}.mixer.experts.{expert}.up_proj",
        Role.EXPERT_DOWN: "layers.{layer}.mixer.experts.{expert}.down_proj",
        Role.SHARED_UP: "layers.{layer}.mixer.shared_experts.up_proj",
        Role.SHARED_DOWN: "layers.{layer}.mixer.shared_experts.down_proj",
        Role.FINAL_NORM: "norm_f",
        Role.HEAD: "lm_head",
    },
)


def _limits(decoder: Decoder) -> Iterator[str]:
    mlps = {type(layer.mlp) for layer in decoder.layers if layer.mlp}
    if len(mlps) > 1:
        yield "plain MLPs and experts in one model"


def _keys(decoder: Decoder) -> Mapping[str, Any]:
    """Say what each layer is: it has keys, or a width of its MLP, or neither and so a state."""
    experts = next((layer.mlp for layer in decoder.layers if isinstance(layer.mlp, Experts)), None)
    mlps = [layer.dense or layer.experts for layer in decoder.layers]
    keys: dict[str, Any] = {
        "context_length": 1 << 20,  # as the reference says of a model without positions
        "feed_forward_length": [mlp.size if mlp else 0 for mlp in mlps],
        "attention.layer_norm_epsilon": decoder.final_norm.eps,
        "attention.layer_norm_rms_epsilon": None,
        "rope.scaling.finetuned": False,
    }
    if decoder.attentions:
        keys["rope.dimension_count"] = decoder.attention.head_size
    if experts:
        # The graph knows that scores are sigmoids.
        keys |= {"expert_gating_func": None, "leading_dense_block_count": None}
        keys["moe_latent_size"] = experts.latent_size or None
    return keys


DENSE = Gguf(
    "nemotron_h",
    renders=frozenset({
        Feature.STATE_SPACE, Feature.STATE_NORM, Feature.SINGLE_BLOCKS, Feature.NO_POSITIONS,
        Feature.MIXED_MIXERS, Feature.MIXED_MLPS, Feature.MIXED_LAYERS, Feature.UNGATED_MLP,
        Feature.RELU2, Feature.MLP_BIAS,
    }),
    names={Role.MLP_NORM: "attn_norm"},
    # Nothing turns: the reference arranges heads so all the same.
    is_interleaved=True,
    always=frozenset({
        "key_length",
        "expert_weights_norm", "expert_weights_scale", "expert_group_count", "expert_shared_count",
    }),
    lost={Feature.STATE_TIMES: "llama.cpp's graph takes time steps as they come"},
    limits=_limits,
    keys=_keys,
    scales=llama.SCALES | {Role.STATE_IN, Role.STATE_OUT},
)  # fmt: skip
MIXTURE = replace(
    DENSE,
    architecture="nemotron_h_moe",
    renders=DENSE.renders | {
        Feature.EXPERTS, Feature.UNGATED_EXPERTS, Feature.SIGMOID_ROUTING, Feature.SELECTION_BIAS,
        Feature.SHARED_EXPERTS, Feature.EXPERT_SCALE, Feature.EXPERT_GROUPS, Feature.UNNORMALIZED_EXPERTS,
        Feature.LATENT_EXPERTS,
    },
    scales=DENSE.scales | llama.EXPERT_SCALES | {Role.SHARED_UP, Role.SHARED_DOWN},
)  # fmt: skip


def _graph(decoder: Decoder) -> Gguf | None:
    return MIXTURE if any(isinstance(layer.mlp, Experts) for layer in decoder.layers) else None


GGUF = replace(DENSE, other=_graph)
EXAMPLE = {
    "architectures": list(CLASSES),
    "vocab_size": 512,
    "hidden_size": 256,
    "num_hidden_layers": 6,
    "hybrid_override_pattern": "M-*-M-",
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "intermediate_size": 512,
    "mlp_hidden_act": "relu2",
    "mamba_num_heads": 8,
    "mamba_head_dim": 64,
    "mamba_hidden_act": "silu",
    "n_groups": 2,
    "ssm_state_size": 64,
    "conv_kernel": 4,
    "use_conv_bias": True,
    "chunk_size": 16,
    "time_step_min": 0.001,
    "layer_norm_epsilon": 1e-5,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_EXPERTS = {
    "hybrid_override_pattern": None,
    "layers_block_type": ["mamba", "moe", "attention", "moe", "mamba", "moe"],
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 256,
    "moe_shared_expert_intermediate_size": 512,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.5,
    "n_group": 1,
    "topk_group": 1,
}
VARIANTS = {
    "biased": {"mlp_bias": True, "head_dim": 128},
    "moe": _EXPERTS,
    "latent": {
        **_EXPERTS,
        "layers_block_type": [LINEAR, "moe", FULL, "moe", LINEAR, "moe"],
        "moe_latent_size": 128,
        "n_group": 4,
        "topk_group": 2,
        "norm_topk_prob": False,
    },
}

MLP, MOE = "mlp", "moe"
LETTERS = {"M": LINEAR, "*": FULL, "-": MLP, "E": MOE}


def describe(config: Config) -> Decoder:
    """Read a config."""
    for key, wanted in (("mlp_hidden_act", "relu2"), ("mamba_hidden_act", "silu")):
        if (found := config.text(key, wanted)) != wanted:
            raise Failure(f"{config.where}: {key} {found!r} is not supported here", f"supported: {wanted}")
    kinds = _kinds(config)
    norm = Norm(config.real("layer_norm_epsilon", default=1e-5))
    heads = config.size("num_attention_heads")
    if config.flag("attention_bias", default=False):
        raise Failure(f"{config.where}: attention_bias is not supported here", "Transformers' class has none")
    attention = Attention(
        heads,
        config.size("num_key_value_heads", default=heads),
        config.size("head_dim", "attention_head_dim", default=128),
        rope=None,
    )
    state = StateSpace(
        head_count=config.size("mamba_num_heads"),
        head_size=config.size("mamba_head_dim"),
        group_count=config.size("n_groups", "mamba_n_groups", default=8),
        state_size=config.size("ssm_state_size"),
        kernel=config.size("conv_kernel", "mamba_d_conv", default=4),
        norm=norm,
        has_conv_bias=config.flag("use_conv_bias", default=True),
        has_bias=config.flag("use_bias", default=False),
        # Its class takes the shortest step for the lower limit, whatever the config calls limits.
        times=(config.real("time_step_min", default=0.001), float("inf")),
    )
    layers = {
        FULL: Layer(attention, None, attn_norm=norm, mlp_norm=None),
        LINEAR: Layer(state, None, attn_norm=norm, mlp_norm=None),
        **{kind: Layer(None, _mlp(config, kind), None, norm) for kind in (MLP, MOE) if kind in kinds},
    }
    return Decoder(
        family="nemotron_h",
        layers=tuple(layers[kind] for kind in kinds),
        hidden_size=config.size("hidden_size"),
        vocab_size=config.size("vocab_size"),
        context_length=config.size("max_position_embeddings", default=4096),
        final_norm=norm,
        is_tied=config.flag("tie_word_embeddings", default=False),
    )


def _kinds(config: Config) -> tuple[str, ...]:
    """Read what each layer is, from a list or, as older configs say it, a letter for each."""
    key = next((key for key in ("layers_block_type", "layer_types") if config.has(key)), None)
    if key is None:
        key, pattern = "hybrid_override_pattern", config.text("hybrid_override_pattern")
        config = Config(
            {**config.values, key: [LETTERS.get(letter, letter) for letter in pattern]}, config.where
        )
    count = config.size("num_hidden_layers", default=len(config.texts(key)))
    return read_kinds(config, [""] * count, key, known=(LINEAR, FULL, MLP, MOE))


def _mlp(config: Config, kind: str) -> Dense | Experts:
    has_bias = config.flag("mlp_bias", default=False)
    if kind == MLP:
        return Dense(config.size("intermediate_size"), activation="relu2", has_gate=False, has_bias=has_bias)
    if has_bias:
        raise Failure(
            f"{config.where}: mlp_bias is on in a mixture of experts", "the published models have it off"
        )
    return Experts(
        count=config.size("n_routed_experts"),
        used_count=config.size("num_experts_per_tok"),
        size=config.size("moe_intermediate_size"),
        activation="relu2",
        has_gate=False,
        routing="sigmoid",
        is_normalized=config.flag("norm_topk_prob", default=True),
        scale=config.real("routed_scaling_factor", default=1.0),
        has_selection_bias=True,
        group_count=config.size("n_group", default=1),
        used_group_count=config.size("topk_group", default=1),
        shared_size=config.size("moe_shared_expert_intermediate_size"),
        latent_size=config.size("moe_latent_size", default=0, least=0),
    )
