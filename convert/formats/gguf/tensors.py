"""The tensors of a GGUF file: how llama.cpp names the roles, fuses some and wants some rearranged."""

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from convert.model.arrange import AddOne, Interleave, NegativeExp, Scale, Turn
from convert.model.decoder import Decoder, Latent, Parallel, Ref, Role, StateSpace
from convert.model.families import family
from convert.model.family import Gguf
from convert.writer.layout import Piece, by_turns

NAMES = {
    Role.EMBED: "token_embd",
    Role.EMBED_NORM: "token_embd_norm",
    Role.POSITION: "position_embd",
    Role.LAYER_EMBED: "per_layer_token_embd",
    Role.LAYER_EMBED_PROJECTION: "per_layer_model_proj",
    Role.LAYER_EMBED_NORM: "per_layer_proj_norm",
    Role.ATTN_NORM: "attn_norm",
    Role.ATTN_Q: "attn_q",
    Role.ATTN_K: "attn_k",
    Role.ATTN_V: "attn_v",
    Role.ATTN_Q_NORM: "attn_q_norm",
    Role.ATTN_K_NORM: "attn_k_norm",
    Role.ATTN_SINKS: "attn_sinks",
    Role.ATTN_OUT: "attn_output",
    Role.ATTN_POST_NORM: "post_attention_norm",
    Role.LATENT_Q_DOWN: "attn_q_a",
    Role.LATENT_Q_NORM: "attn_q_a_norm",
    Role.LATENT_Q_UP: "attn_q_b",
    Role.LATENT_KV_DOWN: "attn_kv_a_mqa",
    Role.LATENT_KV_NORM: "attn_kv_a_norm",
    Role.DELTA_Q: "attn_qkv",
    Role.DELTA_K: "attn_qkv",
    Role.DELTA_V: "attn_qkv",
    Role.DELTA_GATE: "attn_gate",
    Role.DELTA_BETA: "ssm_beta",
    Role.DELTA_ALPHA: "ssm_alpha",
    Role.DELTA_CONV: "ssm_conv1d",
    Role.DELTA_NORM: "ssm_norm",
    Role.DELTA_OUT: "ssm_out",
    Role.STATE_IN: "ssm_in",
    Role.STATE_CONV: "ssm_conv1d",
    Role.STATE_NORM: "ssm_norm",
    Role.STATE_OUT: "ssm_out",
    Role.CONV_IN: "shortconv.in_proj",
    Role.CONV: "shortconv.conv",
    Role.CONV_OUT: "shortconv.out_proj",
    Role.MLP_NORM: "ffn_norm",
    Role.MLP_GATE: "ffn_gate",
    Role.MLP_UP: "ffn_up",
    Role.MLP_DOWN: "ffn_down",
    Role.ROUTER: "ffn_gate_inp",
    Role.EXPERT_NARROW: "ffn_latent_down",
    Role.EXPERT_WIDE: "ffn_latent_up",
    Role.EXPERT_GATE: "ffn_gate_exps",
    Role.EXPERT_UP: "ffn_up_exps",
    Role.EXPERT_DOWN: "ffn_down_exps",
    Role.SHARED_ROUTER: "ffn_gate_inp_shexp",
    Role.SHARED_GATE: "ffn_gate_shexp",
    Role.SHARED_UP: "ffn_up_shexp",
    Role.SHARED_DOWN: "ffn_down_shexp",
    Role.DENSE_POST_NORM: "post_ffw_norm_1",
    Role.EXPERTS_NORM: "pre_ffw_norm_2",
    Role.EXPERTS_POST_NORM: "post_ffw_norm_2",
    Role.MLP_POST_NORM: "post_ffw_norm",
    Role.LAYER_INPUT_GATE: "inp_gate",
    Role.LAYER_INPUT_PROJECTION: "proj",
    Role.LAYER_INPUT_NORM: "post_norm",
    Role.LAYER_SCALE: "layer_output_scale",
    Role.NEXT_EMBED_NORM: "nextn.enorm",
    Role.NEXT_HIDDEN_NORM: "nextn.hnorm",
    Role.NEXT_PROJECTION: "nextn.eh_proj",
    Role.NEXT_NORM: "nextn.shared_head_norm",
    Role.NEXT_EMBED: "nextn.embed_tokens",
    Role.NEXT_HEAD: "nextn.shared_head_head",
    Role.FINAL_NORM: "output_norm",
    Role.HEAD: "output",
}
# Whole names, of what is no module's weight or bias.
WHOLE_NAMES = {
    Role.ROUTER_SELECTION: "exp_probs_b.bias",
    Role.ROUTER_NORM: "ffn_gate_inp.scale",
    Role.EXPERT_SHARES: "ffn_down_exps.scale",
    Role.DELTA_TIME: "ssm_dt.bias",
    Role.DELTA_DECAY: "ssm_a",
    Role.STATE_TIME: "ssm_dt.bias",
    Role.STATE_DECAY: "ssm_a",
    Role.STATE_SKIP: "ssm_d",
}


@dataclass(frozen=True, slots=True)
class FileTensor:
    """A tensor of the file before its type is chosen; `shape` is ([experts,] rows, columns), or (n,)."""

    name: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...] = ()
    data: bytes = b""  # of a tensor that is computed rather than read, in float32

    @property
    def is_matrix(self) -> bool:
        return math.prod(self.shape[:-1]) > 1  # as ggml counts dimensions


def parameter_counts(tensors: Sequence[FileTensor]) -> tuple[int, int, int, int]:
    """Count all parameters, those outside of experts, those of one expert, and experts, as gguf-py does."""
    stacks = [each.shape for each in tensors if "_exps." in each.name and len(each.shape) > 2]
    total = sum(math.prod(each.shape) for each in tensors)
    apart = sum(math.prod(shape) for shape in stacks)
    one = sum(math.prod(shape[1:]) for shape in stacks)
    return total, total - apart, one, sum(shape[0] for shape in stacks) // max(1, len(stacks))


def find_graph(decoder: Decoder) -> Gguf | None:
    """Find what llama.cpp has for a model's family, if anything."""
    graph = family(decoder.graph or decoder.family).gguf
    return graph.of(decoder) if graph else None


def graph_of(decoder: Decoder) -> Gguf:
    """Give what llama.cpp has for a family that is not refused."""
    graph = find_graph(decoder)
    if graph is None:
        raise ValueError(f"{decoder.family} is refused where a conversion is planned")
    return graph


def name_of(graph: Gguf, ref: Ref) -> str:
    """Spell a tensor's name in the file."""
    whole = graph.names.get((ref.role, ref.part)) or WHOLE_NAMES.get(ref.role)
    stem = whole or f"{graph.names.get(ref.role) or NAMES[ref.role]}.{ref.part}"
    return stem if ref.layer is None else f"blk.{ref.layer}.{stem}"


def file_tensors(decoder: Decoder) -> Iterator[FileTensor]:
    """List the tensors of the file in the model's order."""
    graph = graph_of(decoder)
    yield from _computed(decoder, graph)
    pieces: dict[str, list[Piece]] = defaultdict(list)
    shapes: dict[str, tuple[int, ...]] = {}
    experts: dict[str, set[int]] = defaultdict(set)
    row_counts: Counter[str] = Counter()
    for ref, shape in decoder.shapes():
        if ref.role is Role.LATENT_KV_UP:
            for tensor in _latent(decoder, ref):
                pieces[tensor.name], shapes[tensor.name] = list(tensor.pieces), tensor.shape
            continue
        name = name_of(graph, ref)
        own = _pieces(decoder, graph, ref, shape)
        pieces[name] += own
        row_counts[name] += sum(piece.out_rows for piece in own)
        if ref.expert is not None:
            experts[name].add(ref.expert)
        shapes[name] = (row_counts[name] // max(1, len(experts[name])), *shape[1:])
        if (role_shape := graph.shapes.get(ref.role)) and ref.part == "weight":
            shapes[name] = role_shape(decoder, ref.layer or 0)
        elif state_shape := _state_shape(decoder, ref):
            shapes[name] = state_shape
    for name, parts in pieces.items():
        stack = (len(experts[name]),) if experts[name] else ()
        yield FileTensor(name, (*stack, *shapes[name]), by_turns(parts, decoder, graph.runs))


def _pieces(decoder: Decoder, graph: Gguf, ref: Ref, shape: tuple[int, ...]) -> list[Piece]:
    piece = Piece(ref, shape[0], shape[1] if len(shape) > 1 else 1)
    if arranged := graph.arranged.get(ref.role):
        arrange, group_rows = arranged(decoder, ref.layer or 0)
        piece = replace(piece, arrange=arrange, group_rows=group_rows)
    elif graph.is_interleaved and ref.role in (Role.ATTN_Q, Role.ATTN_K) and ref.layer is not None:
        if head_size := _turned_size(decoder, ref.layer):
            piece = replace(piece, arrange=Interleave(head_size), group_rows=head_size)
    elif ref.role is Role.STATE_DECAY:
        piece = replace(piece, arrange=NegativeExp())
    elif decoder.has_offset(ref):
        piece = replace(piece, arrange=AddOne())
    if graph.scaled and (scaled := graph.scaled(decoder, ref.layer or 0).get(ref.role)):
        starts = itertools.accumulate((count for count, _ in scaled), initial=0)
        return [
            replace(piece, first_row=first, rows=count or shape[0], arrange=Scale(factors))
            for first, (count, factors) in zip(starts, scaled, strict=False)
        ]
    if order := graph.order.get(ref.role):
        runs = order(decoder, ref.layer or 0)
        return [replace(piece, first_row=first, rows=count) for first, count in runs]
    return [piece]


def _state_shape(decoder: Decoder, ref: Ref) -> tuple[int, ...] | None:
    """Say how the graphs of state spaces want what has a number for each head, or a row for each group."""
    mixer = decoder.layers[ref.layer].mixer if ref.layer is not None else None
    state = mixer.state if isinstance(mixer, Parallel) else mixer
    if not isinstance(state, StateSpace):
        return None
    if ref.role in (Role.STATE_DECAY, Role.STATE_SKIP):
        return (state.head_count, 1)
    if ref.role is Role.STATE_NORM:
        return (state.group_count, state.inner_size // state.group_count)
    return None


def _turned_size(decoder: Decoder, layer: int) -> int:
    """Say how long the heads are whose halves are brought together; 0 where the source has them so."""
    attention = decoder.layers[layer].attention
    rope = attention.rope or decoder.rope if attention else None
    if attention is None or (rope and rope.is_interleaved):
        return 0
    return attention.head_size


def _latent(decoder: Decoder, ref: Ref) -> Iterator[FileTensor]:
    """Part what makes keys and values, head by head; the keys' part is turned, and so goes to the queries."""
    mixer = decoder.layers[ref.layer or 0].mixer
    if not isinstance(mixer, Latent):
        raise TypeError(f"{ref} is of no latent attention")
    keys, values, heads = mixer.plain_size, mixer.value_size, range(mixer.head_count)
    rank, step = mixer.kv_rank, mixer.plain_size + mixer.value_size
    turned = Piece(ref, keys, rank, Turn(keys), keys, is_turned=True)
    yield FileTensor(
        f"blk.{ref.layer}.attn_k_b.weight",
        (mixer.head_count, rank, keys),
        tuple(replace(turned, first_row=head * step) for head in heads),
    )
    yield FileTensor(
        f"blk.{ref.layer}.attn_v_b.weight",
        (mixer.head_count, values, rank),
        tuple(Piece(ref, values, rank, first_row=head * step + keys) for head in heads),
    )


def _computed(decoder: Decoder, graph: Gguf) -> Iterator[FileTensor]:
    """Make the tensors of rotary factors, where positions are scaled by frequency."""
    for name, values in graph.computed(decoder) if graph.computed else ():
        yield _vector(name, values)
    if decoder.rope is None or decoder.rope.scaling is None:
        return
    scaling = decoder.rope.scaling
    if scaling.kind == "llama3":
        yield _vector("rope_freqs.weight", llama3_factors(decoder))
    elif scaling.kind == "longrope":
        yield _vector("rope_factors_long.weight", np.array(scaling.long_factors, np.float32))
        yield _vector("rope_factors_short.weight", np.array(scaling.short_factors, np.float32))


def _vector(name: str, values: NDArray[np.float32]) -> FileTensor:
    return FileTensor(name, values.shape, data=values.tobytes())


def llama3_factors(decoder: Decoder) -> NDArray[np.float32]:
    """Compute how much each frequency is slowed: fast ones not, slow ones by the factor, smoothly between."""
    rope = decoder.rope
    if rope is None or rope.scaling is None:
        raise ValueError("a decoder without scaled rotary positions has no factors")
    scaling = rope.scaling
    exponents = np.arange(0, rope.dimensions, 2, dtype=np.float32) / np.float32(rope.dimensions)
    frequencies = np.float32(1) / np.float32(rope.theta) ** exponents
    slow_wavelength = scaling.original_context_length / scaling.low_freq_factor
    fast_wavelength = scaling.original_context_length / scaling.high_freq_factor
    factors = []
    for frequency in frequencies:
        wavelength = 2 * math.pi / float(frequency)
        if wavelength < fast_wavelength:
            factors.append(1.0)
        elif wavelength > slow_wavelength:
            factors.append(scaling.factor)
        else:
            smooth = (scaling.original_context_length / wavelength - scaling.low_freq_factor) / (
                scaling.high_freq_factor - scaling.low_freq_factor
            )
            factors.append(1 / ((1 - smooth) / scaling.factor + smooth))
    return np.array(factors, np.float32)
