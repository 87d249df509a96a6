"""Weights in the graph: how each is stored, and how rows are multiplied by it or taken out of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from convert.formats.onnx.graph import CONTRIB, FLOATS, Graph, Matrix
from convert.learning.asking import Asked
from convert.model.arrange import AddOne, Arrange
from convert.model.decoder import Decoder, Norm, Ref
from convert.writer.codecs import Codec
from convert.writer.codecs.matmul_nbits import NBits
from convert.writer.codecs.plain import Plain
from convert.writer.layout import Piece


@dataclass(frozen=True)
class Storage:
    """What the parts of a model are stored in, and what is computed in."""

    float_name: str  # of activations: F32 or F16
    body: Codec
    head: Codec
    embedding: Codec
    accuracy_level: int
    # Of matrices that are not stored as the body; None where all are, and values with queries and keys.
    chosen: Mapping[str, NBits] | None = None
    asked: Asked | None = None  # what quantized matrices are rounded by; None: plainly

    def rounding(self, ref: Ref, codec: Codec) -> Codec | None:
        """Find how a matrix is rounded, if not as all that are stored so."""
        if self.asked is None or ref.layer is None or not isinstance(codec, NBits):
            return None
        return self.asked.codec(ref, codec)

    def of(self, name: str) -> Codec:
        """Find how a matrix of a layer is stored."""
        return (self.chosen or {}).get(f"{name}.weight", self.body)

    @property
    def vector(self) -> Codec:
        """Return the type of norms and biases: that of activations."""
        return Plain(self.float_name)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Network:
    """What every part needs: the graph that it adds to, the model's description, how to store."""

    graph: Graph
    decoder: Decoder
    storage: Storage
    shapes: dict[Ref, tuple[int, ...]]
    shared: dict[int, tuple[str, str]] = field(default_factory=dict)  # keys and values of each layer

    def norm(self, ref: Ref) -> Norm:
        """Find the norm that a tensor belongs to."""
        norm = self.decoder.norm_of(ref)
        if norm is None:
            raise ValueError(f"{ref} is no norm")
        return norm


def linear(
    network: Network, rows: str, refs: tuple[Ref, ...], name: str, *, codec: Codec | None = None
) -> str:
    """Multiply by one matrix, or several stacked into one, and add its bias where it has one."""
    weight = matrix(network, refs, codec or network.storage.of(name), name)
    bias = None
    biases = [replace(ref, part="bias") for ref in refs]
    if biases[0] in network.shapes:
        pieces = [Piece(ref, network.shapes[ref][0], 1) for ref in biases]
        bias = network.graph.vector(f"{name}.bias", pieces, network.storage.vector)
    return multiply(network, rows, weight, bias, name)


def multiply(network: Network, rows: str, stored: Matrix, bias: str | None, name: str) -> str:
    """Multiply by a matrix as it is stored, (out, in)."""
    graph, codec = network.graph, stored.codec
    if isinstance(codec, NBits):
        weights, scales, *zero_points = stored.planes
        inputs = [rows, weights, scales, *zero_points]
        if bias is not None:
            inputs += [""] * (5 - len(inputs)) + [bias]
        return graph.node(
            "MatMulNBits",
            inputs,
            name,
            domain=CONTRIB,
            K=stored.columns,
            N=stored.rows,
            bits=codec.bits,
            block_size=codec.block_size,
            accuracy_level=network.storage.accuracy_level,
        )
    # By the stored rows: a plain MatMul wants columns, and would be transposed, as a copy, at every load.
    weight = _widened(graph, stored.planes[0], codec)
    product = name if bias is None else f"{name}.product"
    graph.node("FusedMatMul", [rows, weight], product, domain=CONTRIB, transB=1)
    return product if bias is None else graph.node("Add", [product, bias], name)


def _widened(graph: Graph, values: str, codec: Codec) -> str:
    """Bring stored floats to the activations' type; of a constant, the runtime does so once."""
    if FLOATS[codec.name] == graph.float_type:
        return values
    return graph.node("Cast", [values], f"{values}.{graph.float_name.lower()}", to=graph.float_type)


def rows_of(network: Network, table: Matrix, indices: str, name: str) -> str:
    """Take rows out of a stored matrix, in the activations' type."""
    graph, codec = network.graph, table.codec
    if not isinstance(codec, NBits):
        rows = graph.node("Gather", [table.planes[0], indices], f"{name}.rows", axis=0)
        return _widened(graph, rows, codec)
    rows = graph.node(
        "GatherBlockQuantized",
        [graph.flattened(table), indices, *table.planes[1:]],
        f"{name}.rows",
        domain=CONTRIB,
        bits=codec.bits,
        block_size=codec.block_size,
        gather_axis=0,
        quantize_axis=1,
    )
    if table.columns % codec.block_size == 0:
        return rows
    ends = graph.integers(0), graph.integers(table.columns), graph.integers(-1)
    return graph.node("Slice", [rows, *ends], f"{name}.unpadded")


def matrix(network: Network, refs: tuple[Ref, ...], codec: Codec, name: str) -> Matrix:
    """Store a matrix, or several as one."""
    rounding = network.storage.rounding
    pieces = [
        Piece(ref, network.shapes[ref][0], network.shapes[ref][1], codec=rounding(ref, codec)) for ref in refs
    ]
    return network.graph.matrix(f"{name}.weight", pieces, codec)


def vector(network: Network, ref: Ref, arrange: Arrange | None = None) -> str:
    """Store a norm's weight or bias, or another row of floats; weights that are kept less one, whole."""
    if network.decoder.has_offset(ref):
        arrange = AddOne()
    piece = Piece(ref, network.shapes[ref][0], 1, arrange)
    return network.graph.vector(f"{name_of(ref)}.{ref.part}", [piece], network.storage.vector)


def name_of(ref: Ref) -> str:
    """Name what is computed or stored for a role."""
    return str(ref.role) if ref.layer is None else f"layers.{ref.layer}.{ref.role}"
