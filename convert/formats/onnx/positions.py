"""What attention must know of places: how long each text is, and how far queries and keys are turned."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from onnx import TensorProto

from convert.errors import Failure
from convert.formats.onnx.graph import Graph
from convert.model.decoder import Decoder, Rope, RopeScaling
from convert.model.forward.frequency import turning

# GroupQueryAttention takes heads of whole groups of this many dimensions, and turns so many pairs at a time.
HEAD_STEP, PAIR_STEP = 8, 8


@dataclass(frozen=True, slots=True)
class Positions:
    """The inputs of every attention, from seqlens_k on."""

    inputs: tuple[str, ...]
    is_turned: bool


def add_positions(graph: Graph, decoder: Decoder, mask: str, position_ids: str) -> Positions:
    """Add what the attention of all layers shares."""
    _check(decoder)
    counts = graph.node("ReduceSum", [mask, graph.integers(1)], "positions.counts", keepdims=0)
    last = graph.node("Sub", [counts, graph.integers(1)], "positions.last")
    lengths = graph.node("Cast", [last], "positions.seqlens_k", to=TensorProto.INT32)
    shape = graph.node("Shape", [mask], "positions.mask_shape")
    columns = graph.node("Gather", [shape, graph.number(1)], "positions.columns", axis=0)
    total = graph.node("Cast", [columns], "positions.total_length", to=TensorProto.INT32)
    rope = decoder.rope
    if rope is None:
        return Positions((lengths, total), is_turned=False)
    rows, cosines, sines = _tables(decoder, rope, graph.float_name)
    tables = graph.table("rope.cosines", rows, cosines), graph.table("rope.sines", rows, sines)
    inputs = lengths, total, *tables
    if rope.scaling is None or rope.scaling.kind != "longrope":
        return Positions(inputs, is_turned=True)
    return Positions((*inputs, _shifted(graph, rope.scaling, columns, position_ids)), is_turned=True)


def _check(decoder: Decoder) -> None:
    head_size = decoder.attention.head_size
    if head_size % HEAD_STEP:
        raise Failure(
            f"heads of {head_size} dimensions: onnxruntime's attention wants a multiple of {HEAD_STEP}",
            "leave onnx out of the recipe's targets",
        )
    rope = decoder.rope
    if rope is not None and rope.dimensions // 2 % PAIR_STEP:
        raise Failure(
            f"rotary positions over {rope.dimensions} dimensions: onnxruntime's attention turns "
            f"multiples of {2 * PAIR_STEP}",
            "leave onnx out of the recipe's targets",
        )


def _shifted(graph: Graph, scaling: RopeScaling, columns: str, position_ids: str) -> str:
    """Look texts beyond the first training's length up in the second part of the tables."""
    length = graph.number(scaling.original_context_length)
    is_long = graph.node("Greater", [columns, length], "positions.is_long")
    shift = graph.node("Where", [is_long, length, graph.number(0)], "positions.shift")
    return graph.node("Add", [position_ids, shift], "positions.shifted")


@lru_cache(maxsize=2)
def _tables(decoder: Decoder, rope: Rope, float_name: str) -> tuple[int, bytes, bytes]:
    """Tabulate cosines and sines, positions below one another; with longrope for short texts, then long ones.

    Kept, since they take the same megabytes in every artifact of a model.
    """
    lengths = [decoder.context_length]
    if rope.scaling is not None and rope.scaling.kind == "longrope":
        lengths = sorted({min(rope.scaling.original_context_length, *lengths), *lengths})
    parts = [turning(decoder, rope, length) for length in lengths]
    dtype = {"F32": np.float32, "F16": np.float16}[float_name]
    return (
        sum(lengths),
        b"".join(part.cosines.astype(dtype).tobytes() for part in parts),
        b"".join(part.sines.astype(dtype).tobytes() for part in parts),
    )
