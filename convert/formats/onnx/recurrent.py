"""Mixers that carry a state instead of keys and values: the delta rule, and short convolutions."""

import numpy as np
from onnx import helper

from convert.formats.onnx.graph import CONTRIB
from convert.formats.onnx.norms import normalize_heads, ones
from convert.formats.onnx.weights import Network, linear, vector
from convert.model.arrange import NegativeExp
from convert.model.decoder import Delta, Mixer, Parallel, Ref, Role, ShortConvolution, StateSpace
from convert.model.mixer import LENGTH_EPSILON
from convert.writer.layout import Piece

STATE_IN, STATE_OUT = "past_key_values.{layer}.{part}_state", "present.{layer}.{part}_state"


def states(mixer: Mixer | None, hidden_size: int) -> list[tuple[str, tuple[int, ...]]]:
    """List the states that a mixer carries, with their shapes."""
    if isinstance(mixer, Delta):
        channels = 2 * mixer.keys_size + mixer.values_size
        recurrent = (mixer.value_head_count, mixer.key_size, mixer.value_size)
        return [("conv", (channels, mixer.kernel - 1)), ("recurrent", recurrent)]
    if isinstance(mixer, Parallel):
        mixer = mixer.state
    if isinstance(mixer, StateSpace):
        recurrent = (mixer.head_count, mixer.state_size, mixer.head_size)
        return [("conv", (mixer.conv_size, mixer.kernel - 1)), ("recurrent", recurrent)]
    return [("conv", (hidden_size, mixer.kernel - 1))] if isinstance(mixer, ShortConvolution) else []


def add_delta(network: Network, layer: int, rows: str, mixer: Delta) -> str:
    """Add linear attention by the gated delta rule."""
    graph, name = network.graph, f"layers.{layer}.delta"
    refs = tuple(Ref(role, layer) for role in (Role.DELTA_Q, Role.DELTA_K, Role.DELTA_V))
    joined = linear(network, rows, refs, f"{name}.qkv")
    mixed = _convolved(network, layer, joined, Role.DELTA_CONV, f"{name}.conv", activation="silu")
    query, key, value = (f"{name}.{letter}" for letter in "qkv")
    sizes = graph.integers(mixer.keys_size, mixer.keys_size, mixer.values_size)
    graph.nodes_out("Split", [mixed, sizes], [query, key, value], axis=-1)
    query, key = (_of_length_one(network, each, mixer) for each in (query, key))
    alpha = linear(network, rows, (Ref(Role.DELTA_ALPHA, layer),), f"{name}.alpha")
    time = graph.node("Add", [alpha, vector(network, Ref(Role.DELTA_TIME, layer))], f"{name}.time")
    slow = vector(network, Ref(Role.DELTA_DECAY, layer), NegativeExp())
    decay = graph.node("Mul", [graph.node("Softplus", [time], f"{name}.softplus"), slow], f"{name}.decay")
    beta = linear(network, rows, (Ref(Role.DELTA_BETA, layer),), f"{name}.beta")
    rate = graph.node("Sigmoid", [beta], f"{name}.rate")
    state = [each.format(layer=layer, part="recurrent") for each in (STATE_IN, STATE_OUT)]
    graph.nodes_out(
        "LinearAttention",
        [query, key, value, state[0], decay, rate],
        [f"{name}.seen", state[1]],
        domain=CONTRIB,
        q_num_heads=mixer.value_head_count,
        kv_num_heads=mixer.value_head_count,
        update_rule="gated_delta",
    )
    norm = Ref(Role.DELTA_NORM, layer)
    normed = normalize_heads(network, norm, f"{name}.seen", mixer.value_head_count, mixer.value_size)
    gate = linear(network, rows, (Ref(Role.DELTA_GATE, layer),), f"{name}.gate")
    active = graph.node("QuickGelu", [gate], f"{name}.act", domain=CONTRIB, alpha=1.0)
    gated = graph.node("Mul", [normed, active], f"{name}.gated")
    return linear(network, gated, (Ref(Role.DELTA_OUT, layer),), f"{name}.out")


def add_state_space(network: Network, layer: int, rows: str, mixer: StateSpace) -> str:
    """Add a state space with a scalar decay for each head (Mamba 2): linear attention that only forgets."""
    graph, name = network.graph, f"layers.{layer}.state"
    joined = linear(network, rows, (Ref(Role.STATE_IN, layer),), f"{name}.in")
    if mixer.scales:
        joined = graph.node("Mul", [joined, _scales(network, mixer, name)], f"{name}.scaled")
    gate, inner, time = (f"{name}.{part}" for part in ("gate", "inner", "time"))
    sizes = graph.integers(mixer.inner_size, mixer.conv_size, mixer.head_count)
    graph.nodes_out("Split", [joined, sizes], [gate, inner, time], axis=-1)
    mixed = _convolved(network, layer, inner, Role.STATE_CONV, f"{name}.conv", activation="silu")
    value, key, query = (f"{name}.{letter}" for letter in "vkq")
    shared = mixer.group_count * mixer.state_size
    sizes = graph.integers(mixer.inner_size, shared, shared)
    graph.nodes_out("Split", [mixed, sizes], [value, key, query], axis=-1)
    times = mixer.head_count // mixer.group_count
    query, key = (
        _repeated(network, each, mixer.group_count, mixer.state_size, times) for each in (query, key)
    )
    time = graph.node("Add", [time, vector(network, Ref(Role.STATE_TIME, layer))], f"{name}.later")
    step = graph.node("Softplus", [time], f"{name}.step")
    if mixer.times != (0.0, np.inf):
        step = graph.node("Clip", [step, *map(graph.real, mixer.times)], f"{name}.limited")
    slow = vector(network, Ref(Role.STATE_DECAY, layer), NegativeExp())
    decay = graph.node("Mul", [step, slow], f"{name}.decay")
    shape = graph.integers(0, 0, mixer.head_count, mixer.head_size)
    heads = graph.node("Reshape", [value, shape], f"{name}.heads")
    each = graph.node("Unsqueeze", [step, graph.integers(-1)], f"{name}.each")
    flat = graph.integers(0, 0, mixer.inner_size)
    weighed = graph.node(
        "Reshape", [graph.node("Mul", [heads, each], f"{name}.weighed"), flat], f"{name}.in.v"
    )
    state = [part.format(layer=layer, part="recurrent") for part in (STATE_IN, STATE_OUT)]
    graph.nodes_out(
        "LinearAttention",
        [query, key, weighed, state[0], decay],
        [f"{name}.seen", state[1]],
        domain=CONTRIB,
        q_num_heads=mixer.head_count,
        kv_num_heads=mixer.head_count,
        update_rule="gated",
        scale=1.0,
    )
    skip = vector(network, Ref(Role.STATE_SKIP, layer))
    skip = graph.node("Unsqueeze", [skip, graph.integers(-1)], f"{name}.skip")
    kept = graph.node("Mul", [heads, skip], f"{name}.kept")
    kept = graph.node("Reshape", [kept, flat], f"{name}.kept.rows")
    result = graph.node("Add", [f"{name}.seen", kept], f"{name}.result")
    gated = _gated(network, layer, result, gate, mixer)
    return linear(network, gated, (Ref(Role.STATE_OUT, layer),), f"{name}.out")


def _scales(network: Network, mixer: StateSpace, name: str) -> str:
    """Spread the multipliers over the rows that they are of."""
    shared = mixer.group_count * mixer.state_size
    sizes = (mixer.inner_size, mixer.inner_size, shared, shared, mixer.head_count)
    dtype = helper.tensor_dtype_to_np_dtype(network.graph.float_type)
    return network.graph.constant(np.repeat(mixer.scales, sizes).astype(dtype), f"{name}.scales")


def _gated(network: Network, layer: int, rows: str, gate: str, mixer: StateSpace) -> str:
    """Weigh by the gate, and normalize group by group, before or after."""
    graph, name = network.graph, f"layers.{layer}.state"
    active = graph.node("QuickGelu", [gate], f"{name}.act", domain=CONTRIB, alpha=1.0)
    if mixer.norm is None:
        return graph.node("Mul", [rows, active], f"{name}.gated")
    if not mixer.is_norm_first:
        rows = graph.node("Mul", [rows, active], f"{name}.gated")
    count = mixer.group_count
    size = mixer.inner_size // count
    groups = graph.node("Reshape", [rows, graph.integers(0, 0, count, size)], f"{name}.groups")
    plain = ones(graph, size)
    normed = graph.node("RMSNormalization", [groups, plain], f"{name}.plain", axis=-1, epsilon=mixer.norm.eps)
    flat = graph.node("Reshape", [normed, graph.integers(0, 0, mixer.inner_size)], f"{name}.flat")
    normed = graph.node("Mul", [flat, vector(network, Ref(Role.STATE_NORM, layer))], f"{name}.normed")
    return graph.node("Mul", [normed, active], f"{name}.last") if mixer.is_norm_first else normed


def _repeated(network: Network, rows: str, count: int, size: int, times: int) -> str:
    """Repeat each head for those that share it."""
    if times == 1:
        return rows
    graph = network.graph
    apart = graph.node("Reshape", [rows, graph.integers(0, 0, count, 1, size)], f"{rows}.apart")
    each = graph.node("Tile", [apart, graph.integers(1, 1, 1, times, 1)], f"{rows}.repeated")
    return graph.node("Reshape", [each, graph.integers(0, 0, count * times * size)], f"{rows}.each")


def add_short_convolution(network: Network, layer: int, rows: str) -> str:
    """Add a short convolution between two gates."""
    graph, name, size = network.graph, f"layers.{layer}.conv", network.decoder.hidden_size
    joined = linear(network, rows, (Ref(Role.CONV_IN, layer),), f"{name}.in")
    before, after, inner = (f"{name}.{part}" for part in ("before", "after", "inner"))
    graph.nodes_out("Split", [joined, graph.integers(size, size, size)], [before, after, inner], axis=-1)
    gated = graph.node("Mul", [before, inner], f"{name}.gated")
    mixed = _convolved(network, layer, gated, Role.CONV, f"{name}.mixed", activation="none")
    result = graph.node("Mul", [after, mixed], f"{name}.result")
    return linear(network, result, (Ref(Role.CONV_OUT, layer),), f"{name}.out")


def _convolved(network: Network, layer: int, rows: str, role: Role, name: str, *, activation: str) -> str:
    """Mix each channel with its last few values, which are the state."""
    graph, ref = network.graph, Ref(role, layer)
    channels, width = network.shapes[ref]
    piece = Piece(ref, channels, width)
    weight = graph.kernels(f"{name}.weight", [piece], network.storage.vector)
    bias = vector(network, Ref(role, layer, "bias")) if Ref(role, layer, "bias") in network.shapes else ""
    state = [each.format(layer=layer, part="conv") for each in (STATE_IN, STATE_OUT)]
    across = graph.node("Transpose", [rows], f"{name}.across", perm=[0, 2, 1])
    graph.nodes_out(
        "CausalConvWithState",
        [across, weight, bias, state[0]],
        [f"{name}.channels", state[1]],
        domain=CONTRIB,
        activation=activation,
    )
    return graph.node("Transpose", [f"{name}.channels"], name, perm=[0, 2, 1])


def _of_length_one(network: Network, rows: str, mixer: Delta) -> str:
    """Bring each head to length one, and repeat it for the values that share it."""
    graph, size, count = network.graph, mixer.key_size, mixer.key_head_count
    heads = graph.node("Reshape", [rows, graph.integers(0, 0, count, size)], f"{rows}.heads")
    dtype = helper.tensor_dtype_to_np_dtype(graph.float_type)
    weight = graph.constant(np.full(size, size**-0.5, dtype), f"length_one.{size}")
    epsilon = LENGTH_EPSILON / size
    short = graph.node("RMSNormalization", [heads, weight], f"{rows}.short", axis=-1, epsilon=epsilon)
    flat = graph.node("Reshape", [short, graph.integers(0, 0, count * size)], f"{rows}.rows")
    return _repeated(network, flat, count, size, mixer.value_head_count // count)
