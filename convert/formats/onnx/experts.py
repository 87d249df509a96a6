"""Mixtures of experts in the graph: the choice in plain operators, the experts in one."""

from typing import Any

from onnx import TensorProto, helper

from convert.errors import Failure
from convert.formats.onnx.graph import CONTRIB, Matrix
from convert.formats.onnx.weights import Network, linear
from convert.model.decoder import Experts, Ref, Role
from convert.model.mlp import CLAMPED_ALPHA, CLAMPED_BETA
from convert.writer.codecs.matmul_nbits import NBits
from convert.writer.layout import Piece

# The score of an expert that was not chosen: the softmax of it is nothing, and a half can hold it.
UNCHOSEN = -60_000.0


def add_experts(network: Network, layer: int, rows: str, experts: Experts) -> str:
    """Add a layer's experts."""
    graph, name = network.graph, f"layers.{layer}.moe"
    size = network.decoder.hidden_size
    flat = graph.node("Reshape", [rows, graph.integers(-1, size)], f"{name}.tokens")
    scores = linear(network, flat, (Ref(Role.ROUTER, layer),), f"{name}.router", codec=network.storage.vector)
    total, is_normalized = None, experts.is_normalized or experts.routing == "softmax_chosen"
    # QMoE makes the shares add up to one, whatever it is asked.
    is_plain = is_normalized or not isinstance(network.storage.body, NBits)
    if experts.routing == "sigmoid" or experts.has_selection_bias or experts.group_count > 1 or not is_plain:
        scores, total = _chosen(network, layer, scores, experts, name)
    mixed = _mixed(
        network, layer, (flat, scores), experts, name, is_normalized=is_normalized or total is not None
    )
    if total is not None and not is_normalized:
        mixed = graph.node("Mul", [mixed, total], f"{name}.weighed")
    if experts.scale != 1:
        mixed = graph.node("Mul", [mixed, graph.real(experts.scale)], f"{name}.scaled")
    shape = graph.node("Shape", [rows], f"{name}.shape")
    mixed = graph.node("Reshape", [mixed, shape], f"{name}.rows")
    if not experts.shared_size:
        return mixed
    return graph.node("Add", [mixed, _shared(network, layer, rows, experts, name)], name)


def _chosen(network: Network, layer: int, scores: str, experts: Experts, name: str) -> tuple[str, str]:
    """Choose, and give scores whose softmax is the shares, and the sum of those before they are made one."""
    graph = network.graph
    shares = graph.node("Sigmoid", [scores], f"{name}.shares") if experts.routing == "sigmoid" else ""
    shares = shares or graph.node("Softmax", [scores], f"{name}.shares", axis=-1)
    ranked = shares
    if experts.has_selection_bias:
        ref = Ref(Role.ROUTER_SELECTION, layer)
        bias = graph.vector(f"{name}.selection", [Piece(ref, experts.count, 1)], network.storage.vector)
        ranked = graph.node("Add", [shares, bias], f"{name}.ranked")
    if experts.group_count > 1:
        ranked = _in_groups(network, ranked, experts, name)
    graph.nodes_out(
        "TopK", [ranked, graph.integers(experts.used_count)], [f"{name}.top", f"{name}.which"], axis=-1
    )
    taken = graph.node("GatherElements", [shares, f"{name}.which"], f"{name}.taken", axis=-1)
    total = graph.node("ReduceSum", [taken, graph.integers(-1)], f"{name}.total", keepdims=1)
    nothing = graph.node("Shape", [scores], f"{name}.shape_of_scores")
    value = helper.make_tensor("unchosen", graph.float_type, [1], [UNCHOSEN])
    unchosen = graph.node("ConstantOfShape", [nothing], f"{name}.unchosen", value=value)
    logs = graph.node("Log", [taken], f"{name}.logs")
    spread = graph.node("ScatterElements", [unchosen, f"{name}.which", logs], f"{name}.spread", axis=-1)
    return spread, total


def _in_groups(network: Network, ranked: str, experts: Experts, name: str) -> str:
    """Leave only the experts of the best groups in the race."""
    graph, count = network.graph, experts.group_count
    size = experts.count // count
    groups = graph.node("Reshape", [ranked, graph.integers(-1, count, size)], f"{name}.groups")
    if experts.is_group_of_two:
        graph.nodes_out("TopK", [groups, graph.integers(2)], [f"{name}.two", f"{name}.two_which"], axis=-1)
        best = graph.node("ReduceSum", [f"{name}.two", graph.integers(-1)], f"{name}.best", keepdims=0)
    else:
        best = graph.node("ReduceMax", [groups, graph.integers(-1)], f"{name}.best", keepdims=0)
    graph.nodes_out(
        "TopK",
        [best, graph.integers(experts.used_group_count)],
        [f"{name}.group_top", f"{name}.group_which"],
        axis=-1,
    )
    shape = graph.node("Shape", [best], f"{name}.group_shape")
    no = helper.make_tensor("no", TensorProto.INT64, [1], [0])
    none = graph.node("ConstantOfShape", [shape], f"{name}.group_none", value=no)
    ones = graph.node("Shape", [f"{name}.group_which"], f"{name}.group_count")
    yes = helper.make_tensor("yes", TensorProto.INT64, [1], [1])
    ones = graph.node("ConstantOfShape", [ones], f"{name}.group_ones", value=yes)
    kept = graph.node("ScatterElements", [none, f"{name}.group_which", ones], f"{name}.group_kept", axis=-1)
    kept = graph.node("Cast", [kept], f"{name}.group_is_kept", to=TensorProto.BOOL)
    kept = graph.node("Unsqueeze", [kept, graph.integers(-1)], f"{name}.group_mask")
    left = graph.node("Where", [kept, groups, graph.real(UNCHOSEN)], f"{name}.groups_left")
    return graph.node("Reshape", [left, graph.integers(-1, experts.count)], f"{name}.left")


def _mixed(
    network: Network,
    layer: int,
    inputs: tuple[str, str],
    experts: Experts,
    name: str,
    *,
    is_normalized: bool,
) -> str:
    """Add the operator; gate and inner rows are dealt out by turns, as it wants them."""
    graph, codec = network.graph, network.storage.body
    first = _stack(network, layer, (Role.EXPERT_GATE, Role.EXPERT_UP), experts, f"{name}.inner")
    last = _stack(network, layer, (Role.EXPERT_DOWN,), experts, f"{name}.down")
    first_bias = last_bias = ""
    if experts.has_bias:
        roles = (Role.EXPERT_GATE, Role.EXPERT_UP)
        first_bias = _stacked_bias(network, layer, roles, experts, f"{name}.inner")
        last_bias = _stacked_bias(network, layer, (Role.EXPERT_DOWN,), experts, f"{name}.down")
    attributes: dict[str, Any] = {
        "k": experts.used_count,
        "normalize_routing_weights": int(is_normalized),
        "activation_type": "swiglu",
        "swiglu_fusion": 1,
        "activation_alpha": CLAMPED_ALPHA if experts.activation == "swiglu_clamped" else 1.0,
        "activation_beta": CLAMPED_BETA if experts.activation == "swiglu_clamped" else 0.0,
    }
    if experts.limit is not None:
        attributes["swiglu_limit"] = experts.limit
    if not isinstance(codec, NBits):
        taken = [*inputs, first.planes[0], first_bias, last.planes[0], last_bias]
        return graph.node("MoE", taken, f"{name}.mixed", domain=CONTRIB, **attributes)
    taken = [*inputs, *first.planes[:2], first_bias, *last.planes[:2], last_bias]
    if not codec.is_symmetric:
        taken += ["", "", "", first.planes[2], last.planes[2]]
    return graph.node(
        "QMoE",
        taken,
        f"{name}.mixed",
        domain=CONTRIB,
        expert_weight_bits=codec.bits,
        block_size=codec.block_size,
        accuracy_level=network.storage.accuracy_level,
        **attributes,
    )


def _stack(network: Network, layer: int, roles: tuple[Role, ...], experts: Experts, name: str) -> Matrix:
    codec = network.storage.body
    columns = network.shapes[Ref(roles[0], layer, expert=0)][1]
    if isinstance(codec, NBits) and columns % codec.block_size:
        raise Failure(
            f"experts of {columns} columns are no whole number of blocks of {codec.block_size}",
            "take a smaller block_size, or fp16 or fp32",
        )
    pieces = _pieces(network, layer, roles, experts, "weight")
    return network.graph.stack(f"{name}.weight", pieces, codec, experts.count)


def _stacked_bias(network: Network, layer: int, roles: tuple[Role, ...], experts: Experts, name: str) -> str:
    pieces = _pieces(network, layer, roles, experts, "bias")
    width = sum(piece.rows for piece in pieces) // experts.count
    return network.graph.vectors(f"{name}.bias", pieces, network.storage.vector, (experts.count, width))


def _pieces(
    network: Network, layer: int, roles: tuple[Role, ...], experts: Experts, part: Any
) -> list[Piece]:
    refs = [
        (Ref(role, layer, part, expert), lane)
        for expert in range(experts.count)
        for lane, role in enumerate(roles)
    ]
    storage = network.storage
    return [
        Piece(
            ref,
            network.shapes[ref][0],
            (*network.shapes[ref], 1)[1],
            codec=storage.rounding(ref, storage.body) if part == "weight" else None,
            lane=lane,
            lanes=len(roles),
        )
        for ref, lane in refs
    ]


def _shared(network: Network, layer: int, rows: str, experts: Experts, name: str) -> str:
    """Add the experts that see every token."""
    graph = network.graph
    gate = linear(network, rows, (Ref(Role.SHARED_GATE, layer),), f"{name}.shared.gate")
    inner = linear(network, rows, (Ref(Role.SHARED_UP, layer),), f"{name}.shared.up")
    active = graph.node("QuickGelu", [gate], f"{name}.shared.act", domain=CONTRIB, alpha=1.0)
    inner = graph.node("Mul", [active, inner], f"{name}.shared.inner")
    result = linear(network, inner, (Ref(Role.SHARED_DOWN, layer),), f"{name}.shared.down")
    if not experts.has_shared_router:
        return result
    codec = network.storage.vector
    score = linear(network, rows, (Ref(Role.SHARED_ROUTER, layer),), f"{name}.shared.router", codec=codec)
    share = graph.node("Sigmoid", [score], f"{name}.shared.share")
    return graph.node("Mul", [result, share], f"{name}.shared")
