"""Arcee (AFM): Llama with a plain MLP that squares its activations."""

from dataclasses import replace

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Decoder
from convert.model.families import llama
from convert.model.feature import Feature

CLASSES = ("ArceeForCausalLM",)
RUNS_IN = frozenset({"vllm", "transformers.js"})
NAMING = llama.NAMING
GGUF = replace(
    llama.GGUF,
    architecture="arcee",
    renders=frozenset({
        Feature.UNGATED_MLP, Feature.RELU2, Feature.ROPE_LLAMA3, Feature.ROPE_LINEAR, Feature.ROPE_YARN,
    }),
    lost={},
    large_layers=0,
    scales=frozenset(),
)  # fmt: skip
EXAMPLE = {**llama.SIZES, "architectures": list(CLASSES), "hidden_act": "relu2"}


def describe(config: Config) -> Decoder:
    """Read a config."""
    if (activation := config.text("hidden_act", "relu2")) != "relu2":
        raise Failure(f"{config.where}: hidden_act {activation!r} is not supported here", "supported: relu2")
    decoder = llama.describe(Config({**config.values, "hidden_act": "silu"}, config.where))
    return replace(decoder, family="arcee").with_mlps(activation="relu2", has_gate=False)
