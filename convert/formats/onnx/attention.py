"""Attention in the graph: one operator per layer, and around it what a family does to its heads."""

from typing import Any

from convert.formats.onnx.graph import CONTRIB
from convert.formats.onnx.norms import normalize, normalize_each, normalize_heads, normalize_row, ones
from convert.formats.onnx.positions import Positions
from convert.formats.onnx.weights import Network, linear, vector
from convert.model.decoder import Attention, Latent, Parallel, Ref, Role

PAST, PRESENT = "past_key_values.{layer}.{part}", "present.{layer}.{part}"


def cached_heads(mixer: Any) -> tuple[int, int] | None:
    """Say how many heads of keys a mixer keeps, and of what size; None where it keeps none."""
    if isinstance(mixer, Parallel):
        mixer = mixer.attention
    if isinstance(mixer, Attention):
        return mixer.kv_head_count, mixer.head_size
    return (mixer.head_count, mixer.head_size) if isinstance(mixer, Latent) else None


def add_attention(
    network: Network, layer: int, rows: str, mixer: Attention | Latent, positions: Positions
) -> str:
    """Attend to what came before, turning queries and keys inside the one operator that does it all."""
    name = f"layers.{layer}.attn"
    if isinstance(mixer, Latent):
        heads, gate = _latent_heads(network, layer, rows, mixer), None
    else:
        *heads, gate = _heads(network, layer, rows, mixer, positions)
    seen = _attend(network, layer, tuple(heads), mixer, positions)
    if isinstance(mixer, Latent):
        seen = _without_padding(network, seen, mixer)
    if gate is not None:
        share = network.graph.node("Sigmoid", [gate], f"{name}.share")
        seen = network.graph.node("Mul", [seen, share], f"{name}.gated")
    return linear(network, seen, (Ref(Role.ATTN_OUT, layer),), f"{name}.out")


def _attend(
    network: Network, layer: int, heads: tuple[str, ...], mixer: Attention | Latent, positions: Positions
) -> str:
    name, rope = f"layers.{layer}.attn", mixer.rope
    past = [PAST.format(layer=layer, part=part) for part in ("key", "value")]
    present = [PRESENT.format(layer=layer, part=part) for part in ("key", "value")]
    attributes: dict[str, Any] = {}
    is_late = isinstance(mixer, Attention) and mixer.is_qk_norm_late
    inputs = positions.inputs(None if is_late else rope)
    if rope is not None and not is_late:
        attributes["do_rotary"] = 1
        if rope.is_interleaved:
            attributes["rotary_interleaved"] = 1
    if mixer.window is not None and mixer.window < network.decoder.context_length:
        attributes["local_window_size"] = mixer.window
    if mixer.scale is not None:
        attributes["scale"] = mixer.scale
    if isinstance(mixer, Attention):
        if mixer.softcap is not None:
            attributes["softcap"] = mixer.softcap
        if mixer.has_sinks:
            # After cosines, sines, position ids and a bias of scores.
            sinks = vector(network, Ref(Role.ATTN_SINKS, layer))
            inputs = (*inputs, *[""] * (6 - len(inputs)), sinks)
    count, _ = cached_heads(mixer) or (0, 0)
    network.graph.nodes_out(
        "GroupQueryAttention",
        [*heads, *past, *inputs],
        [name, *present],
        domain=CONTRIB,
        num_heads=mixer.head_count,
        kv_num_heads=count,
        **attributes,
    )
    return name


def _heads(
    network: Network, layer: int, rows: str, mixer: Attention, positions: Positions
) -> tuple[str, str, str, str | None]:
    """Multiply by all three at once; they part where something is done to one of them."""
    graph, name = network.graph, f"layers.{layer}.attn"
    roles = [Role.ATTN_Q]
    if mixer.kv_layer is None:
        roles += [Role.ATTN_K] if mixer.is_key_value else [Role.ATTN_K, Role.ATTN_V]
    query, key, value = (f"{name}.{letter}" for letter in "qkv")
    is_apart = network.storage.chosen is not None and Role.ATTN_V in roles
    if is_apart:
        roles.remove(Role.ATTN_V)
        value = _clipped(network, linear(network, rows, (Ref(Role.ATTN_V, layer),), value), mixer)
    joined = linear(network, rows, tuple(Ref(role, layer) for role in roles), f"{name}.qkv")
    joined = _clipped(network, joined, mixer)
    if _is_whole(mixer) and not is_apart:
        return joined, "", "", None
    parts = {Role.ATTN_Q: query, Role.ATTN_K: key, Role.ATTN_V: value}
    width = mixer.q_size * (2 if mixer.has_gate else 1)
    sizes = [width, mixer.kv_size, mixer.kv_size][: len(roles)]
    if len(roles) > 1:
        graph.nodes_out("Split", [joined, graph.integers(*sizes)], [parts[role] for role in roles], axis=-1)
    else:
        query = joined
    query, gate = _parted(network, query, mixer, name) if mixer.has_gate else (query, None)
    if mixer.is_key_value:
        value = key
    query = _normed(network, Ref(Role.ATTN_Q_NORM, layer), query, mixer, positions)
    if mixer.temperature is not None:
        query = graph.node("Mul", [query, positions.temperature(mixer.temperature)], f"{name}.q.warm")
    if mixer.kv_layer is not None:
        key, value = network.shared[mixer.kv_layer]
    else:
        if mixer.v_norm is not None:
            value = _plain_norm(network, value, mixer, f"{name}.v.normed")
        key = _normed(network, Ref(Role.ATTN_K_NORM, layer), key, mixer, positions)
        network.shared[layer] = key, value
    return query, key, value, gate


def _clipped(network: Network, rows: str, mixer: Attention) -> str:
    if mixer.clip is None:
        return rows
    bounds = [network.graph.real(-mixer.clip), network.graph.real(mixer.clip)]
    return network.graph.node("Clip", [rows, *bounds], f"{rows.removesuffix('.qkv')}.clipped")


def _is_whole(mixer: Attention) -> bool:
    """Check whether nothing is done to queries, keys or values before the operator."""
    changes = (mixer.qk_norm, mixer.v_norm, mixer.temperature, mixer.has_gate, mixer.is_key_value)
    return not any(changes) and mixer.kv_layer is None


def _normed(network: Network, ref: Ref, rows: str, mixer: Attention, positions: Positions) -> str:
    if mixer.qk_norm is None:
        return rows
    count = mixer.head_count if ref.role is Role.ATTN_Q_NORM else mixer.kv_head_count
    if mixer.is_qk_norm_late and mixer.rope is not None:
        rows = positions.turned(rows, mixer.rope, count, mixer.head_size)
    if mixer.qk_norm_span == "row":
        return normalize_row(network, ref, rows)
    if mixer.qk_norm_span == "heads":
        return normalize_each(network, ref, rows, count)
    return normalize_heads(network, ref, rows, count, mixer.head_size)


def _plain_norm(network: Network, rows: str, mixer: Attention, name: str) -> str:
    """Normalize each head of the values, without weights."""
    graph, size = network.graph, mixer.head_size
    if mixer.v_norm is None or mixer.v_norm.has_weight or mixer.v_norm.kind != "rms":
        raise TypeError("norms of values have no weights")
    heads = graph.node("Reshape", [rows, graph.integers(0, 0, mixer.kv_head_count, size)], f"{name}.heads")
    normed = graph.node(
        "RMSNormalization", [heads, ones(graph, size)], name, axis=-1, epsilon=mixer.v_norm.eps
    )
    return graph.node("Reshape", [normed, graph.integers(0, 0, mixer.kv_size)], f"{name}.rows")


def _parted(network: Network, rows: str, mixer: Attention, name: str) -> tuple[str, str]:
    """Part each head's query from its gate."""
    graph, size = network.graph, mixer.head_size
    heads = graph.node("Reshape", [rows, graph.integers(0, 0, mixer.head_count, 2 * size)], f"{name}.q.both")
    outputs = [f"{name}.q.heads", f"{name}.gate.heads"]
    graph.nodes_out("Split", [heads, graph.integers(size, size)], outputs, axis=-1)
    flat = graph.integers(0, 0, mixer.q_size)
    query, gate = (graph.node("Reshape", [each, flat], f"{each}.rows") for each in outputs)
    return query, gate


def _latent_heads(network: Network, layer: int, rows: str, mixer: Latent) -> list[str]:
    """Widen the narrow rows to whole heads: what turns comes first, and values are padded to one size."""
    graph, name, count = network.graph, f"layers.{layer}.attn", mixer.head_count
    turned, plain = mixer.rope.dimensions, mixer.plain_size
    if mixer.q_rank:
        narrow = linear(network, rows, (Ref(Role.LATENT_Q_DOWN, layer),), f"{name}.q.narrow")
        normed, _ = normalize(network, Ref(Role.LATENT_Q_NORM, layer), narrow, None)
        query = linear(network, normed, (Ref(Role.LATENT_Q_UP, layer),), f"{name}.q.wide")
    else:
        query = linear(network, rows, (Ref(Role.ATTN_Q, layer),), f"{name}.q.wide")
    query = graph.node("Reshape", [query, graph.integers(0, 0, count, plain + turned)], f"{name}.q.heads")
    parts = [f"{name}.q.plain", f"{name}.q.turned"]
    graph.nodes_out("Split", [query, graph.integers(plain, turned)], parts, axis=-1)
    query = graph.node("Concat", parts[::-1], f"{name}.q.both", axis=-1)
    narrow = linear(network, rows, (Ref(Role.LATENT_KV_DOWN, layer),), f"{name}.kv.narrow")
    parts = [f"{name}.kv.row", f"{name}.k.turned"]
    graph.nodes_out("Split", [narrow, graph.integers(mixer.kv_rank, turned)], parts, axis=-1)
    normed, _ = normalize(network, Ref(Role.LATENT_KV_NORM, layer), parts[0], None)
    wide = linear(network, normed, (Ref(Role.LATENT_KV_UP, layer),), f"{name}.kv.wide")
    size = plain + mixer.value_size
    wide = graph.node("Reshape", [wide, graph.integers(0, 0, count, size)], f"{name}.kv.heads")
    known = [f"{name}.k.plain", f"{name}.v.heads"]
    graph.nodes_out("Split", [wide, graph.integers(plain, mixer.value_size)], known, axis=-1)
    one = graph.node("Unsqueeze", [parts[1], graph.integers(2)], f"{name}.k.one")
    each = graph.node("Tile", [one, graph.integers(1, 1, count, 1)], f"{name}.k.each")
    key = graph.node("Concat", [each, known[0]], f"{name}.k.both", axis=-1)
    value = known[1]
    if missing := mixer.head_size - mixer.value_size:
        value = graph.node("Pad", [value, graph.integers(*[0] * 7, missing)], f"{name}.v.padded")
    flat = graph.integers(0, 0, count * mixer.head_size)
    return [graph.node("Reshape", [each, flat], f"{each}.rows") for each in (query, key, value)]


def _without_padding(network: Network, seen: str, mixer: Latent) -> str:
    graph, count = network.graph, mixer.head_count
    if mixer.value_size == mixer.head_size:
        return seen
    heads = graph.node("Reshape", [seen, graph.integers(0, 0, count, mixer.head_size)], f"{seen}.heads")
    ends = graph.integers(0), graph.integers(mixer.value_size), graph.integers(-1)
    cut = graph.node("Slice", [heads, *ends], f"{seen}.cut")
    return graph.node("Reshape", [cut, graph.integers(0, 0, count * mixer.value_size)], f"{seen}.rows")
