"""The graph of a decoder: a small function for each of its parts, led by the decoder's data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper

from convert.formats.onnx.graph import CONTRIB, Graph, Matrix
from convert.formats.onnx.positions import Positions, add_positions
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
from convert.model.decoder import QKV, Activation, Decoder, Dense, Ref, Role
from convert.model.feature import Feature

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

    from convert.writer.layout import Layout

    End = tuple[str, int, tuple[str | int, ...]]  # an input or output: its name, type and shape

INPUT_IDS, ATTENTION_MASK, POSITION_IDS, LOGITS = "input_ids", "attention_mask", "position_ids", "logits"
PAST, PRESENT = "past_key_values.{layer}.{part}", "present.{layer}.{part}"


def build(decoder: Decoder, storage: Storage, version: str) -> tuple[ModelProto, Layout]:
    """Build the model and plan the file of its weights."""
    graph = Graph(storage.float_name)
    network = Network(graph, decoder, storage, dict(decoder.shapes()))
    positions = add_positions(graph, decoder, ATTENTION_MASK, POSITION_IDS)
    table, hidden = _embed(network)
    # What the last part computed is added to the hidden states by the norm of the next.
    change = _embed_positions(network) if decoder.has_positions else None
    for layer in range(decoder.layer_count):
        rows, hidden = _norm(network, Ref(Role.ATTN_NORM, layer), hidden, change)
        change = _attention(network, layer, rows, positions)
        rows, hidden = _norm(network, Ref(Role.MLP_NORM, layer), hidden, change)
        change = _mlp(network, layer, rows)
    rows, _ = _norm(network, Ref(Role.FINAL_NORM), hidden, change)
    _head(network, rows, table)
    return graph.model(*_ends(network), version), graph.layout()


def needs_position_ids(decoder: Decoder) -> bool:
    """Check whether the graph takes positions as an input; rotary ones follow from the mask."""
    return bool(decoder.features & {Feature.LEARNED_POSITIONS, Feature.ROPE_LONGROPE})


def _ends(network: Network) -> tuple[list[ValueInfoProto], list[ValueInfoProto]]:
    """Name the inputs and outputs as onnxruntime-genai fills and reads them."""
    decoder, float_type = network.decoder, network.graph.float_type
    tokens = "batch_size", "sequence_length"
    inputs: list[End] = [(INPUT_IDS, TensorProto.INT64, tokens)]
    inputs.append((ATTENTION_MASK, TensorProto.INT64, ("batch_size", "total_sequence_length")))
    if needs_position_ids(decoder):
        inputs.append((POSITION_IDS, TensorProto.INT64, tokens))
    outputs: list[End] = [(LOGITS, float_type, (*tokens, decoder.vocab_size))]
    for index, attention in enumerate(decoder.attentions):
        for part in ("key", "value"):
            heads = "batch_size", attention.kv_head_count
            past = (*heads, "past_sequence_length", attention.head_size)
            present = (*heads, "total_sequence_length", attention.head_size)
            inputs.append((PAST.format(layer=index, part=part), float_type, past))
            outputs.append((PRESENT.format(layer=index, part=part), float_type, present))
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
    return table, hidden


def _embed_positions(network: Network) -> str:
    """Look learned positions up."""
    table = matrix(network, (Ref(Role.POSITION),), network.storage.vector, "position")
    return rows_of(network, table, POSITION_IDS, "position")


def _norm(network: Network, ref: Ref, hidden: str, change: str | None) -> tuple[str, str]:
    """Add what the last part computed, and normalize; give the normalized rows and the sum."""
    graph, norm = network.graph, network.norm(ref)
    name = name_of(ref)
    is_rms = norm.kind == "rms"
    weights = [vector(network, ref)]
    if not is_rms:
        weights.append(vector(network, Ref(ref.role, ref.layer, "bias")))
    epsilon = norm.eps
    if change is None:
        op = "RMSNormalization" if is_rms else "LayerNormalization"
        return graph.node(op, [hidden, *weights], name, axis=-1, epsilon=epsilon), hidden
    op = "SkipSimplifiedLayerNormalization" if is_rms else "SkipLayerNormalization"
    total = "" if ref.role is Role.FINAL_NORM else f"{name}.sum"
    outputs = [name, "", "", total] if total else [name]
    graph.nodes_out(op, [hidden, change, *weights], outputs, domain=CONTRIB, epsilon=epsilon)
    return name, total


def _attention(network: Network, layer: int, rows: str, positions: Positions) -> str:
    """Attend to what came before, turning queries and keys inside the one operator that does it all."""
    graph, mixer = network.graph, network.decoder.attentions[layer]
    name = f"layers.{layer}.attn"
    past = [PAST.format(layer=layer, part=part) for part in ("key", "value")]
    present = [PRESENT.format(layer=layer, part=part) for part in ("key", "value")]
    attributes: dict[str, int] = {}
    if positions.is_turned:
        attributes["do_rotary"] = 1
    if mixer.window is not None and mixer.window < network.decoder.context_length:
        attributes["local_window_size"] = mixer.window
    graph.nodes_out(
        "GroupQueryAttention",
        [*_queries_keys_values(network, layer, rows), *past, *positions.inputs],
        [name, *present],
        domain=CONTRIB,
        num_heads=mixer.head_count,
        kv_num_heads=mixer.kv_head_count,
        **attributes,
    )
    return linear(network, name, (Ref(Role.ATTN_OUT, layer),), f"{name}.out")


def _queries_keys_values(network: Network, layer: int, rows: str) -> tuple[str, str, str]:
    """Multiply by all three at once; they part where heads are normalized one by one."""
    graph, mixer = network.graph, network.decoder.attentions[layer]
    name = f"layers.{layer}.attn"
    refs = tuple(Ref(role, layer) for role in QKV)
    joined = linear(network, rows, refs, f"{name}.qkv")
    if not mixer.qk_norm:
        return joined, "", ""
    query, key, value = (f"{name}.{letter}" for letter in "qkv")
    sizes = graph.integers(mixer.q_size, mixer.kv_size, mixer.kv_size)
    graph.nodes_out("Split", [joined, sizes], [query, key, value], axis=-1)
    query = _norm_heads(network, Ref(Role.ATTN_Q_NORM, layer), query, mixer.head_count)
    key = _norm_heads(network, Ref(Role.ATTN_K_NORM, layer), key, mixer.kv_head_count)
    return query, key, value


def _norm_heads(network: Network, ref: Ref, rows: str, head_count: int) -> str:
    """Normalize each head by itself."""
    graph, norm = network.graph, network.norm(ref)
    name, size = name_of(ref), network.shapes[ref][0]
    heads = graph.node("Reshape", [rows, graph.integers(0, 0, head_count, size)], f"{name}.heads")
    normed = graph.node("RMSNormalization", [heads, vector(network, ref)], name, axis=-1, epsilon=norm.eps)
    return graph.node("Reshape", [normed, graph.integers(0, 0, head_count * size)], f"{name}.rows")


def _mlp(network: Network, layer: int, rows: str) -> str:
    """Go through the wide inner layer, with or without a gate."""
    graph, name, mlp = network.graph, f"layers.{layer}.mlp", network.decoder.layers[layer].mlp
    if not isinstance(mlp, Dense):
        raise TypeError("an MLP of another kind is refused where a conversion is planned")
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
        case "relu2":
            positive = graph.node("Relu", [rows], f"{name}.relu")
            return graph.node("Mul", [positive, positive], f"{name}.act")
        case _:
            raise TypeError("another activation is refused where a conversion is planned")


def _head(network: Network, rows: str, table: Matrix) -> str:
    """Score every next token; a tied head shares the embedding's bytes where both are stored alike."""
    decoder, codec = network.decoder, network.storage.head
    if decoder.is_tied and codec == network.storage.embedding:
        return multiply(network, rows, table, None, LOGITS)
    ref = Ref(Role.EMBED if decoder.is_tied else Role.HEAD)
    return multiply(network, rows, matrix(network, (ref,), codec, "head"), None, LOGITS)
