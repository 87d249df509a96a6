"""What the quantization of a checkpoint leaves, and what it takes of memory, disk and time."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from convert.formats.hf.tensors import Stored
from convert.model.decoder import Decoder, Role
from convert.quantizer import Matrix, Method
from convert.writer.codecs.plain import WIDTH_BYTES
from convert.writer.speed import Speeds

# The interpreter with torch, transformers and GPTQModel imported, before any model: 0.6 GiB.
PROGRAM_BYTES = 700 << 20
# Operations a second of a GPU: a guess well below what one reaches in large products.
GPU_FLOPS = 2e13
# Times as long as in large products of float32: these are small, and the solver goes column by column.
SLOWNESS = 2.1
# GPTQModel's AWQ tries so many scales for each group of matrices, each by a pass of all tokens, and then so
# many clips on so many tokens, weight by weight rather than by products.
AWQ_SCALES, AWQ_CLIPS, AWQ_CLIP_TOKENS, AWQ_CLIP_SLOWNESS = 20, 10, 512, 10
# What is said of joined matrices was found of these; the joined ones of other mixers make no difference.
JOINED = frozenset({Role.ATTN_Q, Role.MLP_GATE})
# GPTQModel leaves these as they are: they are small, and choose or weigh what comes after them.
LEFT_OUT = frozenset(
    {Role.ROUTER, Role.ROUTER_SELECTION, Role.SHARED_ROUTER, Role.DELTA_BETA, Role.DELTA_ALPHA}
)
NORMS = frozenset({Role.ATTN_Q_NORM, Role.ATTN_K_NORM})  # which may have a row for each head
# To start, to load, to import, and to write what was made.
START_S = 6.5


def matrices(stored: Sequence[Stored]) -> tuple[Matrix, ...]:
    """List what is quantized: the matrices of every layer, joined ones as one."""
    return tuple(
        Matrix(
            each.name.removesuffix(".weight"),
            sum(piece.rows for piece in each.pieces),
            each.pieces[0].columns,
            is_transposed=each.is_turned,
            is_joined=len(each.pieces) > 1 and each.pieces[0].ref.role in JOINED,
            is_gated=len(each.pieces) > 1 and each.pieces[0].ref.role == Role.MLP_GATE,
        )
        for each in stored
        if len(each.shape) == 2
        and each.pieces[0].ref.layer is not None
        and each.pieces[0].ref.role not in LEFT_OUT | NORMS
    )


def left_out(stored: Sequence[Stored]) -> tuple[str, ...]:
    """List the matrices of layers that stay as they are."""
    return tuple(
        each.name.removesuffix(".weight")
        for each in stored
        if len(each.shape) == 2 and each.pieces[0].ref.role in LEFT_OUT and each.name.endswith(".weight")
    )


def result_bytes(stored: Sequence[Stored], types: Mapping[str, str], *, bits: int, group_size: int) -> int:
    """Count what the artifact's weights take."""
    return sum(size for _, size in tensor_bytes(stored, types, bits=bits, group_size=group_size))


def tensor_bytes(
    stored: Sequence[Stored], types: Mapping[str, str], *, bits: int, group_size: int
) -> Iterator[tuple[Stored, int]]:
    """Count what each tensor takes: packed weights, scales in F16, packed zeros, group numbers."""
    quantized = {each.name: each for each in matrices(stored)}
    for each in stored:
        matrix = quantized.get(each.name.removesuffix(".weight"))
        if matrix is None or not each.name.endswith(".weight"):
            yield each, math.prod(each.shape) * WIDTH_BYTES[types[each.name]]
            continue
        groups = matrix.columns // group_size if group_size > 0 else 1
        packed = matrix.rows * (matrix.columns + groups) * bits // 8
        yield each, packed + 2 * matrix.rows * groups + 4 * matrix.columns


def memory_bytes(method: Method, decoder: Decoder, stored: Sequence[Stored], token_count: int) -> int:
    """Bound the peak: what never leaves, two layers in float32, their Hessians, and the tokens' states.

    A layer is read, measured, solved and written before the next; what stays are the embeddings and the
    head, and every calibration token's state, as it goes into the layer and as it comes out. AWQ also keeps
    what goes into each matrix of the layer, and two copies of it.
    """
    layers: dict[int | None, list[Stored]] = defaultdict(list)
    for each in stored:
        layers[each.pieces[0].ref.layer].append(each)
    outside_bytes = 4 * sum(math.prod(each.shape) for each in layers.pop(None, []))
    state_bytes = 2 * 4 * token_count * decoder.hidden_size
    within_bytes = max(_layer_bytes(method, decoder, layer, token_count) for layer in layers.values())
    return PROGRAM_BYTES + outside_bytes + state_bytes + within_bytes


def _layer_bytes(method: Method, decoder: Decoder, layer: Sequence[Stored], token_count: int) -> int:
    weight_bytes = 4 * sum(math.prod(each.shape) for each in layer)
    found = matrices(layer)
    if method == "gptq":
        # The Hessian, its copy while it is factored, and the inverse. Each expert has one for itself.
        widths = [matrix.columns for matrix in found]
        own = [width for each in layer if each.pieces[0].ref.expert is not None for width in _widths([each])]
        squares = sum(width * width for width in (*set(widths), *own))
        return 2 * weight_bytes + 3 * 4 * max(widths, default=0) ** 2 + 4 * squares
    columns = sum(decoder.reach(each.pieces[0].ref) * width for each in layer for width in _widths([each]))
    within = columns + 2 * max((matrix.rows for matrix in found), default=0)
    return 4 * weight_bytes + int(2 * 4 * token_count * within)


def _widths(stored: Sequence[Stored]) -> list[int]:
    return [matrix.columns for matrix in matrices(stored)]


def seconds(
    method: Method,
    decoder: Decoder,
    stored: Sequence[Stored],
    token_count: int,
    *,
    threads: int,
    speeds: Speeds | None,
) -> float:
    """Estimate from the products: the tokens through every matrix twice, its Hessian, and its solution.

    Without speeds it is a GPU's, of which nothing is measured.
    """
    flops = 0.0
    for each in stored:
        reached = token_count * decoder.reach(each.pieces[0].ref)
        for matrix in matrices([each]):
            once = 2.0 * matrix.rows * matrix.columns
            if method == "gptq":
                hessian = 2.0 * reached * matrix.columns**2
                solution = 2.0 * matrix.columns**3 + once * matrix.columns
                flops += 2 * reached * once + hessian + solution
            else:
                clips = AWQ_CLIPS * min(reached, AWQ_CLIP_TOKENS) * AWQ_CLIP_SLOWNESS
                flops += ((2 + AWQ_SCALES) * reached + clips) * once
    if speeds is None:
        return START_S + flops / GPU_FLOPS
    return START_S + SLOWNESS * speeds.products_s(flops) / threads
