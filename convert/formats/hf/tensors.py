"""The tensors of a checkpoint as Transformers names, joins and turns them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from convert.model.binding import is_transposed, name_of
from convert.model.decoder import Decoder, Origin, Ref
from convert.model.families import family
from convert.model.source import Weights
from convert.writer.layout import Piece

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


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor of the checkpoint: its name and shape in the file, and what it is made of."""

    name: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]
    is_turned: bool = False  # stored (in, out)


def stored_tensors(decoder: Decoder) -> tuple[Stored, ...]:
    """List them in the model's order, by the naming of the family's own architecture."""
    naming = family(decoder.family).naming
    pieces: dict[str, list[Piece]] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    turned: set[str] = set()
    for ref, shape in decoder.shapes():
        name = name_of(naming, ref)
        rows = shapes.get(name, (0,))[0] + shape[0]
        shapes[name] = (rows, *shape[1:])
        pieces.setdefault(name, []).append(Piece(ref, shape[0], shape[1] if len(shape) > 1 else 1))
        if is_transposed(naming, ref):
            turned.add(name)
    return tuple(
        Stored(name, shapes[name][::-1] if name in turned else shapes[name], tuple(parts), name in turned)
        for name, parts in pieces.items()
    )


def source_types(stored: tuple[Stored, ...], weights: Weights) -> dict[str, str]:
    """Say what each is stored as in the source; where parts of different types join, F32 holds them all."""
    tensors, origins = weights.checkpoint.tensors, weights.origins
    found: dict[str, str] = {}
    for each in stored:
        types = {tensors[origins[piece.ref].name].dtype for piece in each.pieces}
        found[each.name] = types.pop() if len(types) == 1 else "F32"
    return found


def is_canonical(stored: tuple[Stored, ...], weights: Weights) -> bool:
    """Tell whether the source's own files hold these very tensors, by these names, and no others."""
    tensors = weights.checkpoint.tensors
    return set(tensors) == {each.name for each in stored} and all(
        tensors[each.name].shape == each.shape
        and tensors[each.name].dtype in KEPT_AS.values()
        and tensors[each.name].file.suffix == ".safetensors"
        and _is_whole(each, weights.origins)
        for each in stored
    )


def _is_whole(each: Stored, origins: Mapping[Ref, Origin]) -> bool:
    row = 0
    for piece in each.pieces:
        origin = origins[piece.ref]
        if (origin.name, origin.first_row, origin.is_transposed) != (each.name, row, each.is_turned):
            return False
        row += piece.rows
    return True
