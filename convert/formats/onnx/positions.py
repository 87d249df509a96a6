"""What attention must know of places: how long each text is, and how far queries and keys are turned."""

from collections.abc import Iterator, Sized
from dataclasses import dataclass, field
from functools import lru_cache, partial

import numpy as np
from onnx import TensorProto

from convert.formats.onnx.graph import CONTRIB, Graph
from convert.model.decoder import Attention, Decoder, Latent, Rope, RopeScaling, Temperature
from convert.model.forward.frequency import frequencies_of, turning
from convert.writer.codecs.plain import WIDTH_BYTES
from convert.writer.layout import Computed

# GroupQueryAttention takes heads of whole groups of this many dimensions, and turns so many pairs at a time.
HEAD_STEP, PAIR_STEP = 8, 8


@dataclass(frozen=True)
class Positions:
    """How long each text is, and the tables by which heads turn, a pair for each kind."""

    graph: Graph
    decoder: Decoder
    lengths: tuple[str, str]
    columns: str
    position_ids: str
    tables: dict[Rope, tuple[str, str]] = field(default_factory=dict)
    temperatures: dict[Temperature, str] = field(default_factory=dict)
    shifts: dict[RopeScaling, str] = field(default_factory=dict)

    def inputs(self, rope: Rope | None) -> tuple[str, ...]:
        """List the inputs of an attention, from seqlens_k on."""
        if rope is None:
            return self.lengths
        inputs = (*self.lengths, *self._tables(rope))
        if rope.scaling is None or rope.scaling.kind != "longrope":
            return inputs
        return (*inputs, self._shifted(rope.scaling))

    def turned(self, rows: str, rope: Rope, head_count: int, head_size: int) -> str:
        """Turn heads where something follows before they attend."""
        return self.graph.node(
            "RotaryEmbedding",
            [rows, self.position_ids, *self._tables(rope)],
            f"{rows}.turned",
            domain=CONTRIB,
            interleaved=int(rope.is_interleaved),
            num_heads=head_count,
            rotary_embedding_dim=0 if rope.dimensions == head_size else rope.dimensions,
        )

    def temperature(self, temperature: Temperature) -> str:
        """Say how much the queries of each position grow, (batch, positions, 1)."""
        if temperature in self.temperatures:
            return self.temperatures[temperature]
        graph, name = self.graph, f"positions.temperature{_suffix(self.temperatures)}"
        self.temperatures[temperature] = name
        steps = graph.node("Div", [self.position_ids, graph.number(temperature.length)], f"{name}.steps")
        real = graph.node("Cast", [steps], f"{name}.real", to=graph.float_type)
        grown = graph.node("Log", [graph.node("Add", [real, graph.real(1.0)], f"{name}.one")], f"{name}.log")
        scaled = graph.node("Mul", [grown, graph.real(temperature.scale)], f"{name}.scaled")
        total = graph.node("Add", [scaled, graph.real(1.0)], f"{name}.total")
        return graph.node("Unsqueeze", [total, graph.integers(-1)], name)

    def _shifted(self, scaling: RopeScaling) -> str:
        """Look texts beyond the first training's length up in the second part of the tables."""
        if scaling not in self.shifts:
            graph, suffix = self.graph, _suffix(self.shifts)
            length = graph.number(scaling.original_context_length)
            is_long = graph.node("Greater", [self.columns, length], f"positions.is_long{suffix}")
            shift = graph.node("Where", [is_long, length, graph.number(0)], f"positions.shift{suffix}")
            shifted = graph.node("Add", [self.position_ids, shift], f"positions.shifted{suffix}")
            self.shifts[scaling] = shifted
        return self.shifts[scaling]

    def _tables(self, rope: Rope) -> tuple[str, str]:
        if rope not in self.tables:
            suffix = _suffix(self.tables)
            rows, cosines, sines = _tables(self.decoder, rope, self.graph.float_name)
            self.tables[rope] = (
                self.graph.table(f"rope.cosines{suffix}", rows, cosines),
                self.graph.table(f"rope.sines{suffix}", rows, sines),
            )
        return self.tables[rope]


def add_positions(graph: Graph, decoder: Decoder, mask: str, position_ids: str) -> Positions:
    """Add what the attention of all layers shares."""
    counts = graph.node("ReduceSum", [mask, graph.integers(1)], "positions.counts", keepdims=0)
    last = graph.node("Sub", [counts, graph.integers(1)], "positions.last")
    lengths = graph.node("Cast", [last], "positions.seqlens_k", to=TensorProto.INT32)
    shape = graph.node("Shape", [mask], "positions.mask_shape")
    columns = graph.node("Gather", [shape, graph.number(1)], "positions.columns", axis=0)
    total = graph.node("Cast", [columns], "positions.total_length", to=TensorProto.INT32)
    positions = Positions(graph, decoder, (lengths, total), columns, position_ids)
    for layer in decoder.kinds:
        if layer.mixer and layer.mixer.rope:
            positions.inputs(layer.mixer.rope)
    return positions


def limits(decoder: Decoder) -> Iterator[str]:
    """Say what onnxruntime's attention cannot do with heads of such sizes."""
    for layer in decoder.kinds:
        mixer = layer.attention or layer.mixer
        if isinstance(mixer, Attention | Latent) and (size := mixer.head_size) % HEAD_STEP:
            yield f"heads of {size} dimensions, which are no multiple of {HEAD_STEP}"
        rope = layer.mixer.rope if layer.mixer else None
        if rope is not None and (turned := rope.spread_size or rope.dimensions) // 2 % PAIR_STEP:
            yield f"rotary positions over {turned} dimensions, which are no multiple of {2 * PAIR_STEP}"


def _suffix(known: Sized) -> str:
    """Tell the second of a kind, and those after it, from the first."""
    return f".{len(known)}" if known else ""


def _tables(decoder: Decoder, rope: Rope, float_name: str) -> tuple[int, Computed, Computed]:
    """Plan tables of cosines and sines, positions below one another; they are computed when written.

    With longrope those of short texts come first, and those of long ones after them.
    """
    lengths = [decoder.context_length]
    if rope.scaling is not None and rope.scaling.kind == "longrope":
        lengths = sorted({min(rope.scaling.original_context_length, *lengths), *lengths})
    pairs = [len(frequencies_of(decoder, rope, length)[0]) for length in lengths]
    values = sum(length * count for length, count in zip(lengths, pairs, strict=True))

    def table(which: int) -> Computed:
        made = partial(_tabulated, decoder, rope, float_name, tuple(lengths))
        return Computed(values * WIDTH_BYTES[float_name], lambda: made()[which])

    return sum(lengths), table(0), table(1)


@lru_cache(maxsize=2)
def _tabulated(
    decoder: Decoder, rope: Rope, float_name: str, lengths: tuple[int, ...]
) -> tuple[bytes, bytes]:
    """Compute both tables; kept, since they take the same megabytes in every artifact of a model."""
    parts = [turning(decoder, rope, length) for length in lengths]
    dtype = {"F32": np.float32, "F16": np.float16}[float_name]
    return (
        b"".join(part.cosines.astype(dtype).tobytes() for part in parts),
        b"".join(part.sines.astype(dtype).tobytes() for part in parts),
    )
