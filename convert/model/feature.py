"""Features: what a decoder may ask of a format beyond the plain case, and how they follow from its data.

The plain case is root-mean-square norms before attention and MLP, rotary positions over whole heads,
grouped heads without biases, a gated SiLU, and layers that are all alike. Each field that can depart from it
is declared with `switch`, which names the feature, so that formats are asked about every new field.
"""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, field, fields, is_dataclass
from enum import StrEnum
from typing import Any


class Feature(StrEnum):
    """A property of a model by which some format could fail, in words for a message."""

    LEARNED_POSITIONS = "learned positions"
    NO_POSITIONS = "attention without positions"
    PARTIAL_ROTARY = "rotary positions in a part of each head"
    ROPE_LINEAR = "linear rotary scaling"
    ROPE_LLAMA3 = "llama3 rotary scaling"
    ROPE_YARN = "YaRN rotary scaling"
    ROPE_LONGROPE = "LongRoPE rotary scaling"
    YARN_TURNS = "YaRN rotary scaling between other numbers of turns than 32 and 1"
    EXACT_YARN = "YaRN rotary scaling between parts of dimensions"
    INTERLEAVED_ROTARY = "rotary positions over neighboring dimensions"
    PROPORTIONAL_ROTARY = "proportional rotary positions"
    MIXED_ROTARY = "rotary positions that differ between layers"
    ALIBI = "linear biases for positions (ALiBi)"
    QUERY_TEMPERATURE = "queries scaled by their position"
    WINDOW = "sliding windows"
    MIXED_WINDOWS = "sliding windows in some layers only"
    CHUNKED_ATTENTION = "attention in chunks"
    MIXED_MIXERS = "layers with different attention"
    MIXED_MLPS = "layers with different MLPs"
    MIXED_LAYERS = "layers with different norms"
    SINGLE_BLOCKS = "layers with attention or an MLP alone"
    PARALLEL_MLP = "attention and MLP in parallel"
    PARALLEL_MLP_NORM = "parallel MLPs with their own norms"
    RESIDUAL_SCALE = "scaled residuals"
    LAYER_SCALE = "scaled layers"
    LAYER_INPUTS = "embeddings for each layer"
    GATED_ATTENTION = "gated attention"
    KEYS_AS_VALUES = "keys that are also the values"
    SHARED_KEYS_VALUES = "keys and values shared between layers"
    LATENT_ATTENTION = "latent attention (MLA)"
    DELTA_RULE = "gated delta rule attention"
    STATE_SPACE = "state spaces (Mamba 2)"
    STATE_NORM = "norms in state spaces"
    STATE_NORM_FIRST = "state spaces whose gate follows their norm"
    STATE_BIAS = "biases of state spaces"
    STATE_TIMES = "limits of time steps in state spaces"
    STATE_SCALES = "multipliers in state spaces"
    UNBIASED_CONVOLUTION = "state spaces without biases of convolutions"
    SHORT_CONVOLUTION = "short convolutions"
    CONVOLUTION_BIAS = "biases of short convolutions"
    MIXER_SCALES = "multipliers around attention and state spaces"
    PARALLEL_MIXERS = "attention and state spaces in parallel"
    QKV_BIAS = "biases of queries, keys and values"
    OUT_BIAS = "biases of attention outputs"
    MLP_BIAS = "biases of MLPs"
    QK_NORM = "norms of queries and keys"
    QK_NORM_ROW = "norms over all queries and over all keys"
    QK_NORM_HEADS = "norms of queries and keys that differ by head"
    LATE_QK_NORM = "norms of queries and keys after positions"
    V_NORM = "norms of values"
    CLIPPED_QKV = "clipped queries, keys and values"
    ATTENTION_SCALE = "attention scales other than the root of the head size"
    SOFTCAP = "attention softcaps"
    SINKS = "attention sinks"
    LAYER_NORM = "layer norms"
    MIXED_NORMS = "norms of different kinds"
    OFFSET_NORM = "norm weights stored less one"
    WEIGHTLESS_NORM = "norms without weights"
    UNBIASED_LAYER_NORM = "layer norms without biases"
    NO_INPUT_NORM = "attention or MLPs without a norm before them"
    POST_NORM = "norms after attention and MLP"
    UNGATED_MLP = "MLPs without a gate"
    GELU = "exact GELU"
    RELU = "ReLU"
    RELU2 = "squared ReLU"
    CLAMPED_SWIGLU = "clamped SwiGLU"
    MLP_SCALES = "multipliers in MLPs"
    GELU_TANH = "GELU by its tanh form"
    EXPERTS = "mixtures of experts"
    SHARED_EXPERTS = "shared experts"
    UNNORMALIZED_EXPERTS = "experts whose shares do not add up to one"
    UNGATED_EXPERTS = "experts without a gate"
    SIGMOID_ROUTING = "experts chosen by sigmoid scores"
    SOFTMAX_OF_CHOSEN = "experts weighed by a softmax over the chosen ones"
    EXPERT_SCALE = "scaled experts"
    EXPERT_BIAS = "biases of experts"
    LATENT_EXPERTS = "experts that work on a narrower row"
    EXPERT_GROUPS = "experts chosen by groups"
    SELECTION_BIAS = "biases in the choice of experts"
    ROUTER_BIAS = "biases of routers"
    ROUTER_NORM = "routers with a norm before them"
    EXPERT_SHARES = "experts with factors for their shares"
    DENSE_AND_EXPERTS = "a dense MLP and experts side by side"
    WEIGHED_INPUTS = "experts whose inputs are weighed"
    GATED_SHARED_EXPERT = "gated shared experts"
    POSITION_OFFSET = "learned positions with an offset"
    HEAD_BIAS = "a bias of the output head"
    EMBEDDING_NORM = "norms of embeddings"
    EMBEDDING_SCALE = "scaled embeddings"
    LOGIT_SOFTCAP = "logit softcaps"
    LOGIT_SCALE = "scaled logits"


def switch(plain: Any, feature: Feature | Mapping[Any, Feature]) -> Any:
    """Declare a field whose values other than `plain` are a feature, or each the feature that it maps to."""
    return field(default=plain, metadata={"feature": feature})


def plain(default: Any) -> Any:
    """Declare a field of which every format must take any value."""
    return field(default=default, metadata={"feature": None})


def features_of(part: Any) -> Iterator[Feature]:
    """Walk a description, and yield what departs from the plain case."""
    if isinstance(part, tuple):
        for item in part:
            yield from features_of(item)
    if not is_dataclass(part):
        return
    if own := getattr(part, "FEATURE", None):
        yield own
    for each in fields(part):
        value, feature = getattr(part, each.name), each.metadata.get("feature")
        if feature is not None and each.default is not MISSING and value != each.default:
            yield feature if isinstance(feature, Feature) else feature[value]
        yield from features_of(value)
