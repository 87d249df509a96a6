"""The variables of a TransformerDecoderSpec, as CTranslate2's converter names and orders them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convert.model.decoder import QKV, Ref, Role
from convert.model.families import family
from convert.writer.layout import Piece

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from convert.model.decoder import Attention, Decoder, Layer, Norm
    from convert.model.family import CTranslate2

# common_spec.Activation and attention_spec.RotaryScalingType.
ACTIVATIONS = {"relu": 0, "gelu_tanh": 1, "silu": 2, "gelu": 3}
SCALINGS = {"linear": 0, "llama3": 2}
EMBEDDINGS, PROJECTION = "decoder/embeddings/weight", "decoder/projection/weight"


@dataclass(frozen=True, slots=True)
class Number:
    """A variable without an axis."""

    name: str
    value: np.generic


@dataclass(frozen=True, slots=True)
class Tensor:
    """A variable of weights; a matrix of a linear layer or of embeddings may have 8 bits."""

    name: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]
    is_matrix: bool = False


def numbers(decoder: Decoder) -> Iterator[Number]:
    """List what says how the decoder computes."""
    attention, layer = decoder.attention, decoder.layer
    said: dict[str, object] = {
        "num_heads": np.int16(attention.head_count),
        "pre_norm": np.int8(1),
        "activation": np.int8(ACTIVATIONS[layer.dense.activation if layer.dense else "silu"]),
        "alignment_layer": np.int16(-1),
        "alignment_heads": np.int16(1),
        "scale_embeddings": np.int8(decoder.embedding_scale is not None),
        "alibi": np.int8(0),
        "alibi_use_positive_positions": np.int8(0),
        "scale_alibi": np.int8(0),
        "start_from_zero_embedding": np.int8(0),
    }
    if decoder.embedding_scale is not None:
        said["embeddings/multiply_by_sqrt_depth"] = np.float32(decoder.embedding_scale)
    if attention.window:
        said["sliding_window"] = np.int32(attention.window)
    yield from (Number(f"decoder/{name}", value) for name, value in said.items())  # type: ignore[arg-type]
    yield from _uses_residual(decoder.final_norm, "decoder/layer_norm")
    facts = family(decoder.family).ctranslate2
    if facts is None:
        raise ValueError(f"CTranslate2 knows no {decoder.family}")
    for index in range(decoder.layer_count):
        yield from _layer_numbers(decoder, facts, f"decoder/layer_{index}")


def tensors(decoder: Decoder) -> Iterator[Tensor]:
    """List what has weights; a tied head is none of these."""
    yield _matrix(EMBEDDINGS, decoder, [Ref(Role.EMBED)])
    if decoder.has_positions:
        shape = (decoder.context_length, decoder.hidden_size)
        yield Tensor("decoder/position_encodings/encodings", shape, (Piece(Ref(Role.POSITION), *shape),))
    yield from _norm("decoder/layer_norm", decoder.final_norm, Ref(Role.FINAL_NORM), decoder.hidden_size)
    if not decoder.is_tied:
        yield _matrix(PROJECTION, decoder, [Ref(Role.HEAD)])
    for index, layer in enumerate(decoder.layers):
        yield from _layer_tensors(decoder, layer, index, f"decoder/layer_{index}")


def _layer_numbers(decoder: Decoder, facts: CTranslate2, scope: str) -> Iterator[Number]:
    attention, layer = decoder.attention, decoder.layer
    own, mlp = f"{scope}/self_attention", f"{scope}/ffn"
    for place in (f"{own}/layer_norm", f"{mlp}/layer_norm"):
        yield from _uses_residual(layer.attn_norm, place)
    said: dict[str, np.generic] = {}
    if attention.head_count != attention.kv_head_count:
        said["num_heads_kv"] = np.int32(attention.kv_head_count)
    if facts.says_head_size or attention.q_size != decoder.hidden_size:
        said["head_dim"] = np.int32(attention.head_size)
    if attention.window:
        said["sliding_window"] = np.int32(attention.window)
    yield from (
        Number(f"{own}/{name}", value)
        for name, value in {**said, **_rotary(attention, facts, decoder.context_length)}.items()
    )


def _rotary(attention: Attention, facts: CTranslate2, context_length: int) -> dict[str, np.generic]:
    if (rope := attention.rope) is None:
        return {}
    # All of a head turns: the converter writes its size for some families, and none for the others.
    found: dict[str, np.generic] = {
        "rotary_dim": np.int32(attention.head_size if facts.says_rotary_size else 0),
        "rotary_interleave": np.int8(0),
        "rotary_base": np.float32(rope.theta),
    }
    if scaling := rope.scaling:
        found["rotary_scaling_type"] = np.int8(SCALINGS[scaling.kind])
        found["rotary_scaling_factor"] = np.float32(scaling.factor)
        if scaling.kind == "llama3":
            found["rotary_low_freq_factor"] = np.float32(scaling.low_freq_factor)
            found["rotary_high_freq_factor"] = np.float32(scaling.high_freq_factor)
            # The converter leaves these and the factor out, and the runtime then scales by another.
            found["original_max_position_embeddings"] = np.int32(scaling.original_context_length)
            found["max_position_embeddings"] = np.int32(context_length)
    return found


def _uses_residual(norm: Norm | None, place: str) -> Iterator[Number]:
    """Say that a norm's weights are stored less one."""
    if norm and norm.is_offset:
        yield Number(f"{place}/layer_norm_use_residual", np.int8(1))


def _layer_tensors(decoder: Decoder, layer: Layer, index: int, scope: str) -> Iterator[Tensor]:
    own, mlp, hidden = f"{scope}/self_attention", f"{scope}/ffn", decoder.hidden_size
    attention, dense = layer.attention, layer.dense
    if attention is None or dense is None or layer.attn_norm is None or layer.mlp_norm is None:
        raise ValueError(f"layer {index} is of a kind that CTranslate2 has no variables for")
    yield from _norm(f"{own}/layer_norm", layer.attn_norm, Ref(Role.ATTN_NORM, index), hidden)
    yield from _linear(f"{own}/linear_0", decoder, index, QKV)
    yield from _linear(f"{own}/linear_1", decoder, index, (Role.ATTN_OUT,))
    if attention.qk_norm:
        for name, role in (("q_norm", Role.ATTN_Q_NORM), ("k_norm", Role.ATTN_K_NORM)):
            yield from _norm(f"{own}/{name}", attention.qk_norm, Ref(role, index), attention.head_size)
    yield from _norm(f"{mlp}/layer_norm", layer.mlp_norm, Ref(Role.MLP_NORM, index), hidden)
    first = Role.MLP_GATE if dense.has_gate else Role.MLP_UP
    yield from _linear(f"{mlp}/linear_0", decoder, index, (first,))
    yield from _linear(f"{mlp}/linear_1", decoder, index, (Role.MLP_DOWN,))
    if dense.has_gate:
        yield from _linear(f"{mlp}/linear_0_noact", decoder, index, (Role.MLP_UP,))


def _norm(place: str, norm: Norm, ref: Ref, size: int) -> Iterator[Tensor]:
    yield Tensor(f"{place}/gamma", (size,), (Piece(ref, size, 1),))
    if norm.kind == "layer":
        bias = Ref(ref.role, ref.layer, "bias")
        yield Tensor(f"{place}/beta", (size,), (Piece(bias, size, 1),))


def _linear(place: str, decoder: Decoder, index: int, roles: Iterable[Role]) -> Iterator[Tensor]:
    refs = [Ref(role, index) for role in roles]
    yield _matrix(f"{place}/weight", decoder, refs)
    shapes = dict(decoder.layers[index].shapes(index, decoder.hidden_size, None))
    biases = [bias for ref in refs if (bias := Ref(ref.role, index, "bias")) in shapes]
    if biases:
        pieces = tuple(Piece(bias, shapes[bias][0], 1) for bias in biases)
        yield Tensor(f"{place}/bias", (sum(piece.rows for piece in pieces),), pieces)


def _matrix(name: str, decoder: Decoder, refs: list[Ref]) -> Tensor:
    index = refs[0].layer
    layer = None if index is None else decoder.layers[index]
    whole = (decoder.vocab_size, decoder.hidden_size)
    shapes = dict(layer.shapes(index or 0, decoder.hidden_size, None)) if layer else {refs[0]: whole}
    pieces = tuple(Piece(ref, shapes[ref][0], shapes[ref][1]) for ref in refs)
    return Tensor(name, (sum(piece.rows for piece in pieces), pieces[0].columns), pieces, is_matrix=True)
