"""The canonical description of a decoder: layers as data, and the roles that its tensors play."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from convert.model.feature import Feature, features_of, plain, switch

if TYPE_CHECKING:
    from collections.abc import Iterator

    Shaped = Iterator[tuple["Ref", tuple[int, ...]]]


class Role(StrEnum):
    """The job of a tensor, whatever its checkpoint calls it."""

    EMBED = "embed"
    POSITION = "position"
    ATTN_NORM = "attn_norm"
    ATTN_Q = "attn_q"
    ATTN_K = "attn_k"
    ATTN_V = "attn_v"
    ATTN_Q_NORM = "attn_q_norm"
    ATTN_K_NORM = "attn_k_norm"
    ATTN_SINKS = "attn_sinks"
    ATTN_OUT = "attn_out"
    ATTN_POST_NORM = "attn_post_norm"
    MLP_NORM = "mlp_norm"
    MLP_GATE = "mlp_gate"
    MLP_UP = "mlp_up"
    MLP_DOWN = "mlp_down"
    ROUTER = "router"
    EXPERT_GATE = "expert_gate"
    EXPERT_UP = "expert_up"
    EXPERT_DOWN = "expert_down"
    SHARED_GATE = "shared_gate"
    SHARED_UP = "shared_up"
    SHARED_DOWN = "shared_down"
    MLP_POST_NORM = "mlp_post_norm"
    FINAL_NORM = "final_norm"
    HEAD = "head"


QKV = (Role.ATTN_Q, Role.ATTN_K, Role.ATTN_V)
Part = Literal["weight", "bias"]
Activation = Literal["silu", "gelu", "gelu_tanh", "relu2"]
ACTIVATIONS = {"gelu": Feature.GELU, "gelu_tanh": Feature.GELU_TANH, "relu2": Feature.RELU2}


@dataclass(frozen=True, slots=True)
class Ref:
    """One canonical tensor: a role, in a layer or outside of all, maybe of one expert, weight or bias."""

    role: Role
    layer: int | None = None
    part: Part = "weight"
    expert: int | None = None

    def __str__(self) -> str:
        where = "" if self.layer is None else f"{self.layer}."
        which = "" if self.expert is None else f"{self.expert}."
        return f"{where}{self.role}.{which}{self.part}"


@dataclass(frozen=True, slots=True)
class Origin:
    """The place of a canonical tensor in the source: a tensor, some of its rows, maybe transposed."""

    name: str
    first_row: int = 0
    is_transposed: bool = False


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """The way rotary frequencies are stretched beyond the length that the model was first trained at."""

    kind: Literal["linear", "llama3", "yarn", "longrope"]
    factor: float = plain(1.0)
    original_context_length: int = plain(0)
    low_freq_factor: float = plain(1.0)
    high_freq_factor: float = plain(4.0)
    attention_factor: float | None = plain(None)
    beta_fast: float | None = plain(None)
    beta_slow: float | None = plain(None)
    short_factors: tuple[float, ...] = plain(())
    long_factors: tuple[float, ...] = plain(())

    @property
    def FEATURE(self) -> Feature:  # noqa: N802 - as the constant of other parts
        return {
            "linear": Feature.ROPE_LINEAR,
            "llama3": Feature.ROPE_LLAMA3,
            "yarn": Feature.ROPE_YARN,
            "longrope": Feature.ROPE_LONGROPE,
        }[self.kind]


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary positions: base frequency, how many of a head's dimensions turn, and their scaling."""

    theta: float
    dimensions: int
    scaling: RopeScaling | None = plain(None)  # which is a feature itself


@dataclass(frozen=True, slots=True)
class Norm:
    """A norm of hidden states, or of each head by itself."""

    eps: float
    kind: Literal["rms", "layer"] = switch("rms", {"layer": Feature.LAYER_NORM})
    # Weights are stored less one, so that zeros change nothing.
    is_offset: bool = switch(plain=False, feature=Feature.OFFSET_NORM)

    def shapes(self, role: Role, layer: int | None, size: int) -> Shaped:
        """List its tensors."""
        yield Ref(role, layer), (size,)
        if self.kind == "layer":
            yield Ref(role, layer, "bias"), (size,)


@dataclass(frozen=True, slots=True)
class Attention:
    """Attention over all earlier tokens, or the last ones, with heads that may share keys and values."""

    head_count: int
    kv_head_count: int
    head_size: int
    rope: Rope | None  # None: learned positions, or none
    window: int | None = switch(None, Feature.WINDOW)
    has_qkv_bias: bool = switch(plain=False, feature=Feature.QKV_BIAS)
    has_out_bias: bool = switch(plain=False, feature=Feature.OUT_BIAS)
    qk_norm: Norm | None = switch(None, Feature.QK_NORM)
    scale: float | None = switch(None, Feature.ATTENTION_SCALE)  # None: 1 / sqrt(head_size)
    softcap: float | None = switch(None, Feature.SOFTCAP)
    has_sinks: bool = switch(plain=False, feature=Feature.SINKS)

    @property
    def q_size(self) -> int:
        return self.head_count * self.head_size

    @property
    def kv_size(self) -> int:
        return self.kv_head_count * self.head_size

    def shapes(self, layer: int, hidden: int) -> Shaped:
        """List its tensors, matrices as (out, in)."""
        for role, size in zip(QKV, (self.q_size, self.kv_size, self.kv_size), strict=True):
            yield from _linear(Ref(role, layer), size, hidden, has_bias=self.has_qkv_bias)
        if self.qk_norm:
            yield from self.qk_norm.shapes(Role.ATTN_Q_NORM, layer, self.head_size)
            yield from self.qk_norm.shapes(Role.ATTN_K_NORM, layer, self.head_size)
        if self.has_sinks:
            yield Ref(Role.ATTN_SINKS, layer), (self.head_count,)
        yield from _linear(Ref(Role.ATTN_OUT, layer), hidden, self.q_size, has_bias=self.has_out_bias)


@dataclass(frozen=True, slots=True)
class Dense:
    """A plain MLP: up, through an activation, and down; with a gate, that is what is activated."""

    size: int
    activation: Activation = switch("silu", ACTIVATIONS)
    has_gate: bool = switch(plain=True, feature=Feature.UNGATED_MLP)
    has_bias: bool = switch(plain=False, feature=Feature.MLP_BIAS)

    def shapes(self, layer: int, hidden: int) -> Shaped:
        """List its tensors."""
        if self.has_gate:
            yield from _linear(Ref(Role.MLP_GATE, layer), self.size, hidden, has_bias=self.has_bias)
        yield from _linear(Ref(Role.MLP_UP, layer), self.size, hidden, has_bias=self.has_bias)
        yield from _linear(Ref(Role.MLP_DOWN, layer), hidden, self.size, has_bias=self.has_bias)


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of gated MLPs, a few of which a router chooses for each token."""

    FEATURE: ClassVar[Feature] = Feature.EXPERTS

    count: int
    used_count: int
    size: int  # of each
    activation: Activation = switch("silu", ACTIVATIONS)
    # Whether the shares of the chosen experts add up to one.
    is_normalized: bool = switch(plain=True, feature=Feature.UNNORMALIZED_EXPERTS)
    shared_size: int = switch(0, Feature.SHARED_EXPERTS)  # of those that see every token

    def shapes(self, layer: int, hidden: int) -> Shaped:
        """List its tensors, expert by expert."""
        yield Ref(Role.ROUTER, layer), (self.count, hidden)
        for expert in range(self.count):
            yield Ref(Role.EXPERT_GATE, layer, expert=expert), (self.size, hidden)
            yield Ref(Role.EXPERT_UP, layer, expert=expert), (self.size, hidden)
            yield Ref(Role.EXPERT_DOWN, layer, expert=expert), (hidden, self.size)
        if self.shared_size:
            yield Ref(Role.SHARED_GATE, layer), (self.shared_size, hidden)
            yield Ref(Role.SHARED_UP, layer), (self.shared_size, hidden)
            yield Ref(Role.SHARED_DOWN, layer), (hidden, self.shared_size)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: a norm, a mixer, a norm, an MLP; each result is added to the hidden states."""

    mixer: Attention
    mlp: Dense | Experts
    attn_norm: Norm
    mlp_norm: Norm
    attn_post_norm: Norm | None = switch(None, Feature.POST_NORM)
    mlp_post_norm: Norm | None = switch(None, Feature.POST_NORM)

    def shapes(self, layer: int, hidden: int) -> Shaped:
        """List its tensors, in the model's order."""
        yield from self.attn_norm.shapes(Role.ATTN_NORM, layer, hidden)
        yield from self.mixer.shapes(layer, hidden)
        if self.attn_post_norm:
            yield from self.attn_post_norm.shapes(Role.ATTN_POST_NORM, layer, hidden)
        yield from self.mlp_norm.shapes(Role.MLP_NORM, layer, hidden)
        yield from self.mlp.shapes(layer, hidden)
        if self.mlp_post_norm:
            yield from self.mlp_post_norm.shapes(Role.MLP_POST_NORM, layer, hidden)


@dataclass(frozen=True)
class Decoder:
    """Everything that a format needs to know of a model, and nothing of how its source names it."""

    family: str  # the canonical model_type: a family that is another's by other names has that one's
    layers: tuple[Layer, ...]
    hidden_size: int
    vocab_size: int
    context_length: int
    final_norm: Norm
    has_positions: bool = switch(plain=False, feature=Feature.LEARNED_POSITIONS)
    is_tied: bool = plain(default=False)
    embedding_scale: float | None = switch(None, Feature.EMBEDDING_SCALE)
    logit_softcap: float | None = switch(None, Feature.LOGIT_SOFTCAP)
    # What the source does that no runtime of ours repeats, in words for the manifest.
    deviations: tuple[str, ...] = plain(())

    @cached_property
    def features(self) -> frozenset[Feature]:
        """Derive what this model asks of a format beyond the plain case."""
        kinds = tuple(dict.fromkeys(self.layers))
        found = {*features_of(replace(self, layers=kinds))}
        if any(layer.mixer.rope and layer.mixer.rope.dimensions != layer.mixer.head_size for layer in kinds):
            found.add(Feature.PARTIAL_ROTARY)
        if not self.has_positions and any(layer.mixer.rope is None for layer in kinds):
            found.add(Feature.NO_POSITIONS)
        if len({(norm.eps, norm.kind) for norm in self._norms(kinds)}) > 1:
            found.add(Feature.MIXED_NORMS)
        if len(kinds) > 1:
            alike = {replace(layer, mixer=replace(layer.mixer, window=None)) for layer in kinds}
            found.add(Feature.MIXED_WINDOWS if len(alike) == 1 else Feature.MIXED_LAYERS)
        return frozenset(found)

    def _norms(self, kinds: tuple[Layer, ...]) -> Iterator[Norm]:
        yield self.final_norm
        for layer in kinds:
            norms = (
                layer.attn_norm,
                layer.attn_post_norm,
                layer.mixer.qk_norm,
                layer.mlp_norm,
                layer.mlp_post_norm,
            )
            yield from filter(None, norms)

    def norm_of(self, ref: Ref) -> Norm | None:
        """Find the norm that a tensor belongs to."""
        if ref.layer is None:
            return self.final_norm if ref.role is Role.FINAL_NORM else None
        layer = self.layers[ref.layer]
        return {
            Role.ATTN_NORM: layer.attn_norm,
            Role.ATTN_Q_NORM: layer.mixer.qk_norm,
            Role.ATTN_K_NORM: layer.mixer.qk_norm,
            Role.ATTN_POST_NORM: layer.attn_post_norm,
            Role.MLP_NORM: layer.mlp_norm,
            Role.MLP_POST_NORM: layer.mlp_post_norm,
        }.get(ref.role)

    def has_offset(self, ref: Ref) -> bool:
        """Check whether a norm's weights are stored less one."""
        norm = self.norm_of(ref)
        return norm is not None and norm.is_offset and ref.part == "weight"

    @property
    def layer_count(self) -> int:
        return len(self.layers)

    @property
    def layer(self) -> Layer:
        """Give the one kind of layer there is; for a format that renders no MIXED_LAYERS."""
        return self.layers[0]

    @property
    def rope(self) -> Rope | None:
        return self.layer.mixer.rope

    def with_mixers(self, **changes: Any) -> Decoder:
        """Change every layer's mixer."""
        edited = (replace(layer, mixer=replace(layer.mixer, **changes)) for layer in self.layers)
        return replace(self, layers=tuple(edited))

    def with_mlps(self, **changes: Any) -> Decoder:
        """Change every layer's MLP."""
        edited = (replace(layer, mlp=replace(layer.mlp, **changes)) for layer in self.layers)
        return replace(self, layers=tuple(edited))

    def with_norm(self, norm: Norm) -> Decoder:
        """Use one kind of norm before attention, before MLPs and at the end."""
        edited = (replace(layer, attn_norm=norm, mlp_norm=norm) for layer in self.layers)
        return replace(self, layers=tuple(edited), final_norm=norm)

    def shapes(self) -> Shaped:
        """List every canonical tensor with its shape, matrices as (out, in), in the model's order."""
        hidden = self.hidden_size
        yield Ref(Role.EMBED), (self.vocab_size, hidden)
        if self.has_positions:
            yield Ref(Role.POSITION), (self.context_length, hidden)
        for index, layer in enumerate(self.layers):
            yield from layer.shapes(index, hidden)
        yield from self.final_norm.shapes(Role.FINAL_NORM, None, hidden)
        if not self.is_tied:
            yield Ref(Role.HEAD), (self.vocab_size, hidden)

    @property
    def parameter_count(self) -> int:
        return sum(math.prod(shape) for _, shape in self.shapes())


def _linear(ref: Ref, out_size: int, in_size: int, *, has_bias: bool) -> Shaped:
    yield ref, (out_size, in_size)
    if has_bias:
        yield replace(ref, part="bias"), (out_size,)
