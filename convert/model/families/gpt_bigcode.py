"""GPTBigCode (StarCoder): GPT-2 with one head of keys and values, and weights stored (out, in)."""

from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder
from convert.model.families import gpt2, gpt_neox
from convert.model.family import Mlx
from convert.model.feature import Feature

CLASSES = ("GPTBigCodeForCausalLM",)
RUNS_IN = frozenset({"vllm"})
# With as many heads of keys as of queries, q, k and v are dealt out by head.
NAMING = replace(gpt2.NAMING, transposed=frozenset(), runs=gpt_neox.BY_TURNS)
GGUF = replace(gpt2.GGUF, architecture="starcoder")
MLX = Mlx(
    renders=frozenset({
        Feature.LEARNED_POSITIONS, Feature.LAYER_NORM, Feature.UNGATED_MLP, Feature.QKV_BIAS,
        Feature.OUT_BIAS, Feature.MLP_BIAS,
    }),
    lost={Feature.GELU_TANH: "mlx-lm computes GELU exactly"},
    defaults=lambda decoder: {"n_inner": 4 * decoder.hidden_size},
    limits=lambda decoder: [] if decoder.attention.kv_head_count == 1 else ["keys and values for each head"],
)  # fmt: skip
EXAMPLE = {
    **gpt2.EXAMPLE,
    "architectures": list(CLASSES),
    "activation_function": "gelu_pytorch_tanh",
    "multi_query": True,
}
VARIANTS = {"keyed": {"multi_query": False, "n_inner": 512}}


def describe(config: Config) -> Decoder:
    """Read a config."""
    decoder = replace(gpt2.describe(config), family="gpt_bigcode")
    return decoder.with_mixers(kv_head_count=1) if config.flag("multi_query", default=True) else decoder
