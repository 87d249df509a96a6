"""An ONNX graph in the making, and its file of weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper

from convert.writer.codecs.matmul_nbits import NBits
from convert.writer.codecs.plain import WIDTH_BYTES
from convert.writer.layout import Computed, Layout, Slot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto, ValueInfoProto

    from convert.writer.codecs import Codec
    from convert.writer.layout import Piece

MODEL_FILE = "model.onnx"
DATA_FILE = "model.onnx.data"
CONTRIB = "com.microsoft"
# RMSNormalization came with 23; onnxruntime-genai's own models ask for IR 10.
OPSET, IR_VERSION = 23, 10
# Tensors begin on pages, so that runtimes can map them; large ones where Windows can map them too.
PAGE_BYTES, LARGE_PAGE_BYTES, LARGE_BYTES = 4 << 10, 64 << 10, 1 << 20
FLOATS = {"F32": TensorProto.FLOAT, "F16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16}


@dataclass(frozen=True, slots=True)
class Matrix:
    """A stored matrix, (rows, columns): the names of its initializers, one a plane."""

    planes: tuple[str, ...]
    codec: Codec
    rows: int
    columns: int


@dataclass
class Graph:
    """Nodes in order, small constants, and tensors that lie in the data file."""

    float_name: str  # what activations are computed in: F32 or F16
    nodes: list[Any] = field(default_factory=list)
    initializers: dict[str, Any] = field(default_factory=dict)
    slots: list[Slot] = field(default_factory=list)
    fixed: list[tuple[int, bytes | Computed]] = field(default_factory=list)
    size_bytes: int = 0

    @property
    def float_type(self) -> int:
        """Name the activations' type as ONNX numbers it."""
        return int(FLOATS[self.float_name])

    def node(self, op: str, inputs: Sequence[str], name: str, *, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output, which has the node's name."""
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, domain=domain, **attributes))
        return name

    def nodes_out(
        self, op: str, inputs: Sequence[str], outputs: Sequence[str], *, domain: str = "", **attributes: Any
    ) -> None:
        """Add a node with several outputs, named by the first."""
        self.nodes.append(helper.make_node(op, inputs, outputs, name=outputs[0], domain=domain, **attributes))

    def constant(self, values: NDArray[Any], name: str) -> str:
        """Keep a few numbers in the graph itself, once."""
        if name not in self.initializers:
            data_type = helper.np_dtype_to_tensor_dtype(values.dtype)
            self.initializers[name] = helper.make_tensor(
                name, data_type, values.shape, values.tobytes(), raw=True
            )
        return name

    def integers(self, *values: int) -> str:
        """Keep a list of whole numbers, as shapes and axes are."""
        return self.constant(np.array(values, np.int64), f"integers.{'_'.join(map(str, values))}")

    def number(self, value: int) -> str:
        """Keep a whole number."""
        return self.constant(np.array(value, np.int64), f"integer.{value}")

    def real(self, value: float) -> str:
        """Keep a number of the activations' type."""
        dtype = helper.tensor_dtype_to_np_dtype(self.float_type)
        return self.constant(np.array(value, dtype), f"real.{value}")

    def vectors(self, name: str, pieces: Sequence[Piece], codec: Codec, shape: tuple[int, int]) -> str:
        """Store rows of floats, (rows, columns), whose pieces are dealt out one number at a time."""
        self.vector(name, pieces, codec)
        tensor = self.initializers[name]
        del tensor.dims[:]
        tensor.dims.extend(shape)
        return name

    def vector(self, name: str, pieces: Sequence[Piece], codec: Codec) -> str:
        """Store a row of floats."""
        size = sum(piece.rows for piece in pieces)
        (offset,) = self._place(Slot(name, tuple(pieces), codec, (0,)))
        self._external(name, FLOATS[codec.name], (size,), offset, size * codec.row_bytes(1)[0])
        return name

    def table(self, name: str, rows: int, data: Computed) -> str:
        """Store numbers of the activations' type that no weights are needed for."""
        offset = self._reserve(len(data))
        self.fixed.append((offset, data))
        columns = len(data) // rows // WIDTH_BYTES[self.float_name]
        self._external(name, self.float_type, (rows, columns), offset, len(data))
        return name

    def matrix(self, name: str, pieces: Sequence[Piece], codec: Codec) -> Matrix:
        """Store a matrix, its pieces one below the other."""
        slot = Slot(name, tuple(pieces), codec, ())
        offsets, sizes = self._place(slot), slot.sizes_bytes
        rows, columns = slot.rows, slot.columns
        if not isinstance(codec, NBits):
            self._external(name, FLOATS[codec.name], (rows, columns), offsets[0], sizes[0])
            return Matrix((name,), codec, rows, columns)
        blocks = codec.blocks(columns)
        blob_bytes = codec.block_size * codec.bits // 8
        shapes = ((rows, blocks, blob_bytes), (rows, blocks), (rows, sizes[-1] // rows))
        types = (TensorProto.UINT8, FLOATS[codec.scale], TensorProto.UINT8)
        names = (name, f"{name}.scales", f"{name}.zero_points")[: len(offsets)]
        for plane, data_type, shape, offset, size in zip(names, types, shapes, offsets, sizes, strict=False):
            self._external(plane, data_type, shape, offset, size)
        return Matrix(names, codec, rows, columns)

    def stack(self, name: str, pieces: Sequence[Piece], codec: Codec, count: int) -> Matrix:
        """Store matrices of one shape, one after the other: (count, rows, columns)."""
        stored = self.matrix(name, pieces, codec)
        for plane in stored.planes:
            tensor = self.initializers[plane]
            rows, *columns = tensor.dims
            width = math.prod(columns) if isinstance(codec, NBits) else columns[0]
            del tensor.dims[:]
            tensor.dims.extend((count, rows // count, width))
        return replace(stored, rows=stored.rows // count)

    def kernels(self, name: str, pieces: Sequence[Piece], codec: Codec) -> str:
        """Store the weights of a convolution over single channels: (channels, 1, width)."""
        stored = self.matrix(name, pieces, codec)
        tensor = self.initializers[name]
        del tensor.dims[:]
        tensor.dims.extend((stored.rows, 1, stored.columns))
        return name

    def flattened(self, matrix: Matrix) -> str:
        """Name a quantized matrix's weights as (rows, bytes), from the same bytes of the file."""
        name = _flat(matrix.planes[0])
        if name not in self.initializers:
            packed = self.initializers[matrix.planes[0]]
            place = {entry.key: entry.value for entry in packed.external_data}
            rows, blocks, blob_bytes = packed.dims
            self._external(
                name,
                packed.data_type,
                (rows, blocks * blob_bytes),
                int(place["offset"]),
                int(place["length"]),
            )
        return name

    def model(
        self, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto], version: str
    ) -> ModelProto:
        """Close the graph."""
        taken = {name for node in self.nodes for name in node.input}
        # A table that rows are only looked up in is named flat, and what its blocks were called by nobody.
        stored = [
            tensor
            for name, tensor in self.initializers.items()
            if name in taken or _flat(name) not in self.initializers
        ]
        graph = helper.make_graph(self.nodes, "decoder", inputs, outputs, stored)
        return helper.make_model(
            graph,
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)],
            producer_name="modelwright",
            producer_version=version,
        )

    def layout(self) -> Layout:
        """Close the file of weights."""
        return Layout(DATA_FILE, self.size_bytes, tuple(self.fixed), tuple(self.slots))

    def _place(self, slot: Slot) -> tuple[int, ...]:
        offsets = tuple(self._reserve(size) for size in slot.sizes_bytes)
        self.slots.append(Slot(slot.name, slot.pieces, slot.codec, offsets))
        return offsets

    def _reserve(self, size_bytes: int) -> int:
        page_bytes = LARGE_PAGE_BYTES if size_bytes >= LARGE_BYTES else PAGE_BYTES
        offset = -(-self.size_bytes // page_bytes) * page_bytes
        self.size_bytes = offset + size_bytes
        return offset

    def _external(
        self, name: str, data_type: int, shape: Sequence[int], offset_bytes: int, size_bytes: int
    ) -> None:
        tensor = TensorProto(name=name, data_type=data_type, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", DATA_FILE), ("offset", offset_bytes), ("length", size_bytes)):
            tensor.external_data.add(key=key, value=str(value))
        self.initializers[name] = tensor


def _flat(name: str) -> str:
    return f"{name}.flat"
