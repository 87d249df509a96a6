"""The tensors of a checkpoint as Transformers names, joins and turns them."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from convert.checkpoint import TensorInfo
from convert.model.binding import is_stacked, is_transposed, name_of
from convert.model.decoder import Decoder, Origin, Ref, Role
from convert.model.families import family
from convert.model.family import Naming
from convert.model.further import after, next_shapes
from convert.model.source import Weights
from convert.writer.layout import Piece, by_turns

Float = Literal["F32", "F16", "BF16"]
# What a stored type is written as where it is kept; what is wider than F32 or narrower than 16 bits changes.
KEPT_AS: dict[str, Float] = {
    "F64": "F32",
    "F32": "F32",
    "F16": "F16",
    "BF16": "BF16",
    "F8_E4M3": "BF16",
    "F8_E5M2": "BF16",
}

CONVOLUTIONS = {Role.DELTA_CONV, Role.STATE_CONV, Role.CONV}


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor of the checkpoint: its name and shape in the file, and what it is made of."""

    name: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]
    is_turned: bool = False  # stored (in, out)


def stored_tensors(decoder: Decoder, *, has_next_layers: bool = False) -> tuple[Stored, ...]:
    """List them in the model's order, by the naming of the family's own architecture."""
    naming = family(decoder.family).naming.of(decoder)
    found = named_tensors(naming, ((ref, ref, shape) for ref, shape in decoder.shapes()))
    if not (has_next_layers and naming.next):
        return found
    further = ((ref, after(decoder, ref), shape) for ref, shape in next_shapes(decoder))
    return (*found, *named_tensors(naming.next, further))


def named_tensors(naming: Naming, shapes: Iterable[tuple[Ref, Ref, tuple[int, ...]]]) -> tuple[Stored, ...]:
    """List tensors, each by its own layer's number in the naming and in the whole model."""
    pieces: dict[str, list[Piece]] = defaultdict(list)
    ranks: dict[str, int] = {}
    stacks: dict[str, set[int]] = defaultdict(set)
    turned: set[str] = set()
    for ref, placed, shape in shapes:
        name = name_of(naming, ref)
        ranks[name] = len(shape)
        pieces[name].append(Piece(placed, shape[0], shape[1] if len(shape) > 1 else 1))
        if is_stacked(naming, ref):
            stacks[name].add(ref.expert or 0)
        if is_transposed(naming, ref):
            turned.add(name)
    return tuple(
        Stored(
            name,
            _shape(parts, ranks[name], len(stacks[name]), is_turned=name in turned),
            tuple(parts),
            name in turned,
        )
        for name, parts in pieces.items()
    )


def _shape(parts: list[Piece], rank: int, stack: int, *, is_turned: bool) -> tuple[int, ...]:
    """Say how a tensor is shaped in the file; a convolution's have one channel in, and so an axis more."""
    rows, columns = sum(piece.rows for piece in parts) // max(1, stack), parts[0].columns
    shape: tuple[int, ...] = (rows, columns)[:rank]
    if parts[0].ref.role in CONVOLUTIONS and parts[0].ref.part == "weight":
        shape = (rows, 1, columns)
    shape = shape[::-1] if is_turned else shape
    return (stack, *shape) if stack else shape


def copied(stored: tuple[Stored, ...], decoder: Decoder, weights: Weights) -> tuple[Stored, ...]:
    """Take each tensor whole where the source has the family's own naming: no role is parted or turned."""
    tensors = weights.checkpoint.tensors
    if not weights.is_canonical:
        runs = family(decoder.family).naming.of(decoder).runs
        return tuple(replace(each, pieces=by_turns(each.pieces, decoder, runs)) for each in stored)
    return tuple(_copied(each, tensors[weights.origins[each.pieces[0].ref].name]) for each in stored)


def _copied(each: Stored, info: TensorInfo) -> Stored:
    ref = each.pieces[0].ref
    if len(info.shape) > 2 and ref.role not in CONVOLUTIONS:
        rows, columns = info.shape[1], math.prod(info.shape[2:])
        places = [Origin(info.name, index=index) for index in range(info.shape[0])]
    else:
        rows, columns = (info.shape or (1,))[0], math.prod(info.shape[1:])
        places = [Origin(info.name)]
    pieces = tuple(Piece(ref, rows, columns, origin=place) for place in places)
    return Stored(each.name, info.shape, pieces)


def source_types(stored: tuple[Stored, ...], weights: Weights) -> dict[str, str]:
    """Say what each is stored as in the source; where parts of different types join, F32 holds them all."""
    tensors, origins = weights.checkpoint.tensors, weights.origins
    found: dict[str, str] = {}
    for each in stored:
        types = {tensors[(piece.origin or origins[piece.ref]).name].dtype for piece in each.pieces}
        found[each.name] = types.pop() if len(types) == 1 else "F32"
    return found


def is_canonical(stored: tuple[Stored, ...], weights: Weights) -> bool:
    """Tell whether the source's own files hold these very tensors, by these names, and no others."""
    tensors = weights.checkpoint.tensors
    return (
        weights.is_canonical
        and weights.checkpoint.is_stored
        and set(tensors) == {each.name for each in stored}
        and all(
            tensors[each.name].shape == each.shape
            and tensors[each.name].dtype in KEPT_AS.values()
            and tensors[each.name].stored_as is None
            and tensors[each.name].file.suffix == ".safetensors"
            for each in stored
        )
    )
