"""The canonical description of a decoder: sizes, switches, and the roles its tensors play."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator


class Role(StrEnum):
    """What a tensor does, whatever its checkpoint calls it."""

    EMBED = "embed"
    POSITION = "position"
    ATTN_NORM = "attn_norm"
    ATTN_Q = "attn_q"
    ATTN_K = "attn_k"
    ATTN_V = "attn_v"
    ATTN_Q_NORM = "attn_q_norm"
    ATTN_K_NORM = "attn_k_norm"
    ATTN_OUT = "attn_out"
    MLP_NORM = "mlp_norm"
    MLP_GATE = "mlp_gate"
    MLP_UP = "mlp_up"
    MLP_DOWN = "mlp_down"
    FINAL_NORM = "final_norm"
    HEAD = "head"


Part = Literal["weight", "bias"]


@dataclass(frozen=True, slots=True)
class Ref:
    """One canonical tensor: a role, in a layer or outside of all, weight or bias."""

    role: Role
    layer: int | None = None
    part: Part = "weight"

    def __str__(self) -> str:
        where = "" if self.layer is None else f"{self.layer}."
        return f"{where}{self.role}.{self.part}"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a canonical tensor lies in the source: a tensor, some of its rows, maybe transposed."""

    name: str
    first_row: int = 0
    is_transposed: bool = False


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the length that the model was first trained at."""

    kind: Literal["linear", "llama3", "yarn", "longrope"]
    factor: float = 1.0
    original_context_length: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    attention_factor: float | None = None
    beta_fast: float | None = None
    beta_slow: float | None = None
    short_factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary positions: base frequency, how many of a head's dimensions turn, and their scaling."""

    theta: float
    dimensions: int
    scaling: RopeScaling | None = None


@dataclass(frozen=True, slots=True)
class Decoder:
    """Everything that a format needs to know of a model, and nothing of how its source names it."""

    family: str  # the canonical model_type: Qwen-1 is "qwen2", by other names
    layer_count: int
    hidden_size: int
    head_count: int
    kv_head_count: int
    head_size: int
    mlp_size: int
    vocab_size: int
    context_length: int
    norm: Literal["rms", "layer"]
    norm_eps: float
    activation: Literal["silu", "gelu", "gelu_tanh"]
    rope: Rope | None = None  # None: learned positions
    is_tied: bool = False
    has_gate: bool = True
    has_qkv_bias: bool = False
    has_out_bias: bool = False
    has_mlp_bias: bool = False
    has_qk_norm: bool = False
    # Gemma stores its norms' weights less one, and scales its embeddings by the root of the hidden size.
    has_unit_norm_offset: bool = False
    has_scaled_embedding: bool = False
    sliding_window: int | None = None
    # What the source does that no runtime of ours repeats, in words for the manifest.
    deviations: tuple[str, ...] = ()

    @property
    def q_size(self) -> int:
        return self.head_count * self.head_size

    @property
    def kv_size(self) -> int:
        return self.kv_head_count * self.head_size

    def shapes(self) -> Iterator[tuple[Ref, tuple[int, ...]]]:
        """Every canonical tensor with its shape, matrices as (out, in), in the model's order."""
        hidden = self.hidden_size
        yield Ref(Role.EMBED), (self.vocab_size, hidden)
        if self.rope is None:
            yield Ref(Role.POSITION), (self.context_length, hidden)
        for layer in range(self.layer_count):
            yield from self._norm(Role.ATTN_NORM, layer)
            yield from _linear(Role.ATTN_Q, layer, self.q_size, hidden, has_bias=self.has_qkv_bias)
            yield from _linear(Role.ATTN_K, layer, self.kv_size, hidden, has_bias=self.has_qkv_bias)
            yield from _linear(Role.ATTN_V, layer, self.kv_size, hidden, has_bias=self.has_qkv_bias)
            if self.has_qk_norm:
                yield Ref(Role.ATTN_Q_NORM, layer), (self.head_size,)
                yield Ref(Role.ATTN_K_NORM, layer), (self.head_size,)
            yield from _linear(Role.ATTN_OUT, layer, hidden, self.q_size, has_bias=self.has_out_bias)
            yield from self._norm(Role.MLP_NORM, layer)
            if self.has_gate:
                yield from _linear(Role.MLP_GATE, layer, self.mlp_size, hidden, has_bias=self.has_mlp_bias)
            yield from _linear(Role.MLP_UP, layer, self.mlp_size, hidden, has_bias=self.has_mlp_bias)
            yield from _linear(Role.MLP_DOWN, layer, hidden, self.mlp_size, has_bias=self.has_mlp_bias)
        yield from self._norm(Role.FINAL_NORM, None)
        if not self.is_tied:
            yield Ref(Role.HEAD), (self.vocab_size, hidden)

    def _norm(self, role: Role, layer: int | None) -> Iterator[tuple[Ref, tuple[int, ...]]]:
        yield Ref(role, layer), (self.hidden_size,)
        if self.norm == "layer":
            yield Ref(role, layer, "bias"), (self.hidden_size,)

    @property
    def parameter_count(self) -> int:
        return sum(math.prod(shape) for _, shape in self.shapes())


def _linear(
    role: Role, layer: int, out_size: int, in_size: int, *, has_bias: bool
) -> Iterator[tuple[Ref, tuple[int, ...]]]:
    yield Ref(role, layer), (out_size, in_size)
    if has_bias:
        yield Ref(role, layer, "bias"), (out_size,)
