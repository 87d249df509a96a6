"""The tensors of a GGUF file: how llama.cpp names the roles, fuses some and wants some rearranged."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convert.model.decoder import Decoder, Ref, Role
from convert.model.families import family
from convert.model.family import Gguf
from convert.writer.layout import AddOne, Piece

NAMES = {
    Role.EMBED: "token_embd",
    Role.POSITION: "position_embd",
    Role.ATTN_NORM: "attn_norm",
    Role.ATTN_Q: "attn_q",
    Role.ATTN_K: "attn_k",
    Role.ATTN_V: "attn_v",
    Role.ATTN_Q_NORM: "attn_q_norm",
    Role.ATTN_K_NORM: "attn_k_norm",
    Role.ATTN_OUT: "attn_output",
    Role.MLP_NORM: "ffn_norm",
    Role.MLP_GATE: "ffn_gate",
    Role.MLP_UP: "ffn_up",
    Role.MLP_DOWN: "ffn_down",
    Role.FINAL_NORM: "output_norm",
    Role.HEAD: "output",
}


@dataclass(frozen=True, slots=True)
class Interleave:
    """Bring the two halves of each head's rows into neighboring rows."""

    head_size: int

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        halves = rows.reshape(-1, 2, self.head_size // 2, rows.shape[1])
        return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)


@dataclass(frozen=True, slots=True)
class FileTensor:
    """A tensor of the file before its type is chosen; `shape` is (rows, columns), or (n,)."""

    name: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...] = ()
    data: bytes = b""  # of a tensor that is computed rather than read, in float32

    @property
    def is_matrix(self) -> bool:
        return len(self.shape) > 1


def graph_of(decoder: Decoder) -> Gguf:
    """Find what llama.cpp has for a model's family."""
    graph = family(decoder.family).gguf
    if graph is None:
        raise ValueError(f"{decoder.family} is refused where a conversion is planned")
    return graph


def file_tensors(decoder: Decoder) -> Iterator[FileTensor]:
    """List the tensors of the file in the model's order."""
    graph = graph_of(decoder)
    yield from _computed(decoder)
    pieces: dict[str, list[Piece]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for ref, shape in decoder.shapes():
        stem = graph.names.get(ref.role, NAMES[ref.role])
        name = f"{stem}.{ref.part}" if ref.layer is None else f"blk.{ref.layer}.{stem}.{ref.part}"
        pieces.setdefault(name, []).append(_piece(decoder, graph, ref, shape))
        rows = shapes.get(name, (0,))[0] + shape[0]
        shapes[name] = (rows, *shape[1:])
    for name, parts in pieces.items():
        yield FileTensor(name, shapes[name], tuple(parts))


def _piece(decoder: Decoder, graph: Gguf, ref: Ref, shape: tuple[int, ...]) -> Piece:
    columns = shape[1] if len(shape) > 1 else 1
    if graph.is_interleaved and ref.role in (Role.ATTN_Q, Role.ATTN_K):
        head_size = decoder.layer.mixer.head_size
        return Piece(ref, shape[0], columns, Interleave(head_size), head_size)
    if decoder.has_offset(ref):
        return Piece(ref, shape[0], columns, AddOne())
    return Piece(ref, shape[0], columns)


def _computed(decoder: Decoder) -> Iterator[FileTensor]:
    """Make the tensors of rotary factors, where positions are scaled by frequency."""
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
