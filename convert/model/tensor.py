"""The roles that a model's tensors play, and the places of these tensors in a source."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal, TypeAlias


class Role(StrEnum):
    """The job of a tensor, whatever its checkpoint calls it."""

    EMBED = "embed"
    EMBED_NORM = "embed_norm"
    POSITION = "position"
    # Embeddings that each layer gets for itself.
    LAYER_EMBED = "layer_embed"
    LAYER_EMBED_PROJECTION = "layer_embed_projection"
    LAYER_EMBED_NORM = "layer_embed_norm"
    ATTN_NORM = "attn_norm"
    ATTN_Q = "attn_q"
    ATTN_K = "attn_k"
    ATTN_V = "attn_v"
    ATTN_Q_NORM = "attn_q_norm"
    ATTN_K_NORM = "attn_k_norm"
    ATTN_SINKS = "attn_sinks"
    ATTN_OUT = "attn_out"
    # Latent attention: queries, keys and values go through a narrow row.
    LATENT_Q_DOWN = "latent_q_down"
    LATENT_Q_NORM = "latent_q_norm"
    LATENT_Q_UP = "latent_q_up"
    LATENT_KV_DOWN = "latent_kv_down"
    LATENT_KV_NORM = "latent_kv_norm"
    LATENT_KV_UP = "latent_kv_up"
    # Its parts by head, where something is said of each: they are no tensors of a checkpoint.
    LATENT_K_UP = "latent_k_up"
    LATENT_V_UP = "latent_v_up"
    # Linear attention by the gated delta rule.
    DELTA_Q = "delta_q"
    DELTA_K = "delta_k"
    DELTA_V = "delta_v"
    DELTA_GATE = "delta_gate"
    DELTA_BETA = "delta_beta"
    DELTA_ALPHA = "delta_alpha"
    DELTA_CONV = "delta_conv"
    DELTA_TIME = "delta_time"
    DELTA_DECAY = "delta_decay"
    DELTA_NORM = "delta_norm"
    DELTA_OUT = "delta_out"
    # State spaces (Mamba 2).
    STATE_IN = "state_in"
    STATE_CONV = "state_conv"
    STATE_TIME = "state_time"
    STATE_DECAY = "state_decay"
    STATE_SKIP = "state_skip"
    STATE_NORM = "state_norm"
    STATE_OUT = "state_out"
    # Short convolutions between two gates.
    CONV_IN = "conv_in"
    CONV = "conv"
    CONV_OUT = "conv_out"
    ATTN_POST_NORM = "attn_post_norm"
    MLP_NORM = "mlp_norm"
    MLP_GATE = "mlp_gate"
    MLP_UP = "mlp_up"
    MLP_DOWN = "mlp_down"
    ROUTER = "router"
    ROUTER_SELECTION = (
        "router_selection"  # added to scores where experts are chosen, not where they are weighed
    )
    EXPERT_NARROW = "expert_narrow"  # into a row that experts read and write, and out of it
    EXPERT_WIDE = "expert_wide"
    ROUTER_NORM = "router_norm"
    EXPERT_SHARES = "expert_shares"  # a factor for each expert's share
    EXPERT_GATE = "expert_gate"
    EXPERT_UP = "expert_up"
    EXPERT_DOWN = "expert_down"
    SHARED_ROUTER = "shared_router"
    SHARED_GATE = "shared_gate"
    SHARED_UP = "shared_up"
    SHARED_DOWN = "shared_down"
    # Where a dense MLP and experts go side by side.
    DENSE_POST_NORM = "dense_post_norm"
    EXPERTS_NORM = "experts_norm"
    EXPERTS_POST_NORM = "experts_post_norm"
    MLP_POST_NORM = "mlp_post_norm"
    LAYER_INPUT_GATE = "layer_input_gate"
    LAYER_INPUT_PROJECTION = "layer_input_projection"
    LAYER_INPUT_NORM = "layer_input_norm"
    LAYER_SCALE = "layer_scale"
    # Of a layer that guesses a further token, from hidden states and the embedding of the token before it.
    NEXT_EMBED_NORM = "next_embed_norm"
    NEXT_HIDDEN_NORM = "next_hidden_norm"
    NEXT_PROJECTION = "next_projection"
    NEXT_NORM = "next_norm"
    NEXT_EMBED = "next_embed"
    NEXT_HEAD = "next_head"
    PROJECTOR = "projector"  # a tensor of a part that is no text decoder; its place says which
    FINAL_NORM = "final_norm"
    HEAD = "head"


QKV = (Role.ATTN_Q, Role.ATTN_K, Role.ATTN_V)
Part = Literal["weight", "bias"]


@dataclass(frozen=True, slots=True)
class Ref:
    """One canonical tensor: a role, in a layer or outside of all, weight or bias, of one expert or head."""

    role: Role
    layer: int | None = None
    part: Part = "weight"
    expert: int | None = None  # or the head, of a norm that has weights for each

    def __str__(self) -> str:
        where = "" if self.layer is None else f"{self.layer}."
        which = "" if self.expert is None else f"{self.expert}."
        return f"{where}{self.role}.{which}{self.part}"


@dataclass(frozen=True, slots=True)
class Origin:
    """The place of a canonical tensor in the source: some rows of a tensor, or of one in a stack of them.

    Rows come one after the other, or in runs of `run_rows` that begin every `period_rows`, where the source
    deals out several roles by turns.
    """

    name: str
    first_row: int = 0
    is_transposed: bool = False
    index: int | None = None  # in the stack, along the source's first axis
    run_rows: int = 0
    period_rows: int = 0

    def row(self, row: int) -> int:
        """Find a row of the canonical tensor in the source."""
        if not self.run_rows:
            return self.first_row + row
        runs, rest = divmod(row, self.run_rows)
        return self.first_row + runs * self.period_rows + rest


Shaped: TypeAlias = Iterator[tuple[Ref, tuple[int, ...]]]


def linear(ref: Ref, out_size: int, in_size: int, *, has_bias: bool = False) -> Shaped:
    """List a matrix of (out, in), and its bias where it has one."""
    yield ref, (out_size, in_size)
    if has_bias:
        yield replace(ref, part="bias"), (out_size,)
