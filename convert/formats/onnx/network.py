"""The graph of a decoder: a small function for each of its parts, led by the decoder's data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

from convert.formats.onnx.attention import PAST, PRESENT, add_attention, cached_heads
from convert.formats.onnx.experts import add_experts
from convert.formats.onnx.graph import CONTRIB, Graph, Matrix
from convert.formats.onnx.norms import add, normalize
from convert.formats.onnx.positions import Positions, add_positions
from convert.formats.onnx.recurrent import (
    STATE_IN,
    STATE_OUT,
    add_delta,
    add_short_convolution,
    add_state_space,
    states,
)
from convert.formats.onnx.weights import (
    Network,
    Storage,
    linear,
    matrix,
    multiply,
    name_of,
    rows_of,
    vector,
)
from convert.model.decoder import (
    Activation,
    Attention,
    Decoder,
    Delta,
    Dense,
    Experts,
    Latent,
    Mixer,
    Mlp,
    Norm,
    Parallel,
    Ref,
    Role,
    ShortConvolution,
    StateSpace,
)
from convert.model.feature import Feature
from convert.writer.layout import Piece

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

    from convert.writer.layout import Layout

    End = tuple[str, int, tuple[str | int, ...]]  # an input or output: its name, type and shape

INPUT_IDS, ATTENTION_MASK, POSITION_IDS, LOGITS = "input_ids", "attention_mask", "position_ids", "logits"


def build(decoder: Decoder, storage: Storage, version: str) -> tuple[ModelProto, Layout]:
    """Build the model and plan the file of its weights."""
    graph = Graph(storage.float_name)
    network = Network(graph, decoder, storage, dict(decoder.shapes()))
    positions = add_positions(graph, decoder, ATTENTION_MASK, POSITION_IDS)
    table, hidden = _embed(network)
    # What the last part computed is added to the hidden states by the norm of the next.
    change = _embed_positions(network) if decoder.has_positions else None
    inputs = _layer_inputs(network, hidden)
    for layer in range(decoder.layer_count):
        hidden, change = _layer(network, layer, hidden, change, positions)
        if inputs is not None:
            hidden, change = _own_input(
                network, layer, add(graph, hidden, change, f"layers.{layer}.end"), inputs
            )
        hidden, change = _scaled(network, layer, hidden, change)
    rows, _ = normalize(network, Ref(Role.FINAL_NORM), hidden, change)
    _head(network, rows, table)
    return graph.model(*_ends(network), version), graph.layout()


def _layer(
    network: Network, layer: int, hidden: str, change: str | None, positions: Positions
) -> tuple[str, str | None]:
    """Add a layer; what its last part computed is added to the hidden states by the norm of the next."""
    graph, kind = network.graph, network.decoder.layers[layer]
    rows, hidden = _read(network, Ref(Role.ATTN_NORM, layer), kind.attn_norm, hidden, change)
    change = None
    if kind.mixer is not None:
        change = _mixer(network, layer, rows, kind.mixer, positions)
        change = _finished(network, Ref(Role.ATTN_POST_NORM, layer), kind.attn_post_norm, change)
    if kind.mlp is None:
        return hidden, change
    if kind.is_parallel:
        if kind.mlp_norm is not None:
            rows, _ = normalize(network, Ref(Role.MLP_NORM, layer), hidden, None)
    else:
        rows, hidden = _read(network, Ref(Role.MLP_NORM, layer), kind.mlp_norm, hidden, change)
    result = _mlp(network, layer, rows, kind.mlp)
    result = _finished(network, Ref(Role.MLP_POST_NORM, layer), kind.mlp_post_norm, result)
    if kind.is_parallel and change is not None:
        result = graph.node("Add", [change, result], f"layers.{layer}.both")
    return hidden, result


def _scaled(network: Network, layer: int, hidden: str, change: str | None) -> tuple[str, str | None]:
    """Scale what leaves a layer, where the model does."""
    if not network.decoder.layers[layer].has_scale:
        return hidden, change
    total = add(network.graph, hidden, change, f"layers.{layer}.whole")
    scale = vector(network, Ref(Role.LAYER_SCALE, layer))
    return network.graph.node("Mul", [total, scale], f"layers.{layer}.scaled"), None


def _layer_inputs(network: Network, hidden: str) -> str | None:
    """Look up what each layer gets for itself, (batch, positions, layers, size)."""
    graph, inputs, count = network.graph, network.decoder.layer_inputs, network.decoder.layer_count
    if inputs is None:
        return None
    shape = graph.integers(0, 0, count, inputs.size)
    table = matrix(network, (Ref(Role.LAYER_EMBED),), network.storage.embedding, "own")
    known = graph.node(
        "Mul", [rows_of(network, table, INPUT_IDS, "own"), graph.real(inputs.scale)], "own.known"
    )
    made = linear(network, hidden, (Ref(Role.LAYER_EMBED_PROJECTION),), "own.made")
    made = graph.node("Mul", [made, graph.real(inputs.projection_scale)], "own.scaled")
    apart = graph.node("Reshape", [made, shape], "own.apart")
    normed, _ = normalize(network, Ref(Role.LAYER_EMBED_NORM), apart, None)
    total = graph.node("Add", [graph.node("Reshape", [known, shape], "own.heads"), normed], "own.total")
    return graph.node("Mul", [total, graph.real(inputs.sum_scale)], "own.inputs")


def _own_input(network: Network, layer: int, hidden: str, inputs: str) -> tuple[str, str]:
    """Add what a layer makes of the embeddings that are for it alone."""
    graph, name, mlp = network.graph, f"layers.{layer}.own", network.decoder.layers[layer].mlp
    mine = graph.node("Gather", [inputs, graph.number(layer)], f"{name}.input", axis=2)
    gate = linear(network, hidden, (Ref(Role.LAYER_INPUT_GATE, layer),), f"{name}.gate")
    activation = mlp.activation if isinstance(mlp, Dense) else "gelu_tanh"
    active = graph.node("Mul", [_activated(graph, activation, gate, name), mine], f"{name}.active")
    made = linear(network, active, (Ref(Role.LAYER_INPUT_PROJECTION, layer),), f"{name}.made")
    normed, _ = normalize(network, Ref(Role.LAYER_INPUT_NORM, layer), made, None)
    return hidden, normed


def _read(network: Network, ref: Ref, norm: Norm | None, hidden: str, change: str | None) -> tuple[str, str]:
    """Give what a part reads, and the hidden states with all before it added."""
    if norm is not None:
        return normalize(network, ref, hidden, change)
    hidden = add(network.graph, hidden, change, name_of(ref))
    return hidden, hidden


def _finished(network: Network, ref: Ref, norm: Norm | None, rows: str) -> str:
    """Normalize and scale what a part computed, before it is added."""
    scale = network.decoder.layers[ref.layer or 0].residual_scale
    if norm is not None:
        rows, _ = normalize(network, ref, rows, None)
    if scale == 1:
        return rows
    return network.graph.node("Mul", [rows, network.graph.real(scale)], f"{name_of(ref)}.scaled")


def _mixer(network: Network, layer: int, rows: str, mixer: Mixer, positions: Positions) -> str:
    if isinstance(mixer, Attention | Latent):
        return add_attention(network, layer, rows, mixer, positions)
    if isinstance(mixer, Delta):
        return add_delta(network, layer, rows, mixer)
    if isinstance(mixer, StateSpace):
        return add_state_space(network, layer, rows, mixer)
    if isinstance(mixer, Parallel):
        attended = add_attention(network, layer, rows, mixer.attention, positions)
        kept = add_state_space(network, layer, rows, mixer.state)
        return network.graph.node("Add", [attended, kept], f"layers.{layer}.mixed")
    if isinstance(mixer, ShortConvolution):
        return add_short_convolution(network, layer, rows)
    raise TypeError("another mixer is refused where a conversion is planned")


def needs_position_ids(decoder: Decoder) -> bool:
    """Check whether the graph takes positions as an input; rotary ones follow from the mask."""
    asking = {
        Feature.LEARNED_POSITIONS, Feature.ROPE_LONGROPE, Feature.LATE_QK_NORM, Feature.QUERY_TEMPERATURE,
    }  # fmt: skip
    return bool(decoder.features & asking)


def _ends(network: Network) -> tuple[list[ValueInfoProto], list[ValueInfoProto]]:
    """Name the inputs and outputs as onnxruntime-genai fills and reads them."""
    decoder, float_type = network.decoder, network.graph.float_type
    tokens = "batch_size", "sequence_length"
    inputs: list[End] = [(INPUT_IDS, TensorProto.INT64, tokens)]
    inputs.append((ATTENTION_MASK, TensorProto.INT64, ("batch_size", "total_sequence_length")))
    if needs_position_ids(decoder):
        inputs.append((POSITION_IDS, TensorProto.INT64, tokens))
    outputs: list[End] = [(LOGITS, float_type, (*tokens, decoder.vocab_size))]
    for index, layer in enumerate(decoder.layers):
        if cached := cached_heads(layer.mixer):
            for part in ("key", "value"):
                heads = "batch_size", cached[0]
                past = (*heads, "past_sequence_length", cached[1])
                present = (*heads, "total_sequence_length", cached[1])
                inputs.append((PAST.format(layer=index, part=part), float_type, past))
                outputs.append((PRESENT.format(layer=index, part=part), float_type, present))
        for part, shape in states(layer.mixer, decoder.hidden_size):
            inputs.append((STATE_IN.format(layer=index, part=part), float_type, ("batch_size", *shape)))
            outputs.append((STATE_OUT.format(layer=index, part=part), float_type, ("batch_size", *shape)))
    return (
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
    )


def _embed(network: Network) -> tuple[Matrix, str]:
    """Look tokens up."""
    graph, decoder = network.graph, network.decoder
    table = matrix(network, (Ref(Role.EMBED),), network.storage.embedding, "embed")
    hidden = rows_of(network, table, INPUT_IDS, "embed")
    if decoder.embedding_scale is not None:
        scale = np.array(decoder.embedding_scale, helper.tensor_dtype_to_np_dtype(graph.float_type))
        hidden = graph.node("Mul", [hidden, graph.constant(scale, "embed.scale")], "embed.scaled")
    if decoder.embed_norm is not None:
        hidden, _ = normalize(network, Ref(Role.EMBED_NORM), hidden, None)
    return table, hidden


def _embed_positions(network: Network) -> str:
    """Look learned positions up."""
    decoder = network.decoder
    piece = Piece(
        Ref(Role.POSITION), decoder.context_length, decoder.hidden_size, first_row=decoder.position_offset
    )
    table = network.graph.matrix("position.weight", [piece], network.storage.vector)
    return rows_of(network, table, POSITION_IDS, "position")


def _mlp(network: Network, layer: int, rows: str, mlp: Mlp) -> str:
    """Go through the wide inner layer, with or without a gate."""
    graph, name = network.graph, f"layers.{layer}.mlp"
    if isinstance(mlp, Experts):
        return add_experts(network, layer, rows, mlp)
    if not isinstance(mlp, Dense):
        raise TypeError("an MLP with experts at its side is refused where a conversion is planned")
    inner = linear(network, rows, (Ref(Role.MLP_UP, layer),), f"{name}.up")
    if mlp.has_gate:
        gate = linear(network, rows, (Ref(Role.MLP_GATE, layer),), f"{name}.gate")
        inner = graph.node("Mul", [_activated(graph, mlp.activation, gate, name), inner], f"{name}.inner")
    else:
        inner = _activated(graph, mlp.activation, inner, name)
    return linear(network, inner, (Ref(Role.MLP_DOWN, layer),), f"{name}.down")


def _activated(graph: Graph, activation: Activation, rows: str, name: str) -> str:
    match activation:
        case "silu":  # which is what QuickGelu is at alpha 1
            return graph.node("QuickGelu", [rows], f"{name}.act", domain=CONTRIB, alpha=1.0)
        case "gelu_tanh":
            return graph.node("Gelu", [rows], f"{name}.act", approximate="tanh")
        case "gelu":
            return graph.node("Gelu", [rows], f"{name}.act")
        case "relu":
            return graph.node("Relu", [rows], f"{name}.act")
        case "relu2":
            positive = graph.node("Relu", [rows], f"{name}.relu")
            return graph.node("Mul", [positive, positive], f"{name}.act")
        case _:
            raise TypeError("another activation is refused where a conversion is planned")


def _head(network: Network, rows: str, table: Matrix) -> None:
    """Score every next token; a tied head shares the embedding's bytes where both are stored alike."""
    graph, decoder, codec = network.graph, network.decoder, network.storage.head
    is_last = decoder.logit_scale is None and decoder.logit_softcap is None
    first = LOGITS if is_last else f"{LOGITS}.plain"
    bias = vector(network, Ref(Role.HEAD, part="bias")) if decoder.has_head_bias else None
    if decoder.is_tied and codec == network.storage.embedding:
        scores = multiply(network, rows, table, bias, first)
    else:
        ref = Ref(Role.EMBED if decoder.is_tied else Role.HEAD)
        scores = multiply(network, rows, matrix(network, (ref,), codec, "head"), bias, first)
    if decoder.logit_scale is not None:
        last = LOGITS if decoder.logit_softcap is None else f"{LOGITS}.scaled"
        scores = graph.node("Mul", [scores, graph.real(decoder.logit_scale)], last)
    if decoder.logit_softcap is not None:
        cap = graph.real(decoder.logit_softcap)
        inner = graph.node("Tanh", [graph.node("Div", [scores, cap], f"{LOGITS}.over_cap")], f"{LOGITS}.tanh")
        graph.node("Mul", [inner, cap], LOGITS)
