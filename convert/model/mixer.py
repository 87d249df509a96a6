"""Mixers: how a layer lets each token see those before it."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from convert.model.feature import Feature, plain, switch
from convert.model.norm import Norm, Rope
from convert.model.tensor import QKV, Ref, Role, Shaped, linear

# What is added to squares where the delta rule brings queries and keys to length one.
LENGTH_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class Temperature:
    """Queries grow with the logarithm of their position, in steps of a length."""

    FEATURE: ClassVar[Feature] = Feature.QUERY_TEMPERATURE

    scale: float
    length: int


@dataclass(frozen=True, slots=True)
class Alibi:
    """Scores that grow with a key's position, by another slope in each head."""

    FEATURE: ClassVar[Feature] = Feature.ALIBI

    scale: float = plain(1.0)  # of all slopes
    is_coarse: bool = plain(default=False)  # slopes, and their products with positions, are bfloat16


@dataclass(frozen=True, slots=True)
class Attention:
    """Attention over all earlier tokens, or the last ones, with heads that may share keys and values."""

    head_count: int
    kv_head_count: int
    head_size: int
    rope: Rope | None  # None: learned positions, or none
    window: int | None = switch(None, Feature.WINDOW)
    # Only tokens of the same stretch of this length are seen.
    chunk: int | None = switch(None, Feature.CHUNKED_ATTENTION)
    has_qkv_bias: bool = switch(plain=False, feature=Feature.QKV_BIAS)
    has_out_bias: bool = switch(plain=False, feature=Feature.OUT_BIAS)
    qk_norm: Norm | None = switch(None, Feature.QK_NORM)
    # What it normalizes: each head, all heads as one row, or each head by weights for that head alone.
    qk_norm_span: Literal["head", "row", "heads"] = switch(
        "head", {"row": Feature.QK_NORM_ROW, "heads": Feature.QK_NORM_HEADS}
    )
    is_qk_norm_late: bool = switch(plain=False, feature=Feature.LATE_QK_NORM)  # after positions
    v_norm: Norm | None = switch(None, Feature.V_NORM)
    scale: float | None = switch(None, Feature.ATTENTION_SCALE)  # None: 1 / sqrt(head_size)
    softcap: float | None = switch(None, Feature.SOFTCAP)
    clip: float | None = switch(None, Feature.CLIPPED_QKV)
    has_sinks: bool = switch(plain=False, feature=Feature.SINKS)
    alibi: Alibi | None = plain(None)  # which is a feature itself
    # The output is weighed by a sigmoid; the rows of each head's gate follow those of its query.
    has_gate: bool = switch(plain=False, feature=Feature.GATED_ATTENTION)
    temperature: Temperature | None = plain(None)  # which is a feature itself
    is_key_value: bool = switch(plain=False, feature=Feature.KEYS_AS_VALUES)  # keys before their norm
    kv_layer: int | None = switch(None, Feature.SHARED_KEYS_VALUES)  # of which it takes keys and values

    @property
    def q_size(self) -> int:
        return self.head_count * self.head_size

    @property
    def kv_size(self) -> int:
        return self.kv_head_count * self.head_size

    def shapes(self, layer: int, hidden: int) -> Shaped:
        """List its tensors, matrices as (out, in)."""
        sizes = (self.q_size * (2 if self.has_gate else 1), self.kv_size, self.kv_size)
        for role, size in zip(QKV, sizes, strict=True):
            if self._has(role):
                yield from linear(Ref(role, layer), size, hidden, has_bias=self.has_qkv_bias)
        if self.qk_norm:
            for role, size, count in (
                (Role.ATTN_Q_NORM, self.q_size, self.head_count),
                (Role.ATTN_K_NORM, self.kv_size, self.kv_head_count),
            ):
                span = self.qk_norm_span
                width = size if span == "row" else self.head_size
                if role is Role.ATTN_Q_NORM or self._has(Role.ATTN_K):
                    yield from self.qk_norm.shapes(role, layer, width, count if span == "heads" else 0)
        if self.has_sinks:
            yield Ref(Role.ATTN_SINKS, layer), (self.head_count,)
        yield from linear(Ref(Role.ATTN_OUT, layer), hidden, self.q_size, has_bias=self.has_out_bias)

    def _has(self, role: Role) -> bool:
        if role is Role.ATTN_Q:
            return True
        return self.kv_layer is None and not (role is Role.ATTN_V and self.is_key_value)

    def norm_of(self, role: Role) -> Norm | None:
        """Find the norm that a tensor belongs to."""
        return self.qk_norm if role in (Role.ATTN_Q_NORM, Role.ATTN_K_NORM) else None


@dataclass(frozen=True, slots=True)
class Latent:
    """Attention whose keys and values come out of one narrow row for all heads (MLA)."""

    FEATURE: ClassVar[Feature] = Feature.LATENT_ATTENTION

    head_count: int
    q_rank: int  # 0: queries come straight from the hidden states
    kv_rank: int
    plain_size: int  # of a head's dimensions without positions
    rope: Rope  # of the rest of a head's dimensions, which all heads share in their keys
    value_size: int
    norm: Norm  # of both narrow rows
    scale: float | None = plain(None)  # None: 1 / sqrt of the head's size
    has_bias: bool = switch(plain=False, feature=Feature.QKV_BIAS)
    has_out_bias: bool = switch(plain=False, feature=Feature.OUT_BIAS)
    window: ClassVar[None] = None

    @property
    def head_size(self) -> int:
        return self.plain_size + self.rope.dimensions

    def shapes(self, layer: int, hidden: int) -> Shaped:
        """List its tensors, matrices as (out, in)."""
        queries = self.head_count * self.head_size
        if self.q_rank:
            yield from linear(Ref(Role.LATENT_Q_DOWN, layer), self.q_rank, hidden, has_bias=self.has_bias)
            yield from self.norm.shapes(Role.LATENT_Q_NORM, layer, self.q_rank)
            yield from linear(Ref(Role.LATENT_Q_UP, layer), queries, self.q_rank)
        else:
            yield from linear(Ref(Role.ATTN_Q, layer), queries, hidden)
        narrow = self.kv_rank + self.rope.dimensions
        yield from linear(Ref(Role.LATENT_KV_DOWN, layer), narrow, hidden, has_bias=self.has_bias)
        yield from self.norm.shapes(Role.LATENT_KV_NORM, layer, self.kv_rank)
        wide = self.head_count * (self.plain_size + self.value_size)
        yield from linear(Ref(Role.LATENT_KV_UP, layer), wide, self.kv_rank)
        values = self.head_count * self.value_size
        yield from linear(Ref(Role.ATTN_OUT, layer), hidden, values, has_bias=self.has_out_bias)

    def norm_of(self, role: Role) -> Norm | None:
        """Find the norm that a tensor belongs to."""
        return self.norm if role in (Role.LATENT_Q_NORM, Role.LATENT_KV_NORM) else None


@dataclass(frozen=True, slots=True)
class Delta:
    """Linear attention by the gated delta rule, after a short convolution."""

    FEATURE: ClassVar[Feature] = Feature.DELTA_RULE

    key_head_count: int
    value_head_count: int
    key_size: int
    value_size: int
    kernel: int
    norm: Norm  # of each head's result, before its gate
    rope: ClassVar[None] = None
    window: ClassVar[None] = None

    @property
    def keys_size(self) -> int:
        return self.key_head_count * self.key_size

    @property
    def values_size(self) -> int:
        return self.value_head_count * self.value_size

    def shapes(self, layer: int, hidden: int) -> Shaped:
        """List its tensors, matrices as (out, in)."""
        keys, values, heads = self.keys_size, self.values_size, self.value_head_count
        yield Ref(Role.DELTA_Q, layer), (keys, hidden)
        yield Ref(Role.DELTA_K, layer), (keys, hidden)
        yield Ref(Role.DELTA_V, layer), (values, hidden)
        yield Ref(Role.DELTA_GATE, layer), (values, hidden)
        yield Ref(Role.DELTA_BETA, layer), (heads, hidden)
        yield Ref(Role.DELTA_ALPHA, layer), (heads, hidden)
        yield Ref(Role.DELTA_CONV, layer), (2 * keys + values, self.kernel)
        yield Ref(Role.DELTA_TIME, layer), (heads,)
        yield Ref(Role.DELTA_DECAY, layer), (heads,)
        yield from self.norm.shapes(Role.DELTA_NORM, layer, self.value_size)
        yield Ref(Role.DELTA_OUT, layer), (hidden, values)

    def norm_of(self, role: Role) -> Norm | None:
        """Find the norm that a tensor belongs to."""
        return self.norm if role is Role.DELTA_NORM else None


@dataclass(frozen=True, slots=True)
class StateSpace:
    """A state space with a scalar decay for each head (Mamba 2)."""

    FEATURE: ClassVar[Feature] = Feature.STATE_SPACE

    head_count: int
    head_size: int
    group_count: int
    state_size: int
    kernel: int
    # Of the result and its gate, group by group; None: the gate alone.
    norm: Norm | None = switch(None, Feature.STATE_NORM)
    # The gate comes after the norm.
    is_norm_first: bool = switch(plain=False, feature=Feature.STATE_NORM_FIRST)
    has_conv_bias: bool = switch(plain=True, feature=Feature.UNBIASED_CONVOLUTION)
    has_bias: bool = switch(plain=False, feature=Feature.STATE_BIAS)
    # The shortest and longest step of time.
    times: tuple[float, float] = switch((0.0, math.inf), Feature.STATE_TIMES)
    # Multipliers of gate, input, keys, queries and time, as trained.
    scales: tuple[float, ...] = switch((), Feature.STATE_SCALES)
    rope: ClassVar[None] = None
    window: ClassVar[None] = None

    @property
    def inner_size(self) -> int:
        return self.head_count * self.head_size

    @property
    def conv_size(self) -> int:
        return self.inner_size + 2 * self.group_count * self.state_size

    def shapes(self, layer: int, hidden: int) -> Shaped:
        """List its tensors, matrices as (out, in)."""
        rows = self.inner_size + self.conv_size + self.head_count
        yield from linear(Ref(Role.STATE_IN, layer), rows, hidden, has_bias=self.has_bias)
        yield from linear(
            Ref(Role.STATE_CONV, layer), self.conv_size, self.kernel, has_bias=self.has_conv_bias
        )
        for role in (Role.STATE_TIME, Role.STATE_DECAY, Role.STATE_SKIP):
            yield Ref(role, layer), (self.head_count,)
        if self.norm:
            yield from self.norm.shapes(Role.STATE_NORM, layer, self.inner_size)
        yield from linear(Ref(Role.STATE_OUT, layer), hidden, self.inner_size, has_bias=self.has_bias)

    def norm_of(self, role: Role) -> Norm | None:
        """Find the norm that a tensor belongs to."""
        return self.norm if role is Role.STATE_NORM else None


@dataclass(frozen=True, slots=True)
class ShortConvolution:
    """A convolution over a few tokens, between two gates."""

    FEATURE: ClassVar[Feature] = Feature.SHORT_CONVOLUTION

    kernel: int
    has_bias: bool = switch(plain=False, feature=Feature.CONVOLUTION_BIAS)
    rope: ClassVar[None] = None
    window: ClassVar[None] = None

    def shapes(self, layer: int, hidden: int) -> Shaped:
        """List its tensors, matrices as (out, in)."""
        yield from linear(Ref(Role.CONV_IN, layer), 3 * hidden, hidden, has_bias=self.has_bias)
        yield from linear(Ref(Role.CONV, layer), hidden, self.kernel, has_bias=self.has_bias)
        yield from linear(Ref(Role.CONV_OUT, layer), hidden, hidden, has_bias=self.has_bias)

    def norm_of(self, _role: Role) -> None:
        """Find the norm that a tensor belongs to: it has none."""


@dataclass(frozen=True, slots=True)
class Parallel:
    """Attention and a state space that read the same rows; their results are added."""

    FEATURE: ClassVar[Feature] = Feature.PARALLEL_MIXERS

    attention: Attention
    state: StateSpace
    # Multipliers of what each reads and gives, and of the keys.
    attention_in_scale: float = switch(1.0, Feature.MIXER_SCALES)
    attention_out_scale: float = switch(1.0, Feature.MIXER_SCALES)
    key_scale: float = switch(1.0, Feature.MIXER_SCALES)
    state_in_scale: float = switch(1.0, Feature.MIXER_SCALES)
    state_out_scale: float = switch(1.0, Feature.MIXER_SCALES)

    @property
    def rope(self) -> Rope | None:
        return self.attention.rope

    @property
    def window(self) -> int | None:
        return self.attention.window

    def shapes(self, layer: int, hidden: int) -> Shaped:
        """List its tensors, matrices as (out, in)."""
        yield from self.state.shapes(layer, hidden)
        yield from self.attention.shapes(layer, hidden)

    def norm_of(self, role: Role) -> Norm | None:
        """Find the norm that a tensor belongs to."""
        return self.attention.norm_of(role) or self.state.norm_of(role)


Mixer: TypeAlias = Attention | Latent | Delta | StateSpace | ShortConvolution | Parallel
