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
    WINDOW = "sliding windows"
    MIXED_WINDOWS = "sliding windows in some layers only"
    MIXED_LAYERS = "layers of different shapes"
    QKV_BIAS = "biases of queries, keys and values"
    OUT_BIAS = "biases of attention outputs"
    MLP_BIAS = "biases of MLPs"
    QK_NORM = "norms of queries and keys"
    ATTENTION_SCALE = "attention scales other than the root of the head size"
    SOFTCAP = "attention softcaps"
    SINKS = "attention sinks"
    LAYER_NORM = "layer norms"
    MIXED_NORMS = "norms of different kinds"
    OFFSET_NORM = "norm weights stored less one"
    POST_NORM = "norms after attention and MLP"
    UNGATED_MLP = "MLPs without a gate"
    GELU = "exact GELU"
    RELU2 = "squared ReLU"
    GELU_TANH = "GELU by its tanh form"
    EXPERTS = "mixtures of experts"
    SHARED_EXPERTS = "shared experts"
    UNNORMALIZED_EXPERTS = "experts whose shares do not add up to one"
    EMBEDDING_SCALE = "scaled embeddings"
    LOGIT_SOFTCAP = "logit softcaps"


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
