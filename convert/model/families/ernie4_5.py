"""ERNIE 4.5: Llama whose neighboring dimensions turn together."""

from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import QKV, Decoder, Part, Role
from convert.model.families import llama
from convert.model.family import Gguf, Mlx, Naming
from convert.model.feature import Feature

CLASSES = ("Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM")
RUNS_IN = frozenset({"vllm", "transformers.js"})
_FUSED: dict[Role | tuple[Role, Part], str] = {
    **dict.fromkeys(QKV, "layers.{layer}.self_attn.qkv_proj"),
    **dict.fromkeys((Role.MLP_GATE, Role.MLP_UP), "layers.{layer}.mlp.up_gate_proj"),
    **dict.fromkeys((Role.EXPERT_GATE, Role.EXPERT_UP), "layers.{layer}.mlp.experts.{expert}.up_gate_proj"),
    **dict.fromkeys((Role.SHARED_GATE, Role.SHARED_UP), "layers.{layer}.mlp.shared_experts.up_gate_proj"),
}
_MATRICES = frozenset(
    {*_FUSED, Role.ATTN_OUT, Role.MLP_DOWN, Role.EXPERT_DOWN, Role.SHARED_DOWN, Role.ROUTER}
)


def spelled_by_paddle(naming: Naming) -> tuple[Naming, Naming]:
    """Spell names as PaddlePaddle does, whose own files have matrices as (in, out); the first do not."""
    fused = replace(naming, prefix="ernie.", names={**naming.names, **_FUSED}, others=())
    turned = {role for role in (*_MATRICES, Role.HEAD) if isinstance(role, Role)}
    return fused, replace(fused, transposed=frozenset(turned))


NAMING = replace(llama.NAMING, others=spelled_by_paddle(llama.NAMING))
GGUF = Gguf(
    "ernie4_5",
    renders=frozenset({Feature.INTERLEAVED_ROTARY, Feature.ROPE_LINEAR, Feature.ROPE_YARN}),
    is_interleaved=True,
)
MLX = Mlx(renders=frozenset({Feature.INTERLEAVED_ROTARY}))
SIZES = {
    **llama.SIZES,
    "intermediate_size": 512,
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "use_bias": False,
}
EXAMPLE = {**SIZES, "architectures": list(CLASSES[:1]), "head_dim": 64}
VARIANTS = {
    "parameters": {
        "rope_theta": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
        "head_dim": 32,
        "tie_word_embeddings": False,
    },
}


def read(config: Config, family: str, **defaults: object) -> Decoder:
    """Read what the models with and without experts have in common."""
    has_bias = config.flag("use_bias", default=False)
    defaults = {"rope_theta": 500000.0, "rms_norm_eps": 1e-5, "tie_word_embeddings": True, **defaults}
    given = {key: value for key, value in config.values.items() if value is not None}
    values = {**defaults, **given, "attention_bias": has_bias, "mlp_bias": has_bias}
    decoder = llama.describe(Config(values, config.where))
    if (rope := decoder.rope) is None:
        raise TypeError("every config says how positions turn")
    return replace(decoder.with_mixers(rope=replace(rope, is_interleaved=True)), family=family)


def describe(config: Config) -> Decoder:
    """Read a config."""
    return read(config, "ernie4_5", head_dim=128)
