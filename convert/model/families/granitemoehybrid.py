"""Granite 4: Mamba 2 and a few layers of attention, experts or not, and an MLP that sees every token."""

from collections.abc import Iterator
from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder, Dense, Experts, Role, StateSpace
from convert.model.families import falcon_h1, granite, granitemoe
from convert.model.family import Gguf
from convert.model.feature import Feature
from convert.model.pattern import FULL, LINEAR, read_kinds

CLASSES = ("GraniteMoeHybridForCausalLM",)
UNQUANTIZED = dict.fromkeys(("gptq", "awq"), "layers without state spaces, where GPTQModel looks for them")
RUNS_IN = frozenset({"vllm"})
# Keys of experts are in the configs of models without any too.
MAY_HAVE_EXPERTS = True
_IN, _OUT = "layers.{layer}.shared_mlp.input_linear", "layers.{layer}.shared_mlp.output_linear"
NAMING = replace(
    granitemoe.NAMING,
    names={
        **granitemoe.NAMING.names,
        **falcon_h1.STATE_NAMES,
        Role.MLP_GATE: _IN,
        Role.MLP_UP: _IN,
        Role.MLP_DOWN: _OUT,
        Role.SHARED_GATE: _IN,
        Role.SHARED_UP: _IN,
        Role.SHARED_DOWN: _OUT,
    },
)


def _has(decoder: Decoder, kind: type) -> bool:
    return any(isinstance(part, kind) for layer in decoder.kinds for part in (layer.mixer, layer.mlp))


def _limits(decoder: Decoder) -> Iterator[str]:
    yield from granite.limits(decoder)
    for layer in decoder.kinds:
        if isinstance(layer.mixer, StateSpace) and layer.mixer.inner_size != 2 * decoder.hidden_size:
            yield "state spaces that are not twice as wide as the hidden states"


def _keys(decoder: Decoder) -> dict[str, object]:
    keys = {**granitemoe.keys(decoder), "rope.scaling.finetuned": decoder.rope is not None}
    if decoder.rope is None and _has(decoder, StateSpace):
        # As the reference says of a model without positions.
        keys["context_length"] = 1 << 20
    if decoder.rope is None and decoder.attentions:
        keys["rope.dimension_count"] = decoder.attention.head_size
    return keys


HYBRID = replace(
    granitemoe.GGUF,
    architecture="granitehybrid",
    renders=granitemoe.GGUF.renders
    | {
        Feature.STATE_SPACE, Feature.STATE_NORM, Feature.MIXED_MIXERS, Feature.NO_POSITIONS,
        Feature.SHARED_EXPERTS,
    },
    limits=_limits,
    keys=_keys,
)  # fmt: skip


def _graph(decoder: Decoder) -> Gguf | None:
    """Choose the graph of the plainer families where there is no state space."""
    if _has(decoder, StateSpace):
        return None
    if _has(decoder, Experts):
        # This one turns heads, whatever the key says.
        return replace(HYBRID, architecture="granitemoe", renders=HYBRID.renders - {Feature.NO_POSITIONS})
    return replace(HYBRID, architecture="granite")


GGUF = replace(HYBRID, other=_graph)
EXAMPLE = {
    **granitemoe.EXAMPLE,
    "architectures": list(CLASSES),
    "layer_types": ["mamba", "attention", "mamba", "mamba"],
    "position_embedding_type": "nope",
    "shared_intermediate_size": 512,
    "mamba_n_heads": 8,
    "mamba_d_head": 64,
    "mamba_n_groups": 1,
    "mamba_d_state": 64,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_chunk_size": 16,
    "mamba_conv_bias": True,
    "mamba_proj_bias": False,
}
_NO_EXPERTS = {"num_local_experts": 0, "num_experts_per_tok": 0, "intermediate_size": 512}
VARIANTS = {
    "grouped": {"mamba_n_groups": 2, "position_embedding_type": "rope", "num_local_experts": 4},
    "dense": {**_NO_EXPERTS, "layer_types": [LINEAR, FULL, LINEAR, FULL], "attention_bias": True},
    "attentive": {
        **_NO_EXPERTS,
        "layer_types": ["attention"] * 4,
        "position_embedding_type": "rope",
        "tie_word_embeddings": False,
    },
    "shared": {"layer_types": ["attention"] * 4, "position_embedding_type": "rope"},
    "placeless": {"layer_types": ["attention"] * 4},
    "placeless-dense": {**_NO_EXPERTS, "layer_types": ["attention"] * 4},
}


def describe(config: Config) -> Decoder:
    """Read a config."""
    decoder = granite.describe(Config({**config.values, "mlp_bias": False}, config.where))
    if config.text("position_embedding_type", "nope") != "rope":
        decoder = decoder.with_mixers(rope=None)
    shared = config.size("shared_intermediate_size", default=1024)
    mlp: Dense | Experts = Dense(shared)
    if config.size("num_local_experts", default=8, least=0):
        mlp = replace(granitemoe.read_experts(config), shared_size=shared)
    state = falcon_h1.read_state(config, decoder.hidden_size, decoder.final_norm)
    state = replace(state, is_norm_first=False)
    kinds = read_kinds(config, [LINEAR] * decoder.layer_count, known=(LINEAR, FULL))
    layers = tuple(
        replace(layer, mlp=mlp, mixer=state if kind == LINEAR else layer.mixer)
        for layer, kind in zip(decoder.layers, kinds, strict=True)
    )
    return replace(decoder, family="granitemoehybrid", layers=layers)
