"""NVFP4's scale of all scales: a separate tensor next to each matrix that llama.cpp multiplies by it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from convert.errors import UsageFailure
from convert.formats.gguf.mixture import MIXTURES
from convert.formats.gguf.tensors import FileTensor, graph_of
from convert.model.decoder import Role
from convert.model.feature import Feature
from convert.writer.codecs.nvfp4 import Nvfp4, scale_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from convert.formats.gguf.importance import Importance
    from convert.model.decoder import Decoder
    from convert.model.source import Weights
    from convert.progress import Progress
    from convert.writer.layout import Piece

    # Of each tensor, one number a matrix: an expert has its own.
    Scales = Mapping[str, NDArray[np.float32]]

# What most weights of a layer are in.
LARGE = frozenset({Role.MLP_UP, Role.EXPERT_UP, Role.SHARED_UP})


def scalable(decoder: Decoder, listed: Iterable[FileTensor]) -> frozenset[str]:
    """Name the matrices that the model's graph multiplies by a scale."""
    listed = tuple(listed)
    graph, taken = graph_of(decoder), {each.name for each in listed}
    return frozenset(
        each.name
        for each in listed
        if each.is_matrix
        and each.pieces
        and {piece.ref.role for piece in each.pieces} <= graph.scales
        and each.name.endswith(".weight")
        and scale_name(each.name) not in taken
    )


def require_scales(decoder: Decoder, listed: Iterable[FileTensor], quant: str) -> None:
    """Refuse NVFP4 where llama.cpp would leave its scales out of account, or end the process for them."""
    if MIXTURES[quant].scaled is None:
        return
    graph, why = graph_of(decoder), ""
    roles = {piece.ref.role for each in listed for piece in each.pieces}
    if not roles & graph.scales or (roles & LARGE) - graph.scales:
        why = f"llama.cpp's graph of {graph.architecture} does not multiply all of it by scales"
    elif Feature.MLP_BIAS in decoder.features:
        why = "llama.cpp ends the process for scales next to an MLP's biases"
    if why:
        raise UsageFailure(f"{quant}: {why}", "take Q4_K_M, or nvfp4 of compressed-tensors or mlx")


def scale_name(name: str) -> str:
    """Name the tensor of a matrix's scales."""
    return name.removesuffix(".weight") + ".scale"


def measure_scales(
    decoder: Decoder, listed: Sequence[FileTensor], weights: Weights, progress: Progress
) -> Scales:
    """Find the largest weight of each matrix, and the scale that follows from it."""
    names = scalable(decoder, listed)
    tensors = {each.name: each for each in listed if each.name in names}
    matrices: dict[str, list[Piece]] = {}
    for name, tensor in tensors.items():
        for piece in tensor.pieces:
            matrices.setdefault(f"{name}/{piece.ref.expert or 0}", []).append(piece)
    from convert.writer.measure import largest  # noqa: PLC0415 - the engine, once there are weights to read

    origins = weights.origins
    sources = {(piece.origin or origins[piece.ref]).name for pieces in matrices.values() for piece in pieces}
    stored = weights.checkpoint.tensors
    with progress.stage("global scales", sum(stored[each].size_bytes for each in sources)) as advance:
        found = largest(weights.checkpoint, origins, matrices, advance=advance)
    return {
        name: np.array(
            [scale_of(found[f"{name}/{number}"]) for number in range(count_of(tensor))], np.float32
        )
        for name, tensor in tensors.items()
    }


def count_of(tensor: FileTensor) -> int:
    """Count the matrices of a tensor: one, or one an expert."""
    return tensor.shape[0] if len(tensor.shape) > 2 else 1


def with_scales(
    listed: Iterable[FileTensor], scaled: frozenset[str], measured: Scales
) -> tuple[list[FileTensor], Scales]:
    """Add the scales to the file; until they are measured, each is one."""
    scales: dict[str, NDArray[np.float32]] = {}
    tensors = []
    for each in listed:
        tensors.append(each)
        if each.name in scaled:
            values = measured.get(each.name, np.ones(count_of(each), np.float32))
            scales[each.name] = values
            tensors.append(FileTensor(scale_name(each.name), values.shape, data=values.tobytes()))
    return tensors, scales


def codecs_of(
    tensor: FileTensor, scales: NDArray[np.float32], importance: Importance | None
) -> tuple[Nvfp4, tuple[Piece, ...]]:
    """Say how each piece is encoded, by the scale and the importance of its matrix."""
    found = importance.values.get(tensor.name) if importance else None
    columns = None if found is None else [each.tobytes() for each in found.reshape(-1, tensor.shape[-1])]
    codecs = []
    for piece in tensor.pieces:
        place = piece.ref.expert or 0
        weights = None if columns is None else columns[place if len(columns) > 1 else 0]
        codecs.append(Nvfp4(float(scales[place]), weights))
    pieces = zip(tensor.pieces, codecs, strict=True)
    return codecs[0], tuple(replace(piece, codec=codec) for piece, codec in pieces)
