"""The tensors as mlx-lm's model files name and shape them, and what each becomes."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from convert.formats.hf.shards import Entry, index, pack_header, split
from convert.formats.hf.tensors import CONVOLUTIONS, KEPT_AS, Float, Stored, named_tensors
from convert.formats.mlx.options import Quant
from convert.learning.asking import Asked
from convert.model.decoder import Decoder, Part, Ref, Role
from convert.model.families import family
from convert.model.family import Mlx, Naming
from convert.writer.codecs import Codec
from convert.writer.codecs.compensated import Searched
from convert.writer.codecs.mlx import SIZES, Affine, SmallFloat
from convert.writer.codecs.plain import Plain
from convert.writer.layout import Layout, Slot, by_turns

EXPERTS = re.compile(r"\bexperts\.\{expert\}\.")
# What mlx-lm's model files ask for of some matrices.
WIDE_BITS, WIDE_GROUP = 8, 64
NOTHING: Mapping[str, "Packed"] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Packed:
    """How matrices are quantized: MLX's mode, bits, and weights that share a scale."""

    mode: str
    bits: int
    group_size: int
    is_searched: bool = False

    def codec(self, dtype: Float) -> Codec:
        """Return what encodes it."""
        stored: Affine | SmallFloat
        if self.mode == "affine":
            stored = Affine(self.bits, self.group_size, dtype)  # type: ignore[arg-type]  # MLX's own
        else:
            stored = SmallFloat(self.mode, dtype)  # type: ignore[arg-type]  # one of its three
        return Searched(stored) if self.is_searched else stored


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the files, or a matrix with its scales."""

    name: str
    entries: tuple[Entry, ...]  # one a plane
    slot: Slot  # whose offsets are yet to be found
    is_wide: bool = False  # by what mlx-lm asks for of this matrix
    is_left: bool = False  # a matrix whose rows cannot be cut into groups
    how: Packed | None = None  # what was asked for, of what is quantized


def model_of(decoder: Decoder) -> Mlx:
    """Find what mlx-lm has for a family."""
    return family(decoder.family).mlx or Mlx()


def packed(quant: Quant, group_size: int, *, is_searched: bool) -> Packed | None:
    """Say how an option's matrices are quantized; None where they are not."""
    if quant.is_plain:
        return None
    if quant.bits:
        return Packed("affine", quant.bits, group_size, is_searched)
    return Packed(quant.value, *SIZES[quant.value], is_searched)  # type: ignore[index]


def stored_tensors(decoder: Decoder) -> tuple[Stored, ...]:
    """List the tensors in the model's order, before anything is quantized."""
    mlx, naming = model_of(decoder), _naming(decoder)
    found = named_tensors(naming, ((ref, ref, shape) for ref, shape in decoder.shapes()))
    return tuple(_stored(each, decoder, mlx, naming) for each in found)


def tensors(
    stored: Iterable[Stored],
    decoder: Decoder,
    how: Packed | None,
    types: Mapping[str, Float],
    asked: Asked | None = None,
    *,
    own: Mapping[str, Packed] = NOTHING,
) -> tuple[Tensor, ...]:
    """Say what each becomes; `types` are those of the tensors and of the scales, `own` is chosen of some."""
    return tuple(_tensor(each, decoder, own.get(each.name, how), types[each.name], asked) for each in stored)


def float_types(
    source_types: Mapping[str, str], stored: Iterable[Stored], decoder: Decoder, dtype: Float
) -> dict[str, Float]:
    """Say what each is rounded to: one type for all, but for those that mlx-lm computes apart."""
    exact = model_of(decoder).exact
    return {
        each.name: KEPT_AS.get(source_types[each.name], "F32") if _ref(each).role in exact else dtype
        for each in stored
    }


def layouts(found: Iterable[Tensor], max_bytes: int) -> tuple[tuple[Layout, ...], dict[str, bytes]]:
    """Lay the files out, a matrix and its scales in the same; the second value is the index."""
    of_name = {each.name: each for each in found}
    whole = [Entry(name, "", (), sum(e.size_bytes for e in each.entries)) for name, each in of_name.items()]
    shards = {
        path: [of_name[entry.name] for entry in entries] for path, entries in split(whole, max_bytes).items()
    }
    files = {path: [entry for each in parts for entry in each.entries] for path, parts in shards.items()}
    return tuple(_layout(path, parts, files[path]) for path, parts in shards.items()), index(files)


def _layout(path: str, parts: Iterable[Tensor], entries: list[Entry]) -> Layout:
    header, offsets = pack_header(entries, "mlx", keeps_order=True)
    slots = tuple(
        replace(each.slot, offsets_bytes=tuple(offsets[entry.name] for entry in each.entries))
        for each in parts
    )
    return Layout(path, len(header) + sum(each.size_bytes for each in entries), ((0, header),), slots)


def _naming(decoder: Decoder) -> Naming:
    mlx, own = model_of(decoder), family(decoder.family).naming.of(decoder)
    names: dict[Role | tuple[Role, Part], str] = {
        key: EXPERTS.sub("switch_mlp.", name)
        for key, name in own.names.items()
        if (key[0] if isinstance(key, tuple) else key) not in mlx.names
    }
    return replace(
        own,
        names=names | dict(mlx.names.items()),
        prefix=own.prefix if mlx.prefix is None else mlx.prefix,
        transposed=frozenset(),
        runs={role: turns for role, turns in own.runs.items() if role not in mlx.names},
    )


def _stored(each: Stored, decoder: Decoder, mlx: Mlx, naming: Naming) -> Stored:
    ref, shape = _ref(each), each.shape
    if ref.role in CONVOLUTIONS and ref.part == "weight":
        shape = (shape[0], *shape[:0:-1])  # the channel comes last
    pieces = by_turns(each.pieces, decoder, naming.runs)
    arrange = mlx.arranged.get(ref.role)
    return replace(
        each, shape=shape, pieces=tuple(replace(piece, arrange=arrange) for piece in pieces), is_turned=False
    )


def _tensor(each: Stored, decoder: Decoder, how: Packed | None, dtype: Float, asked: Asked | None) -> Tensor:
    mlx = model_of(decoder)
    how, is_wide, is_left = _how(each, decoder, mlx, how)
    codec = how.codec(dtype) if how else Plain(dtype)
    pieces = each.pieces
    if asked and isinstance(codec, Affine | SmallFloat):
        pieces = tuple(replace(piece, codec=asked.codec(piece.ref, codec)) for piece in pieces)
    slot = Slot(each.name, pieces, codec, ())
    if how is None:
        entry = Entry(each.name, dtype, each.shape, *slot.sizes_bytes)
        return Tensor(each.name, (entry,), slot, is_left=is_left)
    stem = each.name.removesuffix(".weight")
    groups = each.shape[-1] // how.group_size
    kinds = [("weight", "U32", each.shape[-1] * how.bits // 32)]
    if how.mode == "affine":
        kinds += [("scales", dtype, groups), ("biases", dtype, groups)]
    else:
        kinds += [("scales", "U8", groups)]
    entries = tuple(
        Entry(f"{stem}.{part}", kind, (*each.shape[:-1], width), size)
        for (part, kind, width), size in zip(kinds, slot.sizes_bytes, strict=True)
    )
    return Tensor(each.name, entries, slot, is_wide=is_wide, how=how)


def _how(each: Stored, decoder: Decoder, mlx: Mlx, how: Packed | None) -> tuple[Packed | None, bool, bool]:
    """Say how it is quantized, if it is; if by what mlx-lm asks for; if not although it is a matrix."""
    ref, columns = _ref(each), each.shape[-1]
    # A module multiplies by it, or looks rows up in it.
    is_matrix = (
        ref.part == "weight"
        and len(each.shape) > 1
        and ref.role not in CONVOLUTIONS | mlx.bare
        and decoder.norm_of(ref) is None
    )
    if how is None or not is_matrix:
        return None, False, False
    is_wide = columns % how.group_size == 0 and ref.role in mlx.wide
    how = Packed("affine", WIDE_BITS, WIDE_GROUP, how.is_searched) if is_wide else how
    return (None, False, True) if columns % how.group_size else (how, is_wide, False)


def _ref(each: Stored) -> Ref:
    return each.pieces[0].ref
