"""Places where each channel can be divided by a number in one tensor, and multiplied by it in the next.

The model computes the same, whatever the numbers are. What comes before is a norm, or a matrix whose rows
reach the next one as they are, or multiplied by something that another matrix gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convert.model.decoder import Attention, Dense, Experts, Layer, Norm
from convert.model.feature import Feature
from convert.model.tensor import Ref, Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from convert.model.decoder import Decoder

    Shapes = Mapping[Ref, tuple[int, ...]]

# Matrices that read what the norm before a mixer gives, and that before an MLP.
OF_MIXERS = frozenset({
    Role.ATTN_Q, Role.ATTN_K, Role.ATTN_V, Role.LATENT_Q_DOWN, Role.LATENT_KV_DOWN, Role.DELTA_Q,
    Role.DELTA_K, Role.DELTA_V, Role.DELTA_GATE, Role.DELTA_BETA, Role.DELTA_ALPHA, Role.STATE_IN,
    Role.CONV_IN,
})  # fmt: skip
OF_MLPS = frozenset({
    Role.MLP_GATE, Role.MLP_UP, Role.ROUTER, Role.EXPERT_GATE, Role.EXPERT_UP, Role.SHARED_ROUTER,
    Role.SHARED_GATE, Role.SHARED_UP,
})  # fmt: skip
# What is multiplied by an activated gate, and what reads the product.
GATED = {
    Role.MLP_UP: Role.MLP_DOWN,
    Role.EXPERT_UP: Role.EXPERT_DOWN,
    Role.SHARED_UP: Role.SHARED_DOWN,
}
# Where something else reads what a norm gives.
REFUSED = frozenset({Feature.LATENT_EXPERTS, Feature.DENSE_AND_EXPERTS, Feature.LAYER_INPUTS})


@dataclass(frozen=True)
class Fold:
    """Channels that tensors write, one a row, and matrices read, one a column."""

    before: tuple[Ref, ...]
    after: tuple[Ref, ...]
    count: int
    # Heads that read the same channels, so many next to each other, each of so many columns.
    shared: int = 1
    head_size: int = 1

    def columns(self, scales: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give each column of what comes after its channel's number."""
        return np.repeat(scales.reshape(-1, self.head_size), self.shared, axis=0).ravel()

    def channels(self, columns: NDArray[np.float32]) -> NDArray[np.float32]:
        """Add up over the columns that read the same channel."""
        heads: NDArray[np.float32] = columns.reshape(-1, self.shared, self.head_size).sum(axis=1).ravel()
        return heads


def folds(decoder: Decoder) -> Iterator[Fold]:
    """List the places of a model."""
    for index, layer in enumerate(decoder.layers):
        shapes = dict(layer.shapes(index, decoder.hidden_size, None))
        yield from filter(lambda fold: fold.after, _of_layer(decoder, layer, index, shapes))


def _of_layer(decoder: Decoder, layer: Layer, index: int, shapes: Shapes) -> Iterator[Fold]:
    is_shared = layer.is_parallel and layer.mlp_norm is None  # the MLP reads what the mixer does
    for role, norm, readers in (
        (Role.ATTN_NORM, layer.attn_norm, OF_MIXERS | (OF_MLPS if is_shared else frozenset())),
        (Role.MLP_NORM, layer.mlp_norm, OF_MLPS),
    ):
        if _has_weight(norm):
            after = tuple(ref for ref in shapes if ref.role in readers and ref.part == "weight")
            yield Fold(_with_bias(Ref(role, index), shapes), after, decoder.hidden_size)
    mixer = layer.mixer
    value = Ref(Role.ATTN_V, index)
    if isinstance(mixer, Attention) and value in shapes and mixer.v_norm is None and mixer.clip is None:
        shared = mixer.head_count // mixer.kv_head_count
        out = (Ref(Role.ATTN_OUT, index),)
        yield Fold(_with_bias(value, shapes), out, mixer.kv_size, shared, mixer.head_size)
    if _is_gated(layer.mlp):
        for up in [ref for ref in shapes if ref.role in GATED and ref.part == "weight"]:
            down = Ref(GATED[up.role], index, expert=up.expert)
            yield Fold(_with_bias(up, shapes), (down,), shapes[up][0])


def _has_weight(norm: Norm | None) -> bool:
    return norm is not None and norm.has_weight


def _is_gated(mlp: object) -> bool:
    """Check whether rows of `up` meet nothing but an activated gate."""
    return isinstance(mlp, Dense | Experts) and mlp.has_gate and mlp.activation != "swiglu_clamped"


def _with_bias(ref: Ref, shapes: Iterable[Ref]) -> tuple[Ref, ...]:
    bias = Ref(ref.role, ref.layer, "bias", ref.expert)
    return (ref, bias) if bias in shapes else (ref,)
