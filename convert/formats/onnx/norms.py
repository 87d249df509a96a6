"""Norms in the graph: of hidden states, with what is added to them first, and of heads."""

from dataclasses import replace

import numpy as np
from onnx import helper

from convert.formats.onnx.graph import CONTRIB, Graph
from convert.formats.onnx.weights import Network, name_of, vector
from convert.model.decoder import Norm, Ref, Role
from convert.writer.layout import Piece


def add(graph: Graph, hidden: str, change: str | None, name: str) -> str:
    """Add what the last part computed, where no norm does so on its way."""
    return hidden if change is None else graph.node("Add", [hidden, change], f"{name}.sum")


def normalize(network: Network, ref: Ref, hidden: str, change: str | None) -> tuple[str, str]:
    """Add what the last part computed, and normalize; give the normalized rows and the sum."""
    graph, norm = network.graph, network.norm(ref)
    name = name_of(ref)
    weights = _weights(network, norm, ref, network.decoder.hidden_size)
    if change is None:
        return _normed(graph, norm, [hidden, *weights], name), hidden
    op = "SkipSimplifiedLayerNormalization" if norm.kind == "rms" else "SkipLayerNormalization"
    total = "" if ref.role is Role.FINAL_NORM else f"{name}.sum"
    outputs = [name, "", "", total] if total else [name]
    graph.nodes_out(op, [hidden, change, *weights], outputs, domain=CONTRIB, epsilon=norm.eps)
    return name, total


def normalize_heads(network: Network, ref: Ref, rows: str, head_count: int, size: int) -> str:
    """Normalize each head by itself, all by the same weights."""
    graph, norm, name = network.graph, network.norm(ref), name_of(ref)
    heads = graph.node("Reshape", [rows, graph.integers(0, 0, head_count, size)], f"{name}.heads")
    weights = _weights(network, norm, ref, size)
    normed = _normed(graph, norm, [heads, *weights], name)
    return graph.node("Reshape", [normed, graph.integers(0, 0, head_count * size)], f"{name}.rows")


def normalize_row(network: Network, ref: Ref, rows: str) -> str:
    """Normalize all heads as one row."""
    norm = network.norm(ref)
    weights = _weights(network, norm, ref, network.shapes[ref][0])
    return _normed(network.graph, norm, [rows, *weights], name_of(ref))


def normalize_each(network: Network, ref: Ref, rows: str, head_count: int) -> str:
    """Normalize each head by itself and by its own weights."""
    graph, norm, name = network.graph, network.norm(ref), name_of(ref)
    refs = [replace(ref, expert=head) for head in range(head_count)]
    size = network.shapes[refs[0]][0]
    heads = graph.node("Reshape", [rows, graph.integers(0, 0, head_count, size)], f"{name}.heads")
    normed = _normed(graph, norm, [heads, ones(graph, size)], f"{name}.plain")
    pieces = [Piece(each, size, 1) for each in refs]
    weight = graph.vectors(f"{name}.weight", pieces, network.storage.vector, (head_count, size))
    weighed = graph.node("Mul", [normed, weight], name)
    return graph.node("Reshape", [weighed, graph.integers(0, 0, head_count * size)], f"{name}.rows")


def _normed(graph: Graph, norm: Norm, inputs: list[str], name: str) -> str:
    op = "RMSNormalization" if norm.kind == "rms" else "LayerNormalization"
    return graph.node(op, inputs, name, axis=-1, epsilon=norm.eps)


def ones(graph: Graph, size: int) -> str:
    """Keep weights that change nothing."""
    dtype = helper.tensor_dtype_to_np_dtype(graph.float_type)
    return graph.constant(np.ones(size, dtype), f"ones.{size}")


def _weights(network: Network, norm: Norm, ref: Ref, size: int) -> list[str]:
    if not norm.has_weight:
        return [ones(network.graph, size)]
    found = [vector(network, ref)]
    if norm.kind == "layer" and norm.has_bias:
        found.append(vector(network, Ref(ref.role, ref.layer, "bias")))
    return found
